"""A scan that goes round has no end: the widest gap is found wherever its first beam points."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor_core import robot as robot_module
from tractor_core.paths import default_params_file
from tractor_core.proprio import gap_heading
from tractor_core.sensors import Scan

ROBOT = robot_module.load(default_params_file())
NEAR_M, FAR_M = 0.8, 5.0


def room(beams, increment, first, gaps):
    """A round wall with gaps of these (heading, width), all degrees but increment and first."""
    heading = np.degrees(first + increment * np.arange(beams))
    ranges = np.full(beams, NEAR_M, np.float32)
    for middle, width in gaps:
        ranges[np.abs((heading - middle + 180.0) % 360.0 - 180.0) <= width / 2.0] = FAR_M
    return Scan(ranges, first, increment, 0.05, 40.0)


def off(scan, expected_deg):
    """Degrees between the gap that is found and the one that is expected, round the circle."""
    found_deg = math.degrees(gap_heading(scan, ROBOT) * math.pi)
    return abs((found_deg - expected_deg + 180.0) % 360.0 - 180.0)


# (beams, angle_increment, angle_min), rad, as these drivers publish them.
DRIVERS = {
    "hls_lfcd_lds_driver (LDS-01)": (360, 2 * math.pi / 360, 0.0),
    "rplidar_ros, first versions": (360, -0.0174532923847, 3.14159274101),
    "rplidar_ros, angle_compensate, 4 beams a degree": (
        1440, math.radians(359.0) / 1439, math.pi - math.radians(359.0),
    ),
    "rplidar_ros, angle_compensate, 8 beams a degree": (
        2880, math.radians(359.0) / 2879, math.pi - math.radians(359.0),
    ),
    "ydlidar_ros2_driver (X4)": (721, 0.00872664619237, -math.pi),
    "ldlidar_stl_ros2 (LD19)": (456, 2 * math.pi / 455, 0.0),
    "ldlidar_stl_ros2 (LD19), the next turn": (451, 2 * math.pi / 450, 0.0),
    "velodyne_laserscan": (897, 0.007000000216066837, -math.pi),
    "Ozmehak/challenge_handin": (931, 0.006730109453201294, 0.0),
    "pointcloud_to_laserscan": (361, math.pi / 180, -math.pi),
    "gazebo_ros_ray_sensor, SteveMacenski/slam_toolbox#278": (667, 2 * math.pi / 666, 0.0),
}  # fmt: skip


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("middle", [0, 180, 90, -60])
def test_the_gap_across_the_seam_of_a_real_driver_is_whole(driver, middle):
    beams, increment, first = DRIVERS[driver]
    scan = room(beams, increment, first, [(middle, 60), (middle + 90, 40)])
    assert scan.closes
    assert off(scan, middle) < math.degrees(abs(increment)) + 1.0


# Angles that leave something out: Hokuyo UTM-30LX, TiM571, URG-04LX, and an RPLIDAR of which the
# driver cut the ends off because nothing came back.
SECTORS = {
    "urg_node (UTM-30LX)": (1081, 0.004363323, -2.356194),
    "sick_tim (TiM571)": (811, 0.005817764, -2.356194),
    "lidar_ccny (URG-04LX)": (681, 0.00613592, -2.086214),
    "rplidar_ros, trimmed to 345 degrees": (690, math.radians(0.5), -math.radians(172.5)),
    "16 sonars of which two are missing": (14, math.radians(22.5), -math.pi),
}


@pytest.mark.parametrize("sensor", SECTORS)
def test_what_a_sector_leaves_out_is_no_gap(sensor):
    beams, increment, first = SECTORS[sensor]
    scan = room(beams, increment, first, [(180, 170), (20, 70)])
    assert not scan.closes
    # Behind, each half of the gap is a gap of its own; the whole one ahead is wider than either.
    narrow = dataclasses.replace(scan, ranges_m=scan.ranges_m.copy())
    narrow.ranges_m[np.abs(scan.angles_rad) > math.pi - 0.9] = NEAR_M
    assert off(narrow, 20) < math.degrees(increment) + 1.0


rings = st.fixed_dictionaries(
    {
        "beams": st.integers(120, 2000),
        "first": st.floats(-7.0, 7.0),
        "reversed_": st.booleans(),
        # Positive: beams beyond the full turn; negative: what is missing of it.
        "surplus": st.one_of(st.integers(0, 3), st.floats(-2.6, 3.0)),
        "middle": st.floats(-180.0, 180.0),
        "roll": st.sampled_from([0.0, math.pi]),
    }
)


@given(rings, st.integers(0, 2**32 - 1))
def test_start_direction_and_length_of_a_turn_do_not_move_the_gap(ring, seed):
    rng = np.random.default_rng(seed)
    whole = math.floor(ring["surplus"])
    beams = ring["beams"] + whole
    step = 2 * math.pi / (ring["beams"] - (ring["surplus"] - whole))
    increment = -step if ring["reversed_"] else step
    middle = ring["middle"]
    scan = room(beams, increment, ring["first"], [(middle, 70), (middle + 100, 40)])
    # Beams that say nothing leave the walls what they are.
    scan.ranges_m[(scan.ranges_m < 1.0) & (rng.random(beams) < 0.1)] = np.nan
    robot = dataclasses.replace(ROBOT, lidar_pose=(0, 0, 0.19, ring["roll"], 0, 0))
    found_deg = math.degrees(gap_heading(scan, robot) * math.pi)
    expected_deg = -middle if ring["roll"] else middle
    missing = max(0.0, -ring["surplus"])
    # An edge of the gap lies within a beam, or within what is missing of the turn.
    error = abs((found_deg - expected_deg + 180.0) % 360.0 - 180.0)
    assert error <= math.degrees(step) * (1.0 + missing) + 1e-3


@pytest.mark.parametrize("says_nothing", [math.nan, 0.0])
@pytest.mark.parametrize("silent", [0, -1])
def test_a_repeated_beam_that_says_nothing_does_not_split_the_gap(says_nothing, silent):
    # ldlidar_stl_ros2 leaves one of the two beams at its seam NaN, ydlidar_ros2_driver zero.
    scan = room(456, 2 * math.pi / 455, 0.0, [(0, 60), (90, 40)])
    scan.ranges_m[silent] = says_nothing
    assert off(scan, 0) < 1.0


@pytest.mark.parametrize("near", [0, -1])
def test_of_a_repeated_beam_the_nearer_one_counts(near):
    scan = room(456, 2 * math.pi / 455, 0.0, [(0, 60), (90, 40)])
    scan.ranges_m[near] = NEAR_M
    assert off(scan, 90) < 1.0


def test_of_two_equal_gaps_the_order_of_the_beams_decides_nothing():
    found = set()
    for first in np.radians([-180.0, -90.0, 0.0, 77.0]):
        for increment in (math.pi / 180, -math.pi / 180):
            scan = room(360, increment, first, [(60, 41), (-60, 41)])
            found.add(round(180 * gap_heading(scan, ROBOT)))
    assert found == {-60}
