"""A LaserScan that contradicts its definition, physics or itself is refused by name."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor_core import robot as robot_module
from tractor_core.errors import SensorError
from tractor_core.messages import scan_from_message
from tractor_core.paths import default_params_file

ROBOT = robot_module.load(default_params_file())
PI = math.pi


def message(beams=360, angle_min=-PI, angle_max=PI, increment=PI / 180, **changes):
    fields = dict(
        ranges=np.full(beams, 3.0, np.float32), angle_min=angle_min, angle_max=angle_max,
        angle_increment=increment, time_increment=0.0, range_min=0.05, range_max=12.0,
    )  # fmt: skip
    return SimpleNamespace(**(fields | changes))


# (beams, angle_min, angle_max, angle_increment) as published: what a driver says and what it sends
# differ by up to two beams.
REAL = {
    "velodyne_laserscan": (897, -PI, PI, 0.007),
    "velodyne_laserscan, resolution 0.05": (125, -PI, PI, 0.05),
    "ydlidar_ros2_driver, SteveMacenski/slam_toolbox#63": (720, -PI, PI, 0.00872664619237),
    "rplidar_ros, first versions": (360, 3.14159274101, -3.12413907051, -0.0174532923847),
    "rplidar_ros, 1080 nodes": (1080, math.radians(-179), PI, math.radians(359) / 1079),
    "ldlidar_stl_ros2": (456, 0.0, 2 * PI, 2 * PI / 455),
    "ros2_ouster_drivers#138": (1024, -PI, PI, 2 * PI / 1024),
    "hls_lfcd_lds_driver": (360, 0.0, 2 * PI - PI / 180, PI / 180),
    "ld08_driver": (230, 0.002, 6.28, math.radians(3600.0 / 2300)),
    "pointcloud_to_laserscan": (361, -PI, PI, PI / 180),
    "urg_node": (1081, -2.356194, 2.356194, 0.004363323),
    "lidar_ccny": (681, -2.086214, 2.086214, 0.00613592),
    "Ozmehak/challenge_handin": (931, 0.0, 6.2590, 0.006730109453201294),
    "depthimage_to_laserscan": (848, -0.74, 0.74, 1.48 / 847),
    "one beam": (1, 0.0, 0.0, 0.01),
}


@pytest.mark.parametrize("driver", REAL)
def test_what_real_drivers_send_is_taken(driver):
    angles = (np.float32(a).item() for a in REAL[driver][1:])
    assert scan_from_message(message(REAL[driver][0], *angles)).measured.all()


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        # Degrees: all three, the increment alone, all but the increment.
        (dict(angle_min=-180.0, angle_max=180.0, increment=1.0), ("radians", "57.3 turns")),
        (dict(increment=1.0), ("radians", "57.3 turns")),
        (dict(angle_min=-180.0, angle_max=180.0), ("ranges: expected as many", "found 360")),
        (dict(beams=400), ("at most one turn", "1.1 turns")),
        (dict(increment=-PI / 180), ("sign of angle_max - angle_min", "found -0.0174533")),
        (dict(angle_min=PI, angle_max=-PI), ("sign of angle_max - angle_min",)),
        (dict(beams=180), ("ranges: expected as many", "found 180 in place of 361")),
        (dict(beams=350), ("ranges: expected as many", "found 350 in place of 361")),
        (dict(angle_max=0.0), ("ranges: expected as many", "found 360 in place of 181")),
        (dict(angle_max=math.nan), ("angle_max: expected a finite number",)),
    ],
)  # fmt: skip
def test_angles_that_contradict_each_other_are_refused(changes, texts):
    with pytest.raises(SensorError) as caught:
        scan_from_message(message(**changes))
    assert all(text in str(caught.value) for text in (*texts, "expected", "found"))


@given(
    st.integers(40, 4000),
    st.floats(0.01, 2 * PI),
    st.floats(-7.0, 7.0),
    st.booleans(),
    st.integers(-1, 1),
)
def test_any_scan_within_a_turn_is_taken_and_the_same_in_degrees_is_not(
    beams, swept, first, reversed_, surplus
):
    step = (-swept if reversed_ else swept) / (beams - 1)
    angles = (first, first + step * (beams - 1), step)
    scan_from_message(message(beams + surplus, *angles))
    if swept > 0.2:
        with pytest.raises(SensorError, match="radians"):
            scan_from_message(message(beams, *(math.degrees(angle) for angle in angles)))


@pytest.mark.parametrize("range_max", [12.0, 12_000.0, math.inf])
def test_ranges_in_millimetres_are_refused(range_max):
    ranges = np.random.default_rng(0).uniform(80.0, 6000.0, 360).astype(np.float32)
    with pytest.raises(SensorError, match="in metres"):
        scan_from_message(message(ranges=ranges, range_max=range_max))


@pytest.mark.parametrize("range_max", [3.5, 12.0, 25.0])
def test_ranges_in_centimetres_are_refused(range_max):
    # A room of 3 m with the wall at 10 cm in 60 beams: enough are within the limits.
    ranges = np.random.default_rng(0).uniform(60.0, 300.0, 360).astype(np.float32)
    ranges[:60] = np.linspace(3.0, 10.0, 60)
    with pytest.raises(SensorError, match=r"in metres.*by 100 if they are centimetres"):
        scan_from_message(message(ranges=ranges, range_max=range_max))


def test_the_unit_of_ranges_is_named():
    with pytest.raises(SensorError, match=r"in metres.*found 3000 in the median.*millimetres"):
        scan_from_message(message(ranges=np.full(360, 3000.0), range_min=50.0, range_max=12_000.0))


@pytest.mark.parametrize("value", [450.0, 3000.0])
@pytest.mark.parametrize("beams", [5, 30, 120, 360])
def test_one_flat_obstacle_in_millimetres_is_no_code(value, beams):
    ranges = np.full(360, np.inf, np.float32)
    ranges[:beams] = value
    with pytest.raises(SensorError, match="in metres"):
        scan_from_message(message(ranges=ranges))


@pytest.mark.parametrize(("range_max", "farthest"), [(20.0, 50.0), (25.0, 45.0), (8.0, 25.0)])
def test_drivers_whose_range_max_is_no_limit_are_taken(range_max, farthest):
    # LMS1xx, sick_scan, rplidar_ros: the message is not clipped at what it says.
    ranges = np.random.default_rng(0).uniform(range_max + 1.5, farthest, 541).astype(np.float32)
    ranges[200:280] = 0.8
    scan = scan_from_message(
        message(541, -2.35619, 2.35619, math.radians(0.5), ranges=ranges, range_max=range_max)
    )
    assert np.count_nonzero(scan.measured) == 80


# What drivers send for "nothing came back" beyond range_max.
@pytest.mark.parametrize("code", [12.0, 13.0, 65.535, 1000.0, 3.4e38])
def test_codes_beyond_range_max_are_no_other_unit(code):
    ranges = np.full(360, code, np.float32)
    ranges[::5] = np.linspace(0.5, 3.0, 72)
    assert scan_from_message(message(ranges=ranges)).measured[::5].all()


def test_a_scan_without_a_farthest_range_is_taken():
    # The default of pointcloud_to_laserscan.
    ranges = np.full(360, np.inf, np.float32)
    ranges[:90] = 2.0
    scan = scan_from_message(message(ranges=ranges, range_max=math.inf))
    assert np.count_nonzero(scan.measured) == 90 and np.count_nonzero(scan.endless) == 270
    with pytest.raises(SensorError, match="range_max: expected a finite number, found nan"):
        scan_from_message(message(range_max=math.nan))


def test_a_few_far_returns_in_the_open_are_no_other_unit():
    ranges = np.full(360, np.inf, np.float32)
    ranges[:40], ranges[40:60] = 30.0, 150.0
    scan_from_message(message(ranges=ranges, range_max=200.0))


# Too little known field is a stop: a covered sensor, however its driver says it.


def covered(share, value, free=3.0):
    ranges = np.full(360, free, np.float32)
    ranges[: round(360 * share)] = value
    return ranges


@pytest.mark.parametrize("value", [math.nan, 0.0, -math.inf, -1.0, 0.01, 12.5, 0.1])
@pytest.mark.parametrize("share", [1.0, 0.95])
def test_a_covered_lidar_is_named(value, share):
    # 0.1 m is within range_min..range_max, and on the rover itself.
    with pytest.raises(SensorError, match=r"expected at least 10% .* found .* covered"):
        scan_from_message(message(ranges=covered(share, value)), ROBOT)


def test_a_lidar_covered_by_what_lies_on_the_rover_is_named():
    large = dataclasses.replace(ROBOT, half_length_m=0.4, half_width_m=0.3)
    ranges = np.full(360, 0.25, np.float32)
    assert scan_from_message(message(ranges=ranges), ROBOT).measured.all()
    with pytest.raises(SensorError, match=r"360 on the rover itself.*covered"):
        scan_from_message(message(ranges=ranges), large)


@pytest.mark.parametrize("value", [math.nan, 0.0, -math.inf, 0.1])
def test_a_lidar_that_sees_a_fifth_is_used(value):
    # Real scans lack up to a third: lidar_ccny has 5.7 % zeros, ydlidar's slots stay empty.
    scan_from_message(message(ranges=covered(0.8, value)), ROBOT)
    in_the_open = covered(0.8, value, free=math.inf)
    in_the_open[-10:] = 3.0
    scan_from_message(message(ranges=in_the_open), ROBOT)


def test_a_scan_that_meets_nothing_at_all_may_be_a_covered_sensor():
    nothing = message(ranges=np.full(360, math.inf, np.float32))
    with pytest.raises(SensorError, match=r"to meet something.*robot\.lidar_least_measured to 0"):
        scan_from_message(nothing, ROBOT)
    farmer = dataclasses.replace(ROBOT, lidar_least_measured=0.0)
    assert scan_from_message(nothing, farmer).endless.all()


# What drivers send where nothing is within reach, by the name in robot.lidar_no_return.
@pytest.mark.parametrize(
    ("code", "value", "said"),
    [("nan", math.nan, "NaN"), ("zero", 0.0, "0"), ("beyond", 65.535, "more than range_max")],
)
def test_another_convention_is_named_and_can_be_told(code, value, said):
    # A public recording has 57 % NaN.
    ranges = np.full(360, value, np.float32)
    ranges[::20] = 3.0
    with pytest.raises(SensorError) as refused:
        scan_from_message(message(ranges=ranges), ROBOT)
    assert f"95% of its beams are {said}: if its driver sends that" in str(refused.value)
    assert f"set robot.lidar_no_return to {code}" in str(refused.value)
    # A cover is in one piece.
    with pytest.raises(SensorError) as refused:
        scan_from_message(message(ranges=covered(0.95, value)), ROBOT)
    assert "lidar_no_return" not in str(refused.value)
    told = dataclasses.replace(ROBOT, lidar_no_return=code)
    scan = scan_from_message(message(ranges=ranges), told)
    assert scan.endless.sum() == 342 and scan.known(told).all()
    # The other codes still say nothing, and what is near is near.
    for other in {math.nan, 0.0, 65.535} - {value}:
        some = ranges.copy()
        some[-1] = other
        if not (math.isnan(value) and math.isnan(other)):
            assert not scan_from_message(message(ranges=some), told).known(told)[-1]


def test_a_driver_in_millimetres_is_no_code_beyond_range_max():
    farmer = dataclasses.replace(ROBOT, lidar_no_return="beyond", lidar_least_measured=0.0)
    ranges = np.random.default_rng(0).uniform(400.0, 6000.0, 360).astype(np.float32)
    with pytest.raises(SensorError, match="in metres"):
        scan_from_message(message(ranges=ranges), farmer)
