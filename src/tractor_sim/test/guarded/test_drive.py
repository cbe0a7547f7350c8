"""What a contact is put down to, and that a drive is what its task says."""

import pytest

from tractor_sim.guarded.drive import DEAD_TICKS, TICK_S, Judge, Task, drive
from tractor_sim.guarded.sight import ASIDE, LOW, MOVED
from tractor_sim.rollout import FIRST_UNSEEN_SEED
from tractor_sim.senses import Setup
from tractor_sim.simulation import Simulation
from tractor_sim.world import Solid, World

FULL_M_S = 0.18


@pytest.fixture(scope="module")
def setup(params_file):
    return Setup.load(params_file)


def box(x_m, top_m):
    return Solid("box", x_m, 0.0, 0.0, 0.1, 0.5, 0.0, top_m)


def contacts(setup, simulation, linear_m_s, seconds=6.0):
    judge = Judge(simulation, setup)
    for tick in range(round(seconds / TICK_S)):
        judge.note(tick % 3 == 0, tick % 3 == 0, True)
        simulation.step(linear_m_s, 0.0, TICK_S)
        judge.look()
    return judge.contacts


def in_room(setup, *solids, with_walker=False):
    world = World(3, 40.0, 40.0, (), solids, 0.0, 0.0, 0.0)
    return Simulation(3, setup.robot, world, with_walker)


@pytest.mark.parametrize(
    ("solid", "linear_m_s", "why"),
    [
        (box(0.8, 0.5), FULL_M_S, None),
        (box(-0.8, 0.5), -FULL_M_S, None),
        (box(-0.8, 0.1), -FULL_M_S, f"{LOW}: {ASIDE}"),
    ],
)
def test_driving_into_something_is_one_contact_with_its_reason(setup, solid, linear_m_s, why):
    (contact,) = contacts(setup, in_room(setup, solid), linear_m_s)
    assert contact.unseen == why
    assert contact.x_m == pytest.approx(solid.x_m - (0.1 if linear_m_s > 0 else -0.1), abs=0.02)
    assert contact.time_s == pytest.approx(0.5 / FULL_M_S + 0.15, abs=0.2)


def test_somebody_counts_by_where_he_was_when_the_rover_could_still_stop(setup):
    """At full speed that is 0.3 s before, and the scan before that: 0.07 m."""
    for room_m, why in ((0.02, MOVED), (0.2, None)):
        simulation = in_room(setup, with_walker=True)
        judge, walker = Judge(simulation, setup), simulation.walker
        walker.step = lambda *_: None
        for tick in range(120):
            judge.note(tick % 3 == 0, tick % 3 == 0, True)
            if tick == 60:  # he is there from one tick to the next
                walker._put([simulation.pose.x_m + 0.2 + 0.15 + room_m, 0.0])
            simulation.step(FULL_M_S, 0.0, TICK_S)
            judge.look()
        (contact,) = judge.contacts
        assert contact.unseen == why, room_m


def test_who_steps_back_as_he_is_hit_was_seen_where_he_stood(setup):
    simulation = in_room(setup, with_walker=True)
    judge, walker = Judge(simulation, setup), simulation.walker
    walker.step = lambda *_: None
    x_m = simulation.pose.x_m + 1.0
    walker._put([x_m, 0.0])
    for tick in range(180):
        judge.note(tick % 3 == 0, tick % 3 == 0, True)
        if x_m - simulation.pose.x_m < 0.2 + 0.15 + 0.005:
            walker._put([x_m + 0.03, 0.0])
        simulation.step(FULL_M_S, 0.0, TICK_S)
        judge.look()
    assert [contact.unseen for contact in judge.contacts] == [None]


def test_one_who_stands_is_not_run_into_by_a_command_that_came_in_time(setup):
    """A contact right after the start counts from the start: what was commanded is executed."""
    simulation = in_room(setup, box(0.32, 0.5))
    (contact,) = contacts(setup, simulation, FULL_M_S, 1.0)
    assert contact.unseen is None and contact.time_s > DEAD_TICKS * TICK_S


@pytest.mark.slow
def test_the_guard_is_what_keeps_the_random_actor_from_what_is_seen(params_file):
    seeds = range(FIRST_UNSEEN_SEED, FIRST_UNSEEN_SEED + 3)
    guarded, alone = (
        [drive(Task(seed, 12.0, str(params_file), "none", None, on)) for seed in seeds]
        for on in (True, False)
    )
    assert not any(contact.unseen is None for found in guarded for contact in found.contacts)
    assert any(contact.unseen is None for found in alone for contact in found.contacts)
    assert sum(found.stops for found in guarded) > 0 == sum(found.stops for found in alone)
    # It goes on where nothing is in the way.
    assert sum(d.distance_m for d in guarded) > 0.7 * sum(d.distance_m for d in alone)
