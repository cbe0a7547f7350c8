"""Ticks become steps and chunks; where an episode ends, and why, is what happened."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor_core import experience
from tractor_core.experience import DRIVERS
from tractor_inference.recording.episodes import CHUNK_STEPS, Episodes, Tick

PERIOD_NS = 33_333_333
SESSION = "20261130T154012Z-0badcafe"


def tick(at, driver="policy", model="a" * 64, explores=False, **fields):
    """Return the tick of a moment; what was executed before it is in its proprio."""
    rng = np.random.default_rng(at)
    proprio = np.array([2.0, *rng.uniform(-1, 1, 2), 0.1, 0.0, 0.0], np.float32)
    answer = rng.uniform(-0.9, 0.9, 2).astype(np.float32)
    grid = np.packbits(rng.random((2, 128, 128)) < 0.05)
    pose, requested = (0.1 * at, 0.0, 0.0), answer + np.float32(0.05 * explores)
    made = Tick(at * PERIOD_NS + 1, proprio, grid, pose, answer, requested, model, driver)
    return Tick(**(vars(made) | fields))


def record(ticks, contract, end=None):
    episodes = Episodes(SESSION, contract.digest)
    chunks = [chunk for one in ticks for chunk in episodes.take(one)]
    return chunks + (episodes.end(end) if end else [])


def ends(chunks):
    return [(len(chunk), chunk.end, chunk.episode) for chunk in chunks]


def drivers(chunk):
    return [DRIVERS[number] for number in chunk.rows["driver"][:-1]]


def test_a_drive_becomes_chunks_that_follow_on_each_other(contract):
    chunks = record([tick(at) for at in range(71)], contract, "session end")
    assert ends(chunks) == [(CHUNK_STEPS, "", 0), (CHUNK_STEPS, "", 0), (10, "session end", 0)]
    assert [chunk.first for chunk in chunks] == [0, 30, 60]
    for before, after in itertools.pairwise(chunks):
        assert (before.rows[-1]["proprio"] == after.rows[0]["proprio"]).all()
        assert (before.grids[-1] == after.grids[0]).all()
    for chunk in chunks:
        again = experience.parse(experience.encode(chunk), contract)
        assert (again.rows == chunk.rows).all()
    assert (chunks[0].executed[4] == tick(5).proprio[1:3]).all()
    assert (chunks[0].rows["answer"][4] == tick(4).answer).all()


@pytest.mark.parametrize("why", ["stop", "stuck"])
def test_what_stops_the_rover_ends_an_episode_and_standing_is_no_step(contract, why):
    ticks = [*map(tick, range(5)), *(tick(at, why) for at in range(5, 20)), tick(20), tick(21)]
    chunks = record(ticks, contract, "session end")
    assert ends(chunks) == [(5, why, 0), (2, "session end", 1)]
    assert drivers(chunks[0]) == ["policy"] * 4 + ["stop"]
    assert chunks[0].terminated == (why == "stuck")
    # The first step begins where the rover stood last.
    assert chunks[1].rows["stamp_ns"][0] == tick(19).stamp_ns and chunks[1].first == 5


@pytest.mark.parametrize("ticks", [31, 61])
@pytest.mark.parametrize("then", ["stop", "teleop", "policy"])
def test_what_happens_where_a_chunk_is_full_is_told_too(contract, ticks, then):
    more = [tick(at, then) for at in range(ticks, ticks + 2)]
    chunks = record([*map(tick, range(ticks)), *more], contract, "session end")
    full = CHUNK_STEPS
    before = [(full, "", 0)] * ((ticks - 1) // full - (then == "teleop"))
    after = {
        "stop": [(1, "stop", 0)],
        "teleop": [(full, "operator", 0), (2, "session end", 1)],
        "policy": [(2, "session end", 0)],
    }
    assert ends(chunks) == before + after[then]


def test_an_operator_begins_an_episode_of_his_own(contract):
    ticks = [tick(0), tick(1), tick(2), tick(3, "teleop"), tick(4, "teleop"), tick(5)]
    chunks = record(ticks, contract, "session end")
    assert ends(chunks) == [(2, "operator", 0), (2, "operator", 1), (1, "session end", 2)]
    assert [drivers(chunk)[0] for chunk in chunks] == ["policy", "teleop", "policy"]


def test_a_missing_tick_a_gap_and_a_clock_set_back_end_an_episode(contract):
    late, broken, early = tick(60), tick(62, broken=True), tick(1)
    chunks = record([tick(0), tick(1), late, tick(61), broken, tick(63), early, tick(2)], contract)
    assert ends(chunks) == [(1, "gap", 0), (1, "gap", 1), (1, "gap", 2)]
    assert chunks[2].rows["stamp_ns"][0] == broken.stamp_ns


def test_a_chunk_has_one_model(contract):
    ticks = [tick(0), tick(1), *(tick(at, model="b" * 64) for at in range(2, 5))]
    chunks = record(ticks, contract, "session end")
    assert ends(chunks) == [(2, "model", 0), (2, "session end", 1)]
    assert [chunk.model[0] for chunk in chunks] == ["a", "b"]


def test_who_explores_is_told_from_who_answers(contract):
    (chunk,) = record([tick(0), tick(1, explores=True), tick(2), tick(3)], contract, "session end")
    assert drivers(chunk) == ["policy", "exploring", "policy"]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["policy", "policy", "policy", "teleop", "stop", "stuck"]),
            st.integers(1, 40),
            st.sampled_from("aaab"),
            st.integers(0, 20),
        ),
        max_size=80,
    )
)
def test_whatever_happens_each_step_is_there_once_and_can_be_read(contract, story):
    ticks, at = [], 0
    for driver, apart, model, chance in story:
        at += apart
        ticks.append(tick(at, driver, model * 64, broken=chance == 0))
    chunks = record(ticks, contract, "session end")
    steps = [stamp for chunk in chunks for stamp in chunk.rows["stamp_ns"][:-1]]
    assert len(set(steps)) == len(steps)
    for chunk in chunks:
        experience.parse(experience.encode(chunk), contract)
        assert 1 <= len(chunk) <= CHUNK_STEPS
    assert [chunk.first for chunk in chunks] == list(np.cumsum([0, *map(len, chunks)])[:-1])
    episodes = [chunk.episode for chunk in chunks]
    assert all(after - before == bool(chunk.end)
               for before, after, chunk in zip(episodes, episodes[1:], chunks))  # fmt: skip
    # A step is between two ticks that follow on each other, of which the second says who drove.
    known = {
        a.stamp_ns
        for a, b in itertools.pairwise(ticks)
        if not b.broken and b.stamp_ns - a.stamp_ns <= 1e9 and b.driver in ("policy", "teleop")
    }
    assert known <= set(steps)
