import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor_core import contract as contract_module
from tractor_core import robot as robot_module
from tractor_core.kinematics import Velocity, action_to_velocity, velocity_to_action
from tractor_core.paths import default_params_file
from tractor_core.proprio import gap_heading, lidar_min, raw_vector
from tractor_core.sensors import Scan

CONTRACT = contract_module.load(default_params_file())
ROBOT = robot_module.load(default_params_file())
STEP = math.radians(1.0)


def circle(blocked=(), range_m=0.5, free=math.inf, n=360):
    """A full circle of one-degree beams from -180 degrees; `blocked` degrees are near."""
    ranges = np.full(n, free, np.float32)
    for degree in blocked:
        ranges[(degree + 180) % 360] = range_m
    return Scan(ranges, -math.pi, STEP, 0.05, 12.0)


def test_nearest_return_counts_and_is_capped():
    assert lidar_min(circle([90], 0.7), ROBOT) == pytest.approx(0.7, abs=1e-3)
    assert lidar_min(circle(), ROBOT) == 4.0
    assert lidar_min(circle(range(-180, 180), 9.0), ROBOT) == 4.0


def test_the_rovers_own_body_does_not_count():
    assert lidar_min(circle([0], 0.15), ROBOT) == 4.0


@pytest.mark.parametrize("invalid", [0.0, math.nan, 0.01, -1.0, 12.5])
def test_invalid_ranges_are_no_obstacles_at_zero_distance(invalid):
    assert lidar_min(circle([10], invalid, free=3.0), ROBOT) == pytest.approx(3.0, abs=1e-3)


# REP-117: -Inf is nearer than range_min, +Inf beyond range_max, NaN no measurement.


@pytest.mark.parametrize("range_min_m", [0.15, 0.2, 0.3, 0.9])
@pytest.mark.parametrize("heading", [0, 90, -179])
def test_too_close_to_be_measured_is_at_most_range_min_away(range_min_m, heading):
    scan = dataclasses.replace(circle([heading], -math.inf), range_min_m=range_min_m)
    assert lidar_min(scan, ROBOT) == pytest.approx(range_min_m, abs=1e-6)


def test_too_close_counts_within_what_is_the_rover_itself():
    # Whether it is the rover nobody knows: the sensor measured no range.
    scan = circle([10], -math.inf, free=3.0)
    assert scan.range_min_m < ROBOT.lidar_min_range_m
    assert lidar_min(scan, ROBOT) == pytest.approx(scan.range_min_m, abs=1e-3)


def test_nothing_within_an_endless_range_max_is_no_obstacle_and_free():
    scan = dataclasses.replace(circle([10], 0.5), range_max_m=math.inf)
    assert not (scan.measured & scan.endless).any()
    assert lidar_min(scan, ROBOT) == pytest.approx(0.5, abs=1e-3)
    assert gap_heading(scan, ROBOT) == gap_heading(circle([10], 0.5), ROBOT) != 0.0


@pytest.mark.parametrize("range_min_m", [0.05, 0.3])
@pytest.mark.parametrize("free", [math.inf, 5.0])
def test_what_is_too_close_is_never_a_gap(range_min_m, free):
    # Wide and straight ahead, but too close; the way to the left is narrow and free.
    scan = circle(range(-60, 61), -math.inf, free=0.5)
    scan.ranges_m[[180 + degree for degree in range(80, 101)]] = free
    scan = dataclasses.replace(scan, range_min_m=range_min_m)
    assert gap_heading(scan, ROBOT) == pytest.approx(0.5, abs=0.01)
    scan.ranges_m[:] = -math.inf
    assert gap_heading(scan, ROBOT) == 0.0


@pytest.mark.parametrize("invalid", [0.0, math.nan, 0.01, -1.0, 12.5])
def test_what_says_nothing_is_never_a_gap(invalid):
    free = set(range(80, 101))
    scan = circle(set(range(-180, 180)) - free)
    scan.ranges_m[[180 + degree for degree in range(-60, 61)]] = invalid
    assert gap_heading(scan, ROBOT) == pytest.approx(0.5, abs=0.01)


def test_gap_on_the_left_is_positive():
    assert gap_heading(circle(set(range(-180, 180)) - set(range(80, 101))), ROBOT) == pytest.approx(
        0.5, abs=0.01
    )
    assert gap_heading(circle(set(range(-180, 180)) - set(range(-100, -79))), ROBOT) < -0.49


def test_gap_across_the_seam_is_behind():
    free = {*range(150, 180), *range(-180, -150)}
    assert abs(gap_heading(circle(set(range(-180, 180)) - free), ROBOT)) > 0.97


def test_widest_gap_wins_and_ties_go_ahead():
    free = {*range(-30, -20), *range(100, 160)}
    heading = gap_heading(circle(set(range(-180, 180)) - free), ROBOT)
    assert heading == pytest.approx(129.5 / 180, abs=0.01)
    free = {*range(20, 31), *range(-160, -149)}
    heading = gap_heading(circle(set(range(-180, 180)) - free), ROBOT)
    assert heading == pytest.approx(25 / 180, abs=0.01)


def test_all_free_is_straight_ahead():
    assert gap_heading(circle(), ROBOT) == 0.0


def test_unknown_beams_are_not_free():
    assert gap_heading(circle(range(-180, 0), math.nan), ROBOT) == pytest.approx(0.5, abs=0.01)


def test_lidar_mounted_turned_gives_the_same_heading_in_base_link():
    turned = dataclasses.replace(ROBOT, lidar_pose=(0, 0, 0.19, 0, 0, math.pi / 2))
    scan = circle(set(range(-180, 180)) - set(range(-10, 11)))
    assert gap_heading(scan, turned) == pytest.approx(0.5, abs=0.01)


@given(
    st.lists(st.floats(width=32), min_size=1, max_size=60),
    st.floats(-7, 7),
    st.floats(-0.5, 0.5).filter(lambda s: abs(s) > 1e-3),
)
def test_any_scan_gives_values_in_range(ranges, start, step):
    scan = Scan(np.array(ranges, np.float32), start, step, 0.05, 12.0)
    assert 0.0 <= lidar_min(scan, ROBOT) <= 4.0
    assert -1.0 <= gap_heading(scan, ROBOT) <= 1.0


def test_vector_order_is_that_of_the_contract():
    raw = raw_vector(1.0, np.array([0.2, 0.3]), 0.4, 0.5, 0.6)
    np.testing.assert_allclose(raw, [1.0, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert CONTRACT.proprio_names == (
        "lidar_min", "prev_lin", "prev_ang", "cur_lin", "cur_ang", "gap_heading",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("space", "action", "expected"),
    [
        ("tracks", (1, 1), (0.18, 0.0)),
        ("tracks", (-1, 1), (0.0, 1.0)),
        ("tracks", (1, 0), (0.09, -0.5)),
        ("twist", (1, 0), (0.18, 0.0)),
        ("twist", (0, -1), (0.0, -1.0)),
    ],
)
def test_action_becomes_velocity(space, action, expected):
    contract = dataclasses.replace(CONTRACT, action_space=space)
    assert action_to_velocity(np.array(action, float), contract, ROBOT) == pytest.approx(expected)


@pytest.mark.parametrize("space", ["tracks", "twist"])
@given(first=st.floats(-1.0, 1.0, width=32), second=st.floats(-1.0, 1.0, width=32))
def test_a_velocity_gives_its_action_back(space, first, second):
    contract = dataclasses.replace(CONTRACT, action_space=space)
    action = np.array([first, second], np.float32)
    found = velocity_to_action(action_to_velocity(action, contract, ROBOT), contract, ROBOT)
    assert found.dtype == np.float32
    # What the actor sees again is its own action, unless one track all but stands beside the other.
    exact = np.abs(action) > 1e-7
    assert np.array_equal(found[exact], action[exact])
    assert found == pytest.approx(action, abs=1e-15)


@pytest.mark.parametrize("space", ["tracks", "twist"])
@given(linear=st.floats(-10.0, 10.0), angular=st.floats(-10.0, 10.0))
def test_any_velocity_gives_an_action_in_range(space, linear, angular):
    contract = dataclasses.replace(CONTRACT, action_space=space)
    action = velocity_to_action(Velocity(linear, angular), contract, ROBOT)
    assert np.abs(action).max() <= 1.0
