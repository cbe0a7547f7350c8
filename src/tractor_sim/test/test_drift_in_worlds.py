"""Calibrated in a corridor, driven in an open room: the suite says so."""

import numpy as np

from tractor_core import contract as contract_module
from tractor_core import robot as robot_module
from tractor_core.bev.builder import BevBuilder
from tractor_core.bev.parameters import BevParameters
from tractor_core.drift import DriftWatch, features, ranges_of
from tractor_core.proprio import gap_heading, lidar_min, raw_vector
from tractor_sim.expert import Expert
from tractor_sim.simulation import Simulation
from tractor_sim.world import Solid, World


def wall(x_m, y_m, half_length_m, half_width_m):
    return Solid("box", x_m, y_m, 0.0, half_length_m, half_width_m, 0.0, 1.0)


def room(half_length_m, half_width_m):
    walls = (
        wall(half_length_m, 0.0, 0.05, half_width_m), wall(-half_length_m, 0.0, 0.05, half_width_m),
        wall(0.0, half_width_m, half_length_m, 0.05), wall(0.0, -half_width_m, half_length_m, 0.05),
    )  # fmt: skip
    return World(0, 2 * half_length_m, 2 * half_width_m, walls, (), 0.0, 0.0, 0.1)


def drive(world, params_file, seconds, seed):
    """Frames of the expert driving a world, at 10 Hz."""
    robot, contract = robot_module.load(params_file), contract_module.load(params_file)
    simulation = Simulation(seed, robot, world)
    builder, expert = BevBuilder(contract, robot, BevParameters(), "opencv"), Expert(robot)
    action = np.zeros(2, np.float32)
    for _ in range(10 * seconds):
        scan, odom = simulation.scan(), simulation.odom()
        bev = builder.build(scan, simulation.depth()).copy()
        yield bev, raw_vector(
            lidar_min(scan, robot), action, odom.linear_m_s, odom.angular_rad_s,
            gap_heading(scan, robot),
        )  # fmt: skip
        action = expert.act(simulation.privileged_scan(), float(action[1] - action[0]) / 2)
        linear = robot.max_linear_speed * float(action.sum()) / 2
        angular = robot.max_angular_speed * float(action[1] - action[0]) / 2
        for _ in range(3):
            simulation.step(linear, angular, 1.0 / 30.0)


def test_open_rooms_after_corridors_ask_for_a_new_calibration(params_file):
    contract = contract_module.load(params_file)
    corridor, hall = room(4.0, 0.7), room(6.0, 6.0)
    ranges = ranges_of([features(*f) for f in drive(corridor, params_file, 40, 1)], contract)
    same, other = DriftWatch(contract, ranges), DriftWatch(contract, ranges)
    for i, frame in enumerate(drive(corridor, params_file, 15, 2)):
        same.step(*frame, i / 10)
    for i, frame in enumerate(drive(hall, params_file, 15, 2)):
        other.step(*frame, i / 10)
    assert same.advice() is None
    assert other.advice().startswith("recalibrate: ") and "lidar_min" in other.advice()
