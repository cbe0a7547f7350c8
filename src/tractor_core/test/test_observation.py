"""An observation, or the named reason why there is none."""

import contextlib
import dataclasses
import math

import numpy as np
import pytest

from tractor_core import contract as contract_module
from tractor_core import robot as robot_module
from tractor_core.bev.parameters import BuilderParameters
from tractor_core.errors import SensorError
from tractor_core.kinematics import Velocity
from tractor_core.motion import OdometrySample
from tractor_core.observation import Arrival, Observer, Proprioception
from tractor_core.paths import default_params_file
from tractor_core.sensors import DepthImage, Intrinsics, Scan

CONTRACT = contract_module.load(default_params_file())
ROBOT = robot_module.load(default_params_file())
GRID = np.zeros(CONTRACT.bev_shape, np.float32)
PERIOD_S = 1.0 / 30.0


def at(time_s, frame_id="laser", **changes):
    stamp_ns = round(time_s * 1e9)
    return dataclasses.replace(Arrival(frame_id, stamp_ns, stamp_ns, time_s), **changes)


def scan(heading_rad=0.0, range_m=1.5):
    """All is far but one beam."""
    ranges = np.full(360, 10.0, np.float32)
    ranges[round(math.degrees(heading_rad)) + 180] = range_m
    return Scan(ranges, -math.pi, math.radians(1.0), 0.05, 12.0)


def depth(value_mm=1000):
    pixels = np.full((100, 848), value_mm, np.uint16)
    return DepthImage(pixels, Intrinsics(425.0, 425.0, 424.0, 50.0))


def odometry(time_s, yaw_rad=0.0, angular_rad_s=0.0):
    return OdometrySample(round(time_s * 1e9), 0.0, 0.0, yaw_rad, 0.0, angular_rad_s)


@pytest.fixture
def observer():
    return Observer(CONTRACT, ROBOT, BuilderParameters(kernel="opencv"), max_input_age_s=0.3)


def see(observer, time_s=1.0):
    observer.take_odometry(odometry(time_s), at(time_s, "odom"))
    observer.take_scan(scan(), at(time_s))
    return observer.observe(depth(), at(time_s, "camera"))


def test_an_image_that_repeats_itself_is_as_old_as_when_it_was_new(observer):
    for time_s in (1.0, 1.1, 1.2):
        observer.take_odometry(odometry(time_s), at(time_s, "odom"))
        observer.take_scan(scan(range_m=time_s), at(time_s))
        observer.observe(depth(), at(time_s, "camera"))
    observer.take_scan(scan(range_m=1.35), at(1.35))
    with pytest.raises(SensorError, match=r"depth 0\.35 s old.*the same to the bit"):
        observer.observe(depth(), at(1.35, "camera"))


def test_the_last_action_is_the_one_that_was_executed():
    ours = Proprioception(CONTRACT, ROBOT)
    assert ours.observe(GRID, 7).proprio[1:3].tolist() == [0.0, 0.0]
    ours.executed(Velocity(0.0, -0.5 * ROBOT.max_angular_speed))
    assert ours.observe(GRID, 7).proprio[1:3].tolist() == [0.5, -0.5]
    for stop in (ours.stop, lambda: ours.executed(Velocity(math.nan, 0.1))):
        stop()
        assert ours.observe(GRID, 7).proprio[1:3].tolist() == [0.0, 0.0]
        ours.executed(Velocity(0.1, 0.0))


def test_features_are_those_of_the_newest_scan_and_odometry():
    ours = Proprioception(CONTRACT, ROBOT)
    ours.take_scan(scan(range_m=0.5))
    ours.take_twist(0.1, 0.2)
    assert ours.observe(GRID, 7).proprio == pytest.approx(
        [0.5, 0.0, 0.0, 0.1, 0.2, 1.0], abs=0.02
    )  # the widest gap runs all around the one beam, to the back
    ours.set_extrinsics(dataclasses.replace(ROBOT, lidar_pose=(0.2, 0.0, 0.2, 0.0, 0.0, 0.0)))
    ours.take_scan(scan(range_m=0.5))
    assert ours.observe(GRID, 7).proprio[0] == pytest.approx(0.7, abs=0.02)


def test_a_scan_is_carried_to_the_time_of_the_depth_frame(observer):
    observer.take_odometry(odometry(1.0), at(1.0, "odom"))
    observer.take_scan(scan(), at(1.0))
    before = np.argwhere(observer.observe(depth(), at(1.0, "camera")).bev[0])
    turned = math.radians(10.0)
    later_s = 1.0 + PERIOD_S
    observer.take_odometry(odometry(later_s, turned, turned / PERIOD_S), at(later_s, "odom"))
    after = np.argwhere(observer.observe(depth(), at(later_s, "camera")).bev[0])
    # What lay ahead lies to the right after a turn to the left.
    expected = 64 - 1.5 * np.array([math.cos(turned), -math.sin(turned)]) / CONTRACT.resolution_m
    assert before.tolist() == [[16, 64]] or before.tolist() == [[15, 64]]
    assert np.abs(after - expected).max() <= 1.0 and (after != before).any()


def test_what_is_seen_has_the_stamp_of_the_newer_frame(observer):
    seen = see(observer)
    assert seen.stamp_ns == 10**9 and seen.bev[1].any() and seen.proprio.dtype == np.float32


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda o: o.observe(depth(), at(1.5, "camera")), "scan older than 0.30 s"),
        (lambda o: o.observe(depth(0), at(1.0, "camera")), "valid pixels, found 0.0%"),
        (lambda o: o.observe(depth(), at(1.0, "")), "expected a frame_id"),
        (lambda o: o.observe(depth(), at(1.0, "camera", clock_ns=2 * 10**9)), "at most 0.3 s old"),
        (lambda o: o.observe(depth(), at(0.9, "camera")), "stamps that increase"),
    ],
)
def test_why_there_is_no_observation_is_named(observer, spoil, reason):
    see(observer)
    with pytest.raises(SensorError, match=reason):
        spoil(observer)
    for time_s in (2.0, 2.1):
        with contextlib.suppress(SensorError):
            see(observer, time_s)
    assert see(observer, 2.2).stamp_ns == 22 * 10**8


def test_what_is_missing_is_named(observer):
    with pytest.raises(SensorError, match="scan never received"):
        observer.observe(depth(), at(1.0, "camera"))
    observer.reject("scan", SensorError("scan: expected metres", "feet"))
    with pytest.raises(SensorError, match=r"scan never received \(last rejected: .*metres\)"):
        observer.observe(depth(), at(1.03, "camera"))
    observer.take_scan(scan(), at(1.0))
    with pytest.raises(SensorError, match="odom never received"):
        observer.observe(depth(), at(1.06, "camera"))


def test_a_twist_without_a_pose_is_enough_to_observe(observer):
    observer.take_twist(0.1, 0.2, at(1.0, "odom"))
    observer.take_scan(scan(), at(1.0))
    assert observer.observe(depth(), at(1.0, "camera")).proprio[3:5] == pytest.approx([0.1, 0.2])
