import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor_core import robot as robot_module
from tractor_core.kinematics import STOP, Velocity
from tractor_core.paths import default_params_file
from tractor_inference.guard.guard import Guard, GuardParameters

ROBOT = robot_module.load(default_params_file())


@pytest.fixture
def guard():
    return Guard(GuardParameters(), ROBOT)


def test_stops_before_the_first_command(guard):
    assert guard.must_stop(0.0) and guard.reason == "no command received yet"


def test_passes_fresh_and_stops_when_old(guard):
    assert guard.command(Velocity(0.1, -0.5), 1.0) == (0.1, -0.5)
    assert not guard.must_stop(1.29) and guard.reason is None
    assert guard.must_stop(1.41) and guard.reason == "command 0.41 s old, limit 0.30"


@given(st.floats(), st.floats())
def test_never_passes_more_than_the_limits_nor_what_is_not_finite(linear, angular):
    guard = Guard(GuardParameters(), ROBOT)
    passed = guard.command(Velocity(linear, angular), 0.0)
    assert abs(passed.linear) <= ROBOT.max_linear_speed
    assert abs(passed.angular) <= ROBOT.max_angular_speed
    if not (math.isfinite(linear) and math.isfinite(angular)):
        assert passed == STOP and guard.must_stop(0.0) and "not finite" in guard.reason
