"""The grid against a slow float64 oracle, and its axes pinned by single cells."""

import dataclasses
import math

import numpy as np
import pytest
from bev_oracle import assert_matches_oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor_inference import contract as contract_module
from tractor_inference import robot as robot_module
from tractor_inference.bev import BevBuilder, BevParameters, DepthImage, Intrinsics, Scan
from tractor_inference.paths import default_params_file

CONTRACT = contract_module.load(default_params_file())
ROBOT = dataclasses.replace(
    robot_module.load(default_params_file()), lidar_pose=(0.0, 0, 0.19, 0, 0, 0)
)
LIMITS = BevParameters()
D435I = Intrinsics(425.0, 425.0, 424.0, 50.0)
NO_DEPTH = DepthImage(np.zeros((100, 848), np.uint16), D435I)
NO_SCAN = Scan(np.full(4, np.inf, np.float32), 0.0, 1.0, 0.05, 12.0)


def scan_at(angle_rad, range_m):
    return Scan(np.array([range_m], np.float32), angle_rad, 0.01, 0.05, 12.0)


def cells(channel):
    return [tuple(cell) for cell in np.argwhere(channel > 0)]


def build(scan=NO_SCAN, depth=NO_DEPTH, robot=ROBOT, limits=LIMITS):
    return BevBuilder(CONTRACT, robot, limits).build(scan, depth).copy()


def test_one_metre_ahead_is_row_32():
    assert cells(build(scan_at(0.0, 1.0))[0]) == [(32, 64)]


def test_one_metre_left_is_column_32():
    row, col = cells(build(scan_at(math.pi / 2, 1.0))[0])[0]
    assert col == 32 and row in (63, 64)


def test_one_metre_behind_is_row_96():
    row, col = cells(build(scan_at(math.pi, 1.0))[0])[0]
    assert row in (95, 96) and col in (63, 64)


@pytest.mark.parametrize("range_m", [2.001, 11.0, 13.0, 0.01, math.inf, math.nan, 0.0, -math.inf])
def test_outside_or_invalid_marks_nothing(range_m):
    assert not build(scan_at(0.0, range_m)).any()


def test_footprint_is_cleared():
    assert not build(scan_at(0.0, 0.15)).any()
    assert build(scan_at(0.0, 0.25)).any()


def test_lidar_mounted_backwards_and_forward_shifted():
    robot = dataclasses.replace(ROBOT, lidar_pose=(0.5, 0.0, 0.19, 0.0, 0.0, math.pi))
    row, col = cells(build(scan_at(math.pi, 0.5), robot=robot)[0])[0]
    assert (row, col) in ((32, 64), (32, 63))


def plane_ahead(distance_m, camera):
    """Depth of a vertical wall at x = distance_m in base_link, for a level camera."""
    depth = np.full((100, 848), round((distance_m - camera.x) * 1000), np.uint16)
    return DepthImage(depth, D435I)


def test_depth_wall_ahead_is_one_row():
    robot = dataclasses.replace(ROBOT, camera_pose=(0.1, 0, 0.15, 0, 0, 0))
    grid = build(depth=plane_ahead(1.51, robot.camera), robot=robot)
    assert {row for row, _ in cells(grid[1])} == {15}
    assert not grid[0].any()


@pytest.mark.parametrize("pitch", [0.0, 0.06, 0.3, 0.8])
def test_pitched_down_over_a_flat_floor_marks_nothing(pitch):
    robot = dataclasses.replace(ROBOT, camera_pose=(0.18, 0.0, 0.15, 0.0, pitch, 0.0))
    down = (np.arange(100) - 50.0) / 425.0
    # A ray with slope `down` in a camera pitched by `pitch` loses this height per metre of depth.
    loss = math.sin(pitch) + down * math.cos(pitch)
    depth = np.where(loss > 0.01, 0.15 / np.maximum(loss, 0.01), 0.0)
    image = np.repeat(np.where(depth < 10, depth * 1000, 0).astype(np.uint16)[:, None], 848, 1)
    assert not build(depth=DepthImage(image, D435I), robot=robot).any()


def test_one_speckle_makes_no_wall():
    image = np.zeros((100, 848), np.uint16)
    image[40, 400] = 1500
    assert not build(depth=DepthImage(image, D435I)).any()
    assert build(
        depth=DepthImage(image, D435I), limits=dataclasses.replace(LIMITS, min_points=1)
    ).any()


angle = st.floats(-0.5, 0.5)
poses = st.tuples(
    st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), st.floats(0.05, 0.5), angle, angle,
    st.floats(-math.pi, math.pi),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 40), st.integers(1, 60)),
    beams=st.integers(1, 700),
    sweep=st.floats(-2 * math.pi, 2 * math.pi).filter(lambda s: abs(s) > 0.01),
    start=st.floats(-math.pi, 2 * math.pi),
    lidar_pose=poses,
    camera_pose=poses,
    metres=st.booleans(),
)
def test_any_sensor_and_mounting_matches_the_oracle(
    seed, size, beams, sweep, start, lidar_pose, camera_pose, metres
):
    rng = np.random.default_rng(seed)
    robot = dataclasses.replace(ROBOT, lidar_pose=lidar_pose, camera_pose=camera_pose)
    ranges = rng.uniform(0.0, 4.0, beams).astype(np.float32)
    holes = rng.random(beams) < 0.2
    ranges[holes] = rng.choice([0.0, np.nan, np.inf, -np.inf, 50.0], holes.sum())
    scan = Scan(ranges, start, sweep / beams, 0.05, 12.0)
    millimetres = rng.integers(0, 5000, size)
    millimetres[rng.random(size) < 0.2] = 0
    pixels = millimetres.astype(np.uint16)
    if metres:
        pixels = (millimetres * 0.001).astype(np.float32)
        pixels[rng.random(size) < 0.1] = rng.choice([np.nan, np.inf, -np.inf])
    fx = rng.uniform(0.5, 2.0) * size[1]
    depth = DepthImage(pixels, Intrinsics(fx, fx, size[1] / 2, size[0] / 2))
    grid = BevBuilder(CONTRACT, robot, LIMITS).build(scan, depth)
    assert_matches_oracle(grid, scan, depth, robot, LIMITS, CONTRACT)


def test_changed_size_and_intrinsics_are_followed_in_the_same_frame():
    builder = BevBuilder(CONTRACT, ROBOT, LIMITS)
    for shape, focal in (((100, 848), 425.0), ((48, 64), 50.0), ((48, 64), 70.0)):
        k = Intrinsics(focal, focal, shape[1] / 2, shape[0] / 2)
        depth = DepthImage(np.full(shape, 1400, np.uint16), k)
        grid = builder.build(NO_SCAN, depth)
        assert_matches_oracle(grid, NO_SCAN, depth, ROBOT, LIMITS, CONTRACT)
