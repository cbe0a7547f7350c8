"""Headless rovers leave experience that a trainer takes, and end where they touch something."""

import dataclasses

import numpy as np
import pytest

from tractor_core import experience
from tractor_sim.senses import Senses, Setup
from tractor_sim.simulation import Simulation
from tractor_training import headless
from tractor_training.headless import Trip


@pytest.fixture(scope="module")
def trip(repository, params_file):
    model = repository / "models" / "sac_actor_reference.onnx"
    return Trip(3_900_000, 6.0, str(params_file), str(model), 0.0)


def test_what_is_driven_can_be_read_and_says_what_was_executed(trip, contract):
    chunks = headless.drive(trip)
    assert sum(map(len, chunks)) == 59 and chunks[-1].end == "session end"
    for chunk in chunks:
        again = experience.parse(experience.encode(chunk), contract)
        assert np.allclose(np.diff(again.rows["stamp_ns"]) * 1e-9, 0.1, atol=1e-3)
        assert np.allclose(chunk.executed, chunk.rows["requested"][:-1], atol=1e-6)
        assert (chunk.rows["requested"] == chunk.rows["answer"]).all()
    assert np.hypot(*chunks[-1].rows["pose"][-1, :2]) > 0.3


def test_who_explores_says_so_and_does_something_else(trip):
    explored = headless.drive(dataclasses.replace(trip, scale=0.5))
    rows = np.concatenate([chunk.rows[:-1] for chunk in explored])
    assert (rows["driver"] == experience.DRIVERS.index("exploring")).mean() > 0.3
    assert np.abs(rows["requested"] - rows["answer"]).max() > 0.1


def test_a_contact_ends_it_with_what_was_seen_then(trip, monkeypatch):
    class Blind:
        digest = ""

    monkeypatch.setattr(headless, "open_backend", lambda *_: Blind())
    monkeypatch.setattr(headless.Policy, "answer", lambda *_: np.ones(2, np.float32))
    chunks = headless.drive(dataclasses.replace(trip, seconds=60.0))
    assert chunks[-1].end == "contact" and chunks[-1].terminated
    assert (chunks[-1].executed[-1] == 1.0).all()


def test_a_coarse_camera_sees_the_same_rooms(params_file):
    setup = Setup.load(params_file)
    both = []
    for every in (1, headless.DEPTH_EVERY):
        simulation = Simulation(3_900_001, setup.robot, depth_every=every)
        senses = Senses(simulation, setup)
        senses.tick()
        both.append(senses.observe().bev.copy())
    fine, rough = (bev[1].astype(bool) for bev in both)
    assert (both[0][0] == both[1][0]).all()
    assert fine.sum() > 20
    # Of noise and steps: most of what one marks the other marks within a cell.
    near = np.zeros_like(fine)
    for x in (-1, 0, 1):
        for y in (-1, 0, 1):
            near |= np.roll(fine, (x, y), (0, 1))
    assert (rough & near).sum() >= 0.9 * rough.sum() and rough.sum() > 0.4 * fine.sum()
