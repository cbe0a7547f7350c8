"""Whose command counts, when, and what is left of it."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor_core import contract as contracts
from tractor_core import robot as robots
from tractor_core.kinematics import STOP, Velocity
from tractor_core.paths import default_params_file
from tractor_core.sensors import Scan
from tractor_inference.guard.guard import ACTOR, OPERATOR, Guard, GuardParameters

ROBOT = robots.load(default_params_file())
CONTRACT = contracts.load(default_params_file())
AHEAD, BACK, TURN = Velocity(0.1, 0.0), Velocity(-0.1, 0.0), Velocity(0.0, 0.5)


def scan_of(range_m=5.0, beams=360, **changes):
    """A scan that goes round; `changes` maps a bearing in degrees to a range."""
    ranges = np.full(beams, range_m, np.float32)
    for degrees, value in changes.items():
        ranges[int(degrees.removeprefix("at_")) % beams] = value
    return Scan(ranges, 0.0, 2.0 * math.pi / beams, 0.05, 12.0)


def make(problem=lambda now_s: None, **changes):
    own = dataclasses.replace(GuardParameters(), **changes)
    guard = Guard(own, ROBOT, CONTRACT, problem)
    guard.surroundings.take_scan(scan_of(), 0.0)
    return guard


@pytest.fixture
def guard():
    return make()


def test_stops_before_the_first_command(guard):
    assert guard.decide(0.0) == STOP and guard.reason == "no command of the actor yet"


def test_passes_fresh_and_stops_when_old(guard):
    guard.take_actor(Velocity(0.1, -0.5), 0.0)
    assert guard.decide(0.0) == (0.1, -0.5)
    assert guard.decide(0.29) != STOP and guard.reason is None
    assert guard.decide(0.41) == STOP
    assert guard.reason == "command of the actor 0.41 s old, limit 0.30"


@given(st.floats(), st.floats(), st.booleans())
def test_never_passes_more_than_the_limits_nor_what_is_not_finite(linear, angular, operated):
    guard = make()
    (guard.take_operator if operated else guard.take_actor)(Velocity(linear, angular), 0.0)
    passed = guard.decide(0.0)
    assert abs(passed.linear) <= ROBOT.max_linear_speed
    assert abs(passed.angular) <= ROBOT.max_angular_speed
    if not (math.isfinite(linear) and math.isfinite(angular)):
        assert passed == STOP and "not finite" in guard.reason


def test_the_operator_wins_and_the_actor_does_not_take_over_when_he_lets_go(guard):
    guard.take_actor(AHEAD, 0.0)
    guard.take_operator(BACK, 0.0)
    guard.take_actor(AHEAD, 0.1)
    assert guard.source == OPERATOR and guard.decide(0.1) == BACK
    guard.take_actor(AHEAD, 1.0)
    assert guard.decide(1.0) == STOP
    assert guard.reason.endswith("1.00 s old, limit 0.50; call ~/release to let the actor drive")
    guard.take_operator(TURN, 1.1)
    assert guard.decide(1.1) == TURN
    assert guard.release() == "the operator had the rover"
    guard.take_actor(AHEAD, 1.2)
    assert guard.source == ACTOR and guard.decide(1.2) == AHEAD


def test_releasing_a_stop_does_not_take_the_rover_from_the_operator(guard):
    guard.take_operator(BACK, 0.0)
    guard.stop("a message on stop")
    guard.take_actor(AHEAD, 0.1)
    guard.take_operator(BACK, 0.1)
    assert guard.release().startswith("stopped by a message on stop")
    assert guard.decide(0.1) == BACK
    assert guard.release() == "the operator had the rover" and guard.decide(0.1) == AHEAD


def test_the_operator_may_drive_where_the_scan_says_nothing():
    guard = make()
    guard.surroundings.take_scan(scan_of(**{f"at_{d}": math.nan for d in range(150, 210)}), 0.0)
    guard.take_actor(BACK, 0.0)
    assert guard.decide(0.0) == STOP and guard.reason.startswith("unknown")
    guard.take_operator(BACK, 0.0)
    assert guard.decide(0.0) == BACK


def test_a_stop_stands_above_both_until_it_is_released(guard):
    guard.stop("a message on stop")
    for take in (guard.take_actor, guard.take_operator):
        take(AHEAD, 0.0)
        assert guard.decide(0.0) == STOP
        assert guard.reason == "stopped by a message on stop, until ~/release is called"
    guard.release()
    guard.take_actor(AHEAD, 0.1)
    assert guard.decide(0.1) == AHEAD
    guard.release()
    assert guard.release() == "nothing"


@pytest.mark.parametrize("who", ["actor", "operator"])
def test_without_a_scan_nobody_drives_unless_a_parameter_says_so(who):
    name = {"actor": "obstacle_stop", "operator": "teleop_obstacle_stop"}[who]
    for stops in (True, False):
        guard = make(lambda now_s: "scan 0.42 s old, limit 0.30", **{name: stops})
        getattr(guard, f"take_{who}")(AHEAD, 0.0)
        assert guard.decide(0.0) == (STOP if stops else AHEAD)
        assert guard.reason == ("scan 0.42 s old, limit 0.30" if stops else None)


def test_what_is_ahead_stops_the_way_ahead_and_only_that():
    guard = make()
    wall = {f"at_{degrees}": 0.25 for degrees in range(-20, 21)}
    guard.surroundings.take_scan(scan_of(**wall), 0.0)
    guard.take_actor(AHEAD, 0.0)
    assert guard.decide(0.0) == STOP and guard.reason == "obstacle in the way of this command"
    guard.take_actor(BACK, 0.0)
    assert guard.decide(0.0) == BACK and guard.reason is None
    assert guard.slowed == 1


def test_who_drives_or_why_it_stands_is_one_word():
    guard = make(stuck_stop_s=1.0)
    assert guard.driver == "stop"
    guard.take_actor(AHEAD, 0.0)
    guard.decide(0.0)
    assert guard.driver == "policy"
    guard.take_operator(BACK, 0.1)
    guard.decide(0.1)
    assert guard.driver == "teleop"
    guard.stop("somebody")
    guard.decide(0.2)
    assert guard.driver == "stop"
