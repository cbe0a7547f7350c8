"""What is drawn is what happened: compared with a loop over the steps, whatever the episodes."""

import dataclasses

import numpy as np
import pytest
from experience_file import make
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor_core import contract as contracts
from tractor_core.contract import normalize
from tractor_core.experience import ENDS, unpack_grids
from tractor_core.paths import default_params_file
from tractor_training.replay import Replay, coarse
from tractor_training.reward import TERMS, Rewards

CONTRACT = contracts.load(default_params_file())
GAMMA, DECISIONS, TICK_NS = 0.9, 3, 33_333_333


def encode(grids):
    return np.stack([grids[:, 0].mean(axis=(1, 2)), grids[:, 1].mean(axis=(1, 2))], axis=1)


def replay_of(capacity=1000):
    return Replay(capacity, CONTRACT, encode, 2, DECISIONS)


def rewards_of(values, contact):
    zeros = {name: np.zeros(len(values), np.float32) for name in TERMS}
    return Rewards(zeros | {"progress": np.asarray(values, np.float32)}, np.asarray(contact))


def story(lengths, ends, contacts, seed):
    """Return chunks that follow on each other, and their rewards."""
    rng = np.random.default_rng(seed)
    parts, first, episode, start_ns = [], 0, 0, 10**18
    before = None
    for length, end, contact in zip(lengths, ends, contacts):
        chunk = make(CONTRACT, length, rng.integers(2**31), episode=episode, first=first, end=end)
        chunk.rows["stamp_ns"] = start_ns + TICK_NS * (first + np.arange(length + 1))
        if before is not None and not before.end:
            chunk.rows[0], chunk.grids[0] = before.rows[-1], before.grids[-1]
            before.rows[-1]["driver"] = 0
        values = rng.normal(size=length)
        touched = np.zeros(length, bool)
        if contact:
            touched[rng.integers(length)] = True
        parts.append((chunk, rewards_of(values, touched)))
        first, episode, before = first + length, episode + bool(end), chunk
    return parts


def steps_of(parts):
    """Return each run as a list of its steps: (row, the next one, reward, outcome)."""
    runs, last = [], None
    for chunk, rewards in parts:
        if last is None or last.end:
            runs.append([])
        for i in range(len(chunk)):
            outcome = bool(rewards.contact[i]) or (chunk.terminated and i == len(chunk) - 1)
            runs[-1].append((chunk.rows[i], chunk.rows[i + 1], rewards.total[i], outcome))
        last = chunk
    return runs


def expected(run, at):
    """Return reward, discount, action and proprio at the end of the transition from a step on."""
    reward, actions, begin_ns = 0.0, [], run[at][0]["stamp_ns"]
    for row, after, value, outcome in run[at:]:
        passed_s = (row["stamp_ns"] - begin_ns) * 1e-9
        if passed_s >= 0.1 * DECISIONS - 5e-4:
            break
        reward += GAMMA ** (passed_s / 0.1) * value
        if passed_s < 0.1 - 5e-4:
            actions.append(after["proprio"][1:3])
        then, gone = after, outcome
        if outcome:
            break
    passed_s = (then["stamp_ns"] - begin_ns) * 1e-9
    discount = 0.0 if gone else GAMMA ** (passed_s / 0.1)
    return reward, discount, np.mean(actions, axis=0), normalize(CONTRACT, then["proprio"])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_transitions_are_those_of_a_loop_over_the_steps(data):
    n = data.draw(st.integers(1, 6))
    lengths = data.draw(st.lists(st.integers(1, 30), min_size=n, max_size=n))
    ends = data.draw(st.lists(st.sampled_from(["", *ENDS]), min_size=n, max_size=n))
    contacts = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    parts = story(lengths, ends, contacts, data.draw(st.integers(0, 10**6)))
    replay = replay_of()
    for chunk, rewards in parts:
        replay.add(chunk, rewards)
    at = 0
    for run in steps_of(parts):
        drawn = replay.transitions(np.arange(at, at + len(run)), GAMMA)
        for i in range(len(run)):
            reward, discount, action, then = expected(run, i)
            assert drawn.reward[i] == pytest.approx(reward, abs=1e-5)
            assert drawn.discount[i] == pytest.approx(discount, abs=1e-5)
            assert np.allclose(drawn.action[i], action, atol=1e-5)
            assert np.allclose(drawn.next_proprio[i], then)
            assert np.allclose(drawn.proprio[i], normalize(CONTRACT, run[i][0]["proprio"]))
        at += len(run) + 1
    assert replay.steps == sum(lengths) and len(replay) == at


def test_every_step_is_drawn_and_no_last_observation():
    replay = replay_of()
    for chunk, rewards in story([5, 5, 3], ["", "stop", "gap"], [False] * 3, 0):
        replay.add(chunk, rewards)
    rng = np.random.default_rng(0)
    begins = replay._begins(5000, rng)
    # Ten steps of one episode, its last observation, three of the other.
    assert set(begins.tolist()) == {*range(10), *range(11, 14)}


def test_the_oldest_make_room_and_what_is_left_is_whole():
    replay = replay_of(capacity=50)
    parts = story([20] * 8, ["", "gap"] * 4, [False] * 8, 3)
    for chunk, rewards in parts:
        replay.add(chunk, rewards)
    assert len(replay) == 50 and replay.steps == 160
    run = steps_of(parts)[-1]
    begins = replay._begins(500, np.random.default_rng(0))
    newest = replay.transitions(begins[begins >= 164 - 41], GAMMA)
    known = [expected(run, at)[0] for at in range(len(run))]
    assert all(np.abs(np.subtract(known, value)).min() < 1e-5 for value in newest.reward)


def test_grids_are_seen_coarsely_channels_together():
    grids = np.zeros((2, *CONTRACT.bev_shape), np.uint8)
    grids[0, 0, 5, 9] = grids[1, 1, 127, 0] = 1
    bits = np.unpackbits(coarse(grids), axis=1).reshape(2, 32, 32)
    assert bits.sum() == 2 and bits[0, 1, 2] == bits[1, 31, 0] == 1
    other = dataclasses.replace(CONTRACT, grid_cells=100)
    assert coarse(np.ones((1, *other.bev_shape), np.uint8)).shape == (1, 128)


def test_features_are_those_of_the_encoder_to_a_step_of_int8():
    replay = replay_of()
    ((chunk, rewards),) = story([10], ["stop"], [False], 1)
    replay.add(chunk, rewards)
    drawn = replay.transitions(np.arange(10), GAMMA)
    exact = encode(unpack_grids(chunk.grids, CONTRACT))[:10]
    assert np.abs(drawn.features - exact).max() <= 0.5 / 255 + 1e-6


def test_it_takes_half_a_kilobyte_a_step():
    replay = Replay(1000, CONTRACT, encode, 256)
    assert replay.nbytes / 1000 < 512


def test_nothing_can_be_drawn_from_nothing():
    with pytest.raises(ValueError, match="no step"):
        replay_of().sample(3, GAMMA, np.random.default_rng(0))
