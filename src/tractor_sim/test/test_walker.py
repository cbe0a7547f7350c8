"""Somebody steps into the rover's way, stops, and walks off; he never walks into anything."""

import math

import numpy as np
import pytest

from tractor_core import robot as robot_module
from tractor_core.clearance import room
from tractor_sim.simulation import Simulation
from tractor_sim.walker import RADIUS_M
from tractor_sim.world import SolidTable, World, make_world

DT_S = 1.0 / 30.0


@pytest.fixture(scope="module")
def robot(params_file):
    return robot_module.load(params_file)


def place(simulation):
    """Return where he is, in base_link."""
    pose, solid = simulation.pose, simulation.walker.solid
    dx, dy = solid.x_m - pose.x_m, solid.y_m - pose.y_m
    cos, sin = math.cos(pose.yaw_rad), math.sin(pose.yaw_rad)
    return np.array([cos * dx + sin * dy, cos * dy - sin * dx])


def test_he_stops_before_the_end_that_leads_and_is_seen(robot):
    for linear_m_s in (0.1, -0.1):
        simulation = Simulation(3, robot, World(3, 40.0, 40.0, (), (), 0.0, 0.0, 0.0), True)
        stood, before = 0, None
        for _ in range(600):
            simulation.step(linear_m_s, 0.0, DT_S)
            solid = simulation.walker.solid
            ahead_m, aside_m = place(simulation)
            if solid == before and abs(ahead_m) < 1.5 and abs(aside_m) < 0.5:
                stood += 1
                assert math.copysign(1.0, ahead_m) == math.copysign(1.0, linear_m_s)
                if stood == 1:
                    near_m = np.hypot(ahead_m, aside_m) - RADIUS_M
                    assert np.min(simulation.scan().ranges_m) == pytest.approx(near_m, abs=0.06)
            before = solid
        assert simulation.walker.visits >= 1 and stood > 10


def test_he_walks_into_nothing(robot):
    world = make_world(5)
    simulation = Simulation(5, robot, world, with_walker=True)
    table = SolidTable([s for s in world.solids if s.blocks(robot.height_m)])
    for _ in range(1200):
        simulation.step(0.0, 0.0, DT_S)
        solid = simulation.walker.solid
        assert not table.overlaps(solid.x_m, solid.y_m, 0.0, RADIUS_M, RADIUS_M).any()
        assert room(place(simulation), robot) > RADIUS_M
    assert simulation.walker.visits >= 2
    assert simulation.collisions == 0


def test_the_rover_that_drives_into_him_collides(robot):
    simulation = Simulation(3, robot, World(3, 40.0, 40.0, (), (), 0.0, 0.0, 0.0), True)
    struck = []
    for _ in range(900):
        simulation.step(0.18, 0.0, DT_S)
        struck += simulation.struck
    assert struck and simulation.collisions == len(struck)
    assert {solid.kind for solid in struck} == {"post"}
