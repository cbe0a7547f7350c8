"""Scan and depth of different times become one grid: a turning rover sees walls stay put."""

import math

import numpy as np
import pytest

from tractor_core import contract as contract_module
from tractor_core import robot as robot_module
from tractor_core.bev.builder import BevBuilder
from tractor_core.bev.parameters import BevParameters
from tractor_core.motion import Motion, OdometrySample, OdometryTrack, ScanMotion
from tractor_core.sensors import DepthImage, Intrinsics, Scan
from tractor_sim.simulation import Simulation
from tractor_sim.world import SolidTable

DEPTH_HZ, SCAN_EVERY = 30, 3
NO_DEPTH = DepthImage(np.zeros((16, 16), np.uint16), Intrinsics(8.0, 8.0, 8.0, 8.0))


def displaced(channel, simulation, table, contract, cells):
    """How many drawn cells are more than so many cells away from everything that is there."""
    body, res = simulation.pose, contract.resolution_m
    count = 0
    for row, col in np.argwhere(channel):
        x, y = 2.0 - (row + 0.5) * res, 2.0 - (col + 0.5) * res
        cos, sin = math.cos(body.yaw_rad), math.sin(body.yaw_rad)
        world = body.x_m + cos * x - sin * y, body.y_m + sin * x + cos * y
        half_m = (cells + 0.5) * res
        count += not table.overlaps(*world, body.yaw_rad, half_m, half_m).any()
    return count


def turn(params_file, with_odometry):
    """Cells drawn and displaced while a rover turns, between scans at a third of the depth rate."""
    robot = robot_module.load(params_file)
    contract = contract_module.load(params_file)
    simulation = Simulation(5, robot)
    table = SolidTable([s for s in simulation.world.solids if s.blocks(robot.height_m)])
    builder = BevBuilder(contract, robot, BevParameters(), "opencv")
    track = OdometryTrack()
    drawn = wrong = 0
    for tick in range(3 * DEPTH_HZ):
        now_ns = round(simulation.time_s * 1e9)
        odom = simulation.odom()
        track.add(
            OdometrySample(
                now_ns, odom.x_m, odom.y_m, odom.yaw_rad, odom.linear_m_s, odom.angular_rad_s
            )
        )
        if tick % SCAN_EVERY == 0:
            scan, scan_ns = simulation.privileged_scan(), now_ns
        motion = track.motion(scan_ns, now_ns) if with_odometry else None
        motion = ScanMotion() if motion is None else ScanMotion(motion, motion)
        channel = builder.build(scan, NO_DEPTH, motion)[0]
        drawn += np.count_nonzero(channel)
        wrong += displaced(channel, simulation, table, contract, cells=1)
        simulation.step(0.05, robot.max_angular_speed, 1.0 / DEPTH_HZ)
    return drawn, wrong


def test_walls_stay_put_within_one_cell_while_the_rover_turns(params_file):
    drawn, wrong = turn(params_file, with_odometry=True)
    assert drawn > 1000 and wrong == 0


def test_without_odometry_the_scan_is_held_and_walls_trail(params_file):
    """What the motion is for: the same drive without it is seen displaced."""
    drawn, wrong = turn(params_file, with_odometry=False)
    assert wrong > 0.05 * drawn


@pytest.mark.parametrize("corrected", [True, False])
def test_a_scan_that_takes_its_time_is_straightened(params_file, corrected):
    # A wall two metres ahead, seen by beams that are 0.1 s apart in time from first to last while
    # the rover turns with 1 rad/s: each is measured in another base_link.
    robot = robot_module.load(params_file)
    contract = contract_module.load(params_file)
    beams, swept_rad = 400, 0.1
    angles = np.linspace(-0.5, 0.5, beams)
    yaw = np.linspace(0.0, swept_rad, beams)
    # Beam i leaves at angles[i] in a body turned by yaw[i]; at the end the wall is x = 1.5.
    world = angles + yaw - swept_rad
    scan = Scan((1.5 / np.cos(world)).astype(np.float32), -0.5, 1.0 / (beams - 1), 0.05, 12.0)
    first = Motion(0.0, 0.0, -swept_rad if corrected else 0.0)
    motion = ScanMotion(first, Motion(0.0, 0.0, 0.0))
    grid = BevBuilder(contract, robot, BevParameters(), "opencv").build(scan, NO_DEPTH, motion)[0]
    rows = {int(row) for row, _ in np.argwhere(grid)}
    assert (rows <= {15, 16}) == corrected
    assert math.floor((2.0 - 1.5) / contract.resolution_m) in rows
