import math

import numpy as np
import pytest

from tractor_core import robot as robot_module
from tractor_core.bev.builder import BevBuilder
from tractor_core.bev.geometry import pixel_rays
from tractor_core.bev.parameters import BevParameters
from tractor_core.contract import load as load_contract
from tractor_sim.sensors import (
    DEPTH_INTRINSICS,
    DEPTH_MAX_M,
    BodyPose,
    DepthCamera,
    RayCaster,
)
from tractor_sim.simulation import Simulation
from tractor_sim.world import VISIBLE_GROUP, Solid, World, make_world

DT_S = 1.0 / 30.0


@pytest.fixture(scope="module")
def robot(params_file):
    return robot_module.load(params_file)


def box(x_m: float, bottom_m: float, top_m: float, half_m: float = 0.1) -> Solid:
    return Solid("box", x_m + half_m, 0.0, 0.0, half_m, 2.0, bottom_m, top_m)


def room(*solids: Solid) -> World:
    """A floor without walls, the rover at the origin facing along x."""
    return World(0, 20.0, 20.0, (), solids, 0.0, 0.0, 0.0)


def simulate(robot, *solids: Solid) -> Simulation:
    return Simulation(0, robot, world=room(*solids))


def pointing(robot, pitch_rad: float):
    pose = (*robot.camera_pose[:4], pitch_rad, 0.0)
    return type(robot)(**{**vars(robot), "camera_pose": pose})


def exact_depth(robot, world: World) -> np.ndarray:
    camera = DepthCamera(robot, RayCaster(world, robot.height_m), np.random.default_rng(0))
    return camera.exact_depth_m(BodyPose(0.0, 0.0, 0.0))


def test_scan_measures_a_known_wall(robot):
    scan = simulate(robot, box(2.0, 0.0, 1.0)).scan()
    assert scan.ranges_m.shape == (450,)
    ahead = np.abs(scan.angles_rad) < 0.3
    seen = ahead & scan.measured
    assert seen.sum() > 0.9 * ahead.sum()
    wall_m = scan.ranges_m[seen] * np.cos(scan.angles_rad[seen])
    assert wall_m == pytest.approx(2.0, abs=0.05)
    behind = np.abs(scan.angles_rad) > 2.0
    assert np.isinf(scan.ranges_m[behind]).all()


def test_some_beams_drop_out_as_infinity(robot):
    simulation = simulate(robot, box(2.0, 0.0, 1.0))
    ahead = np.abs(simulation.scan().angles_rad) < 0.5
    ranges_m = np.concatenate([simulation.scan().ranges_m[ahead] for _ in range(50)])
    assert 0.002 < np.isinf(ranges_m).mean() < 0.03
    assert not np.isnan(ranges_m).any()


def test_depth_of_a_wall_is_its_distance_along_the_axis(robot):
    level = pointing(robot, 0.0)
    depth_m = exact_depth(level, room(box(2.0, 0.0, 1.0, half_m=0.1)))
    distance_m = 2.0 - level.camera.x
    # In the upper half there is no floor; the same depth in the centre and at the sides.
    wall = depth_m[:50, 50:-50]
    assert wall == pytest.approx(distance_m, abs=1e-6)


@pytest.mark.parametrize("pitch_rad", [0.0, 0.06, 0.3])
def test_depth_of_the_floor_follows_from_the_pitch(robot, pitch_rad):
    depth_m = exact_depth(pointing(robot, pitch_rad), room())
    rows = np.arange(100)
    # Angle of each row's central ray below the horizon; depth is measured along the axis.
    down_rad = pitch_rad + np.arctan((rows - DEPTH_INTRINSICS.cy) / DEPTH_INTRINSICS.fy)
    below = down_rad > 0.03
    along_m = robot.camera.z / np.sin(down_rad[below]) * np.cos(down_rad[below] - pitch_rad)
    within = along_m < 6.0
    assert within.sum() > 20
    centre = depth_m[below, int(DEPTH_INTRINSICS.cx)]
    assert centre[within] == pytest.approx(along_m[within], abs=1e-6)
    assert np.isinf(depth_m[down_rad < 0]).all()


def test_floor_is_in_the_image_but_not_in_the_grid(robot, params_file):
    simulation = simulate(robot)
    depth = simulation.depth()
    assert depth.pixels.dtype == np.uint16
    assert depth.pixels.shape == (100, 848)
    assert depth.valid_fraction > 0.3
    builder = BevBuilder(load_contract(params_file), robot, BevParameters())
    assert builder.build(simulation.scan(), depth).sum() == 0


@pytest.mark.parametrize("bottom_m, top_m", [(0.0, 0.12), (0.21, 0.4)])
def test_low_and_overhanging_obstacles_are_in_depth_only(robot, params_file, bottom_m, top_m):
    simulation = simulate(robot, box(1.2, bottom_m, top_m))
    assert np.isinf(simulation.scan().ranges_m).all()
    ahead = np.abs(simulation.privileged_scan().angles_rad) < 0.1
    assert simulation.privileged_scan().ranges_m[ahead] == pytest.approx(1.2, abs=0.02)
    builder = BevBuilder(load_contract(params_file), robot, BevParameters())
    lidar, depth = builder.build(simulation.scan(), simulation.depth())
    assert lidar.sum() == 0
    row = math.floor((2.0 - 1.2) / (4.0 / 128))
    assert depth[row - 2 : row + 2, 54:74].any(axis=0).all()


def test_depth_has_noise_and_holes(robot):
    simulation = simulate(pointing(robot, 0.0), box(2.0, 0.0, 1.0))
    pixels = simulation.depth().pixels[:40, 100:-100].astype(float)
    holes = pixels == 0
    assert 0.005 < holes.mean() < 0.05
    assert 5.0 < pixels[~holes].std() < 40.0


def wrong_pixels(robot, world: World) -> int:
    """Count the pixels at the spawn pose whose depth is not that of a ray of their own."""
    caster = RayCaster(world, robot.height_m)
    camera = DepthCamera(robot, caster, np.random.default_rng(0))
    body = BodyPose(world.spawn_x_m, world.spawn_y_m, world.spawn_yaw_rad)
    rays = pixel_rays((100, 848), DEPTH_INTRINSICS, robot.camera).reshape(3, -1)
    length = np.linalg.norm(rays, axis=0)
    origin_m, unit = body.placed(robot.camera.position), body.turned((rays / length).T)
    every_m = caster.cast(origin_m, unit, VISIBLE_GROUP, 9.0).distance_m / length
    found_m = camera.exact_depth_m(body).reshape(-1)
    error_m = np.abs(np.minimum(found_m, DEPTH_MAX_M) - np.minimum(every_m, DEPTH_MAX_M))
    return np.count_nonzero(error_m > 1e-6)


def test_depth_between_cast_rays_is_that_of_rays(robot):
    different = sum(wrong_pixels(robot, make_world(seed)) for seed in range(6))
    assert different <= 1e-5 * 6 * 100 * 848


def test_the_thinnest_obstacles_are_seen_as_far_as_the_camera_sees(robot):
    level = pointing(robot, 0.0)
    for aside_m in np.linspace(-1.0, 1.0, 9):
        post = Solid("post", 5.9, aside_m, 0.0, 0.03, 0.03, 0.0, 1.0)
        board = Solid("box", 5.9, aside_m, 0.0, 0.1, 0.3, 0.40, 0.44)
        for thin in (post, board):
            assert wrong_pixels(level, room(thin)) == 0


def test_same_seed_same_run(robot):
    first, second = Simulation(5, robot), Simulation(5, robot)
    for _ in range(30):
        for simulation in (first, second):
            simulation.step(0.1, 0.4, DT_S)
    assert first.pose == second.pose
    assert (first.scan().ranges_m == second.scan().ranges_m).all()
    assert (first.depth().pixels == second.depth().pixels).all()


def test_drives_straight_and_counts_metres_within_slip(robot):
    simulation = simulate(robot)
    for _ in range(300):
        simulation.step(10.0, 0.0, DT_S)
    assert simulation.time_s == pytest.approx(10.0)
    assert simulation.distance_m == pytest.approx(10 * robot.max_linear_speed, rel=0.06)
    assert simulation.pose.x_m == pytest.approx(simulation.distance_m, rel=0.1)
    assert simulation.odom().linear_m_s == pytest.approx(robot.max_linear_speed, rel=0.06)
    assert simulation.odom().x_m != simulation.pose.x_m


def test_acceleration_is_limited(robot):
    simulation = simulate(robot)
    simulation.step(robot.max_linear_speed, 0.0, DT_S)
    assert 0.0 < simulation.odom().linear_m_s < 0.5 * robot.max_linear_speed


def test_hitting_a_wall_blocks_and_counts_once(robot):
    simulation = simulate(robot, box(0.5, 0.0, 1.0))
    for _ in range(300):
        simulation.step(robot.max_linear_speed, 0.0, DT_S)
    assert simulation.collisions == 1
    assert simulation.pose.x_m + robot.half_length_m <= 0.5
    for _ in range(60):
        simulation.step(-robot.max_linear_speed, 0.0, DT_S)
    assert simulation.pose.x_m < 0.2
    for _ in range(120):
        simulation.step(robot.max_linear_speed, 0.0, DT_S)
    assert simulation.collisions == 2


@pytest.mark.parametrize("bottom_m, collisions", [(0.0, 1), (0.22, 1), (0.45, 0)])
def test_an_overhang_is_hit_only_when_it_hangs_lower_than_the_rover(robot, bottom_m, collisions):
    simulation = simulate(robot, box(0.5, bottom_m, bottom_m + 0.1))
    for _ in range(300):
        simulation.step(robot.max_linear_speed, 0.0, DT_S)
    assert simulation.collisions == collisions
