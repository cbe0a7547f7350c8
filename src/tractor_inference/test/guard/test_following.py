"""A base that does not do what it is told is named, and stopped when that lasts."""

import numpy as np
import pytest

from tractor_core import contract as contracts
from tractor_core import robot as robots
from tractor_core.kinematics import STOP, Velocity
from tractor_core.paths import default_params_file
from tractor_inference.guard.following import Following
from tractor_inference.guard.guard import Guard, GuardParameters

ROBOT = robots.load(default_params_file())
CONTRACT = contracts.load(default_params_file())
AHEAD, TURN = Velocity(0.15, 0.0), Velocity(0.0, 0.8)


def fault_of(told, moved, seconds=3.0):
    following = Following(ROBOT)
    following.told(told)
    for now_s in np.arange(0.0, seconds, 0.05):
        following.moved(moved, now_s)
    return following.fault(seconds)


@pytest.mark.parametrize(
    ("told", "moved", "fault"),
    [
        (AHEAD, AHEAD, None),
        (AHEAD, Velocity(0.11, 0.02), None),
        (STOP, STOP, None),
        (STOP, Velocity(0.01, 0.05), None),
        (AHEAD, STOP, "stuck: told 0.15 m/s and 0.00 rad/s, odometry says 0.00 m/s and 0.00 rad/s"),
        (TURN, Velocity(0.0, 0.1), "stuck: "),
        (TURN, Velocity(0.0, 0.3), "slipping: "),
        (STOP, AHEAD, "runaway: "),
        (Velocity(0.01, 0.0), STOP, None),
    ],
)
def test_what_the_base_does_is_compared_with_what_it_was_told(told, moved, fault):
    found = fault_of(told, moved)
    assert found is None if fault is None else found.startswith(fault)


def test_single_zeros_do_not_hide_that_it_is_stuck():
    following = Following(ROBOT)
    for tick in range(100):
        following.told(STOP if tick % 10 == 0 else AHEAD)
        following.moved(STOP, tick / 20)
    assert following.fault(5.0).startswith("stuck")


def test_an_odometry_that_fell_silent_says_nothing():
    following = Following(ROBOT)
    following.told(AHEAD)
    for now_s in np.arange(0.0, 3.0, 0.05):
        following.moved(STOP, now_s)
    assert following.fault(3.0).startswith("stuck") and following.stuck_s(3.0) > 1.5
    assert following.fault(6.0) is None and following.stuck_s(6.0) == 0.0


def test_a_base_that_starts_and_stops_follows():
    following, moved = Following(ROBOT), np.zeros(2)
    faults = set()
    for tick in range(600):
        told = (STOP, AHEAD, TURN)[tick // 25 % 3]
        following.told(told)
        moved += 0.2 * (np.array(told) - moved)
        following.moved(Velocity(*moved), tick / 20)
        faults.add(following.fault(tick / 20))
    assert faults == {None}


@pytest.mark.parametrize("limit_s", [3.0, 0.0])
def test_one_that_is_stuck_for_long_is_stopped_until_it_is_released(limit_s):
    own = GuardParameters(obstacle_stop=False, stuck_stop_s=limit_s)
    guard = Guard(own, ROBOT, CONTRACT, lambda now_s: None)

    def drive(start_s, seconds):
        for now_s in np.arange(start_s, start_s + seconds, 0.05):
            guard.take_actor(AHEAD, now_s)
            guard.following.moved(STOP, now_s)
            passed = guard.decide(now_s)
        return passed

    assert drive(0.0, 2.5) == AHEAD and guard.fault.startswith("stuck")
    assert drive(2.5, 3.0) == (STOP if limit_s else AHEAD)
    if limit_s:
        assert guard.reason.startswith("stopped by the guard, stuck: told 0.15 m/s")
        assert drive(5.5, 9.0) == STOP and guard.driver == "stuck"
        guard.release()
        assert drive(14.5, 1.0) == AHEAD and guard.driver == "policy"
