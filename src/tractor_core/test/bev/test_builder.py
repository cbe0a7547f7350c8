"""The grid against a slow float64 oracle, and its axes pinned by single cells."""

import array
import dataclasses
import math
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from bev_oracle import assert_matches_oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor_core import contract as contract_module
from tractor_core import robot as robot_module
from tractor_core.bev.builder import BevBuilder
from tractor_core.bev.parameters import KERNELS, BevParameters
from tractor_core.errors import ParameterError
from tractor_core.messages import depth_from_message
from tractor_core.motion import Motion, ScanMotion
from tractor_core.paths import default_params_file
from tractor_core.sensors import DepthImage, Intrinsics, Scan

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


@pytest.fixture(params=KERNELS)
def kernel(request):
    """What is tested holds for either kernel."""
    return request.param


@pytest.fixture
def build(kernel):
    def draw(scan=NO_SCAN, depth=NO_DEPTH, robot=ROBOT, limits=LIMITS, **more):
        return BevBuilder(CONTRACT, robot, limits, kernel).build(scan, depth, **more).copy()

    return draw


def test_one_metre_ahead_is_row_32(build):
    assert cells(build(scan_at(0.0, 1.0))[0]) == [(32, 64)]


def test_one_metre_left_is_column_32(build):
    row, col = cells(build(scan_at(math.pi / 2, 1.0))[0])[0]
    assert col == 32 and row in (63, 64)


def test_one_metre_behind_is_row_96(build):
    row, col = cells(build(scan_at(math.pi, 1.0))[0])[0]
    assert row in (95, 96) and col in (63, 64)


@pytest.mark.parametrize("range_m", [2.001, 11.0, 13.0, 0.01, -1.0, math.inf, math.nan, 0.0])
def test_outside_or_invalid_marks_nothing(build, range_m):
    assert not build(scan_at(0.0, range_m)).any()


def test_too_close_to_be_measured_is_an_obstacle_at_the_shortest_range(build):
    close = dataclasses.replace(scan_at(0.0, -math.inf), range_min_m=0.5)
    assert cells(build(close)[0]) == [(48, 64)]


@pytest.mark.parametrize("range_min_m", [0.0, 0.05, 0.14])
def test_too_close_is_marked_within_what_is_the_rover_itself(build, range_min_m):
    robot = dataclasses.replace(ROBOT, half_length_m=0.0, half_width_m=0.0)
    scan = dataclasses.replace(scan_at(0.0, -math.inf), range_min_m=range_min_m)
    assert cells(build(scan, robot=robot)[0])
    assert not build(dataclasses.replace(scan, ranges_m=-scan.ranges_m), robot=robot).any()


@pytest.mark.parametrize("range_m", [math.inf, math.nan])
def test_what_is_no_range_marks_nothing_in_a_scan_without_a_farthest_one(build, range_m):
    scan = dataclasses.replace(scan_at(0.0, range_m), range_max_m=math.inf)
    assert not build(scan).any()
    assert build(dataclasses.replace(scan_at(0.0, 1.5), range_max_m=math.inf)).any()


def test_zero_is_no_return_even_for_a_scan_without_a_shortest_range(build):
    robot = dataclasses.replace(ROBOT, half_length_m=0.0, half_width_m=0.0, lidar_min_range_m=0.0)
    scan = dataclasses.replace(scan_at(0.0, 0.0), range_min_m=0.0)
    assert not build(scan, robot=robot).any()


def test_depth_too_close_to_be_measured_is_an_obstacle_at_the_shortest_depth(build):
    # REP-118 takes REP-117's -Inf over for 32FC1; the ZED's driver sends it.
    picture = np.full((100, 848), np.nan, np.float32)
    picture[50, 420:428] = -np.inf
    grid = build(depth=DepthImage(picture, D435I))
    x_m = ROBOT.camera.x + LIMITS.depth_min_m
    assert {row for row, _ in cells(grid[1])} == {math.floor((2.0 - x_m) / 0.03125)}


def test_depth_too_close_is_at_the_camera_where_there_is_no_shortest_depth(kernel):
    picture = np.full((100, 848), np.nan, np.float32)
    picture[50, 420:428] = -np.inf
    robot = dataclasses.replace(ROBOT, half_length_m=0.0, half_width_m=0.0)
    limits = dataclasses.replace(LIMITS, depth_min_m=0.0)
    grid = BevBuilder(CONTRACT, robot, limits, kernel).build(NO_SCAN, DepthImage(picture, D435I))
    row = math.floor((2.0 - robot.camera.x) / 0.03125)
    found = cells(grid[1])
    # It stands on the border of two columns.
    assert found and set(found) <= {(row, 63), (row, 64)}


def test_footprint_is_cleared(build):
    assert not build(scan_at(0.0, 0.15)).any()
    assert build(scan_at(0.0, 0.25)).any()


def test_lidar_mounted_backwards_and_forward_shifted(build):
    robot = dataclasses.replace(ROBOT, lidar_pose=(0.5, 0.0, 0.19, 0.0, 0.0, math.pi))
    row, col = cells(build(scan_at(math.pi, 0.5), robot=robot)[0])[0]
    assert (row, col) in ((32, 64), (32, 63))


def plane_ahead(distance_m, camera):
    """Depth of a vertical wall at x = distance_m in base_link, for a level camera."""
    depth = np.full((100, 848), round((distance_m - camera.x) * 1000), np.uint16)
    return DepthImage(depth, D435I)


def test_depth_wall_ahead_is_one_row(build):
    robot = dataclasses.replace(ROBOT, camera_pose=(0.1, 0, 0.15, 0, 0, 0))
    grid = build(depth=plane_ahead(1.51, robot.camera), robot=robot)
    assert {row for row, _ in cells(grid[1])} == {15}
    assert not grid[0].any()


@pytest.mark.parametrize("pitch", [0.0, 0.06, 0.3, 0.8])
def test_pitched_down_over_a_flat_floor_marks_nothing(build, pitch):
    robot = dataclasses.replace(ROBOT, camera_pose=(0.18, 0.0, 0.15, 0.0, pitch, 0.0))
    down = (np.arange(100) - 50.0) / 425.0
    # A ray with slope `down` in a camera pitched by `pitch` loses this height per metre of depth.
    loss = math.sin(pitch) + down * math.cos(pitch)
    depth = np.where(loss > 0.01, 0.15 / np.maximum(loss, 0.01), 0.0)
    image = np.repeat(np.where(depth < 10, depth * 1000, 0).astype(np.uint16)[:, None], 848, 1)
    assert not build(depth=DepthImage(image, D435I), robot=robot).any()


def test_one_speckle_makes_no_wall(build):
    image = np.zeros((100, 848), np.uint16)
    image[40, 400] = 1500
    assert not build(depth=DepthImage(image, D435I)).any()
    assert build(
        depth=DepthImage(image, D435I), limits=dataclasses.replace(LIMITS, min_points=1)
    ).any()


def test_the_robot_s_own_body_is_kept_out_by_the_shortest_range(build):
    # A mast beside the footprint, 0.22 m from the LiDAR.
    mast = scan_at(math.pi / 2, 0.22)
    assert build(mast)[0].any()
    assert not build(mast, robot=dataclasses.replace(ROBOT, lidar_min_range_m=0.25)).any()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_hole_is_no_obstacle_even_without_a_lower_limit(build, dtype):
    robot = dataclasses.replace(ROBOT, camera_pose=(0.5, 0.0, 0.15, 0.0, 0.0, 0.0))
    limits = dataclasses.replace(LIMITS, depth_min_m=0.0)
    holes = DepthImage(np.zeros((100, 848), dtype), D435I)
    assert not build(depth=holes, robot=robot, limits=limits).any()


def post(build, *columns_from_left, limits=LIMITS):
    """Columns of cells in row 32 that are occupied by posts at these columns of cells."""
    robot = dataclasses.replace(ROBOT, camera_pose=(0.0, 0.0, 0.15, 0.0, 0.0, 0.0))
    picture = np.zeros((10, 2000), np.uint16)
    for col in columns_from_left:
        y_m = 2.0 - (col + 0.5) * CONTRACT.resolution_m
        picture[:, round(1000 - y_m / 0.99 * 1000)] = 990
    depth = DepthImage(picture, Intrinsics(1000.0, 1000.0, 1000.0, 5.0))
    return [col for row, col in cells(build(depth=depth, robot=robot, limits=limits)[1])]


def test_one_cell_gaps_are_closed_when_asked_for(build):
    closing = dataclasses.replace(LIMITS, close_gaps=True)
    assert post(build, 60, 62, 65) == [60, 62, 65]
    assert post(build, 60, 62, 65, limits=closing) == [60, 61, 62, 65]


def test_a_scan_is_held_and_fades_only_when_asked_for(build):
    wall = scan_at(0.0, 1.0)
    assert build(wall, scan_age_s=0.09)[0].max() == 1.0
    fading = dataclasses.replace(LIMITS, scan_decay_s=0.1)
    assert build(wall, limits=fading, scan_age_s=0.1)[0].max() == pytest.approx(math.exp(-1))
    assert build(wall, limits=fading, scan_age_s=-0.02)[0].max() == 1.0


def test_a_scan_is_moved_by_what_the_rover_did_since(build):
    # The rover drove 0.25 m ahead and turned left by a right angle: what was ahead is now right.
    motion = Motion(*(0.0, 0.25), -math.pi / 2)
    row, col = cells(build(scan_at(0.0, 1.0), motion=ScanMotion(motion, motion))[0])[0]
    assert row in (63, 64) and col == math.floor((2.0 + 0.75) / CONTRACT.resolution_m)


def test_each_beam_is_moved_by_its_own_time(build):
    ranges = np.full(3, 1.0, np.float32)
    scan = Scan(ranges, 0.0, 0.0001, 0.05, 12.0)
    turning = ScanMotion(Motion(0.0, 0.0, -0.2), Motion(0.0, 0.0, 0.0))
    cols = [col for _, col in cells(build(scan, motion=turning)[0])]
    expected = [64 + math.floor(math.sin(a) / CONTRACT.resolution_m) for a in (0.2, 0.1, 0.0)]
    assert sorted(cols) == pytest.approx(sorted(expected), abs=1)


def test_limits_can_change_between_two_frames(kernel):
    builder = BevBuilder(CONTRACT, ROBOT, LIMITS, kernel)
    wall = plane_ahead(1.51, ROBOT.camera)
    assert builder.build(NO_SCAN, wall).any()
    builder.parameters = dataclasses.replace(LIMITS, depth_max_m=1.0)
    assert not builder.build(NO_SCAN, wall).any()


def test_the_grid_is_drawn_where_it_is_asked_for(kernel):
    builder = BevBuilder(CONTRACT, ROBOT, LIMITS, kernel)
    memory = np.full((128, 128, 2), 7.0, np.float32)
    builder.use_memory(memory)
    grid = builder.build(scan_at(0.0, 1.0), NO_DEPTH)
    assert np.shares_memory(grid, memory)
    assert memory[32, 64, 0] == 1.0 and memory.sum() == 1.0


def test_a_missing_package_names_the_other_kernel(kernel, monkeypatch):
    module = f"tractor_core.bev.{kernel}_kernel"
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ParameterError, match=f"kernel: '{kernel}' needs a package .* set kernel: "):
        BevBuilder(CONTRACT, ROBOT, LIMITS, kernel)


# Any sensor, any mounting, any limits: against the float64 oracle.

angle = st.floats(-math.pi, math.pi)
poses = st.tuples(
    st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(0.02, 1.0), angle, angle, angle
)
motions = st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2), st.floats(-0.3, 0.3))


def sensor_message(rng, size, metres, big_endian, padding):
    """A depth Image as a driver may send it: padded rows, either byte order, invalid pixels."""
    millimetres = rng.integers(0, 5000, size)
    millimetres[rng.random(size) < 0.2] = 0
    if metres:
        pixels = (millimetres * 0.001).astype(np.float32)
        bad = rng.random(size) < 0.1
        pixels[bad] = rng.choice([np.nan, np.inf, -np.inf, -1.0, 3e38], bad.sum())
    else:
        millimetres[rng.random(size) < 0.05] = 65535
        pixels = millimetres.astype(np.uint16)
    stored = pixels.astype(pixels.dtype.newbyteorder(">" if big_endian else "<"))
    rows = np.zeros((size[0], size[1] * stored.itemsize + padding), np.uint8)
    rows[:, : size[1] * stored.itemsize] = stored.view(np.uint8)
    return SimpleNamespace(
        height=size[0], width=size[1], step=rows.shape[1], is_bigendian=int(big_endian),
        encoding="32FC1" if metres else "16UC1", data=array.array("B", rows.tobytes()),
    )  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_extrinsics_and_limits_match_the_oracle(data):
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cells_ = draw(st.integers(1, 16)) * 16
    extent = draw(st.floats(0.02, 0.06)) * cells_
    contract = dataclasses.replace(CONTRACT, grid_cells=cells_, grid_extent_m=extent)
    low = draw(st.floats(-0.5, 0.5))
    near = draw(st.sampled_from([0.0, 0.2, 0.5]))
    limits = BevParameters(
        depth_min_m=near,
        depth_max_m=near + draw(st.floats(0.1, 60.0)),
        obstacle_min_height_m=low,
        obstacle_max_height_m=low + draw(st.floats(0.01, 2.0)),
        min_points=draw(st.integers(1, 5)),
        close_gaps=draw(st.booleans()),
    )
    robot = dataclasses.replace(
        ROBOT,
        lidar_pose=draw(poses),
        camera_pose=draw(poses),
        half_length_m=draw(st.floats(0.0, 1.0)),
        lidar_min_range_m=draw(st.floats(0.0, 0.5)),
    )
    size = draw(st.tuples(st.integers(16, 720), st.integers(16, 1280)))
    focal = draw(st.tuples(st.floats(0.4, 3.0), st.floats(0.4, 3.0)))
    centre = draw(st.tuples(st.floats(-0.2, 1.2), st.floats(-0.2, 1.2)))
    message = sensor_message(
        rng, size, draw(st.booleans()), draw(st.booleans()), draw(st.integers(0, 7))
    )
    depth = DepthImage(
        depth_from_message(message),
        Intrinsics(
            focal[0] * size[1], focal[1] * size[1], centre[0] * size[1], centre[1] * size[0]
        ),
    )
    beams = draw(st.integers(1, 4000))
    sweep = draw(st.sampled_from([2 * math.pi, -2 * math.pi, math.pi, 0.3]))
    ranges = rng.uniform(0.0, 4.0, beams).astype(np.float32)
    holes = rng.random(beams) < 0.2
    ranges[holes] = rng.choice([0.0, np.nan, np.inf, -np.inf, 50.0, -1.0], holes.sum())
    start = draw(st.sampled_from([0.0, -math.pi, math.pi]) | st.floats(-math.pi, 2 * math.pi))
    scan = Scan(ranges, start, sweep / beams, draw(st.floats(0.0, 0.3)), 12.0)
    motion = ScanMotion(Motion(*draw(motions)), Motion(*draw(motions)))

    for kernel in KERNELS:
        grid = BevBuilder(contract, robot, limits, kernel).build(scan, depth, motion)
        assert not np.isnan(grid).any()
        assert_matches_oracle(grid, scan, depth, robot, limits, contract, motion)


def test_a_scan_of_other_beams_each_turn_is_followed_in_the_same_frame(kernel):
    builder = BevBuilder(CONTRACT, ROBOT, LIMITS, kernel)
    for beams, step in ((456, 2 * math.pi / 455), (451, 2 * math.pi / 450), (451, -0.0139)):
        scan = Scan(np.linspace(0.5, 1.9, beams, dtype=np.float32), 0.1, step, 0.02, 25.0)
        grid = builder.build(scan, NO_DEPTH)
        assert_matches_oracle(grid, scan, NO_DEPTH, ROBOT, LIMITS, CONTRACT)


def test_changed_size_and_intrinsics_are_followed_in_the_same_frame(kernel):
    builder = BevBuilder(CONTRACT, ROBOT, LIMITS, kernel)
    for shape, focal in (((100, 848), 425.0), ((48, 64), 50.0), ((48, 64), 70.0)):
        k = Intrinsics(focal, focal, shape[1] / 2, shape[0] / 2)
        depth = DepthImage(np.full(shape, 1400, np.uint16), k)
        grid = builder.build(NO_SCAN, depth)
        assert_matches_oracle(grid, NO_SCAN, depth, ROBOT, LIMITS, CONTRACT)


BUILD = """
import logging
from tractor_core import contract, paths, robot
from tractor_core.bev.builder import BevBuilder
from tractor_core.bev.parameters import BevParameters
logging.basicConfig(level=logging.INFO)
file = paths.default_params_file()
BevBuilder(contract.load(file), robot.load(file), BevParameters())
print("built")
"""


@pytest.mark.slow
def test_compiling_the_grid_is_said_and_a_damaged_cache_is_named_and_done_without(tmp_path):
    command = [sys.executable, "-c", BUILD]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}

    def build():
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    first = build()
    assert first.stdout == "built\n"
    assert "compiling the grid kernel, some seconds once per machine" in first.stderr
    kept = build()
    assert (kept.stdout, kept.stderr) == ("built\n", "")
    files = list(tmp_path.rglob("*.nb[ci]"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:50])
    second = build()
    assert second.stdout == "built\n", second.stderr
    assert "NUMBA_CACHE_DIR" in second.stderr and "delete __pycache__" in second.stderr
