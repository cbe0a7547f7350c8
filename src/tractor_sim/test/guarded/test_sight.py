"""Which sensor can see what is touched, and why none can."""

import pytest

from tractor_sim.guarded import sight
from tractor_sim.guarded.sight import ASIDE, BLIND, HANGING, HIDDEN, LOW, NEAR, Sight
from tractor_sim.senses import Setup
from tractor_sim.sensors import BodyPose
from tractor_sim.world import Solid, World

HERE = BodyPose(0.0, 0.0, 0.0)
TALL, SMALL, SLAB = (0.0, 0.5), (0.0, 0.1), (0.20, 0.4)
WALL = Solid("box", -0.6, 0.0, 0.0, 0.02, 0.5, 0.0, 1.0)


@pytest.fixture(scope="module")
def setup(params_file):
    return Setup.load(params_file)


def post(x_m, y_m, bottom_m, top_m, radius_m=0.1):
    return Solid("post", x_m, y_m, 0.0, radius_m, radius_m, bottom_m, top_m)


@pytest.mark.parametrize(
    ("solid", "camera_sees", "why"),
    [
        (post(0.4, 0.0, *TALL), False, None),
        (post(-0.4, 0.0, *TALL), False, None),
        (post(0.0, 0.3, *TALL), False, None),
        (post(-0.9, 0.0, *TALL), True, HIDDEN),
        (post(1.2, 0.0, *SMALL), True, None),
        (post(1.2, 0.0, *SMALL), False, f"{LOW}: {BLIND}"),
        (post(0.5, 0.0, *SMALL), True, f"{LOW}: {NEAR.format('below')}"),
        (post(-0.4, 0.0, *SMALL), True, f"{LOW}: {ASIDE}"),
        (post(0.2, 0.3, *SMALL), False, f"{LOW}: {ASIDE}"),
        (post(1.2, 0.0, *SLAB), True, None),
        (post(0.5, 0.0, *SLAB), True, f"{HANGING}: {NEAR.format('above')}"),
        (post(0.0, -0.3, *SLAB), True, f"{HANGING}: {ASIDE}"),
    ],
)
def test_what_is_seen_and_why_not(setup, solid, camera_sees, why):
    world = World(0, 20.0, 20.0, (WALL,), (solid,), 0.0, 0.0, 0.0)
    sees = Sight(world, setup.robot, setup.builder)
    touched = sight.touched_points(solid, HERE, setup.robot)
    assert sees.unseen(solid, touched, HERE, HERE, camera_sees) == why


def test_a_low_thing_behind_another_is_hidden_from_the_camera(setup):
    box = Solid("box", 0.8, 0.0, 0.0, 0.05, 1.0, 0.0, 0.5)
    low = post(1.4, 0.0, *SMALL)
    sees = Sight(World(0, 20.0, 20.0, (box,), (low,), 0.0, 0.0, 0.0), setup.robot, setup.builder)
    touched = sight.touched_points(low, HERE, setup.robot)
    assert sees.unseen(low, touched, HERE, HERE, True) == f"{LOW}: {HIDDEN}"


def test_the_points_that_are_touched_are_those_next_to_the_rover(setup):
    wall = Solid("box", 0.3, 0.0, 0.0, 0.05, 2.0, 0.0, 1.0)
    x, y = sight.touched_points(wall, BodyPose(0.04, 0.0, 0.0), setup.robot).T
    assert x == pytest.approx(0.25, abs=0.02)
    assert y.min() == pytest.approx(-0.15, abs=0.03) and y.max() == pytest.approx(0.15, abs=0.03)
    # Turned by a quarter the same wall lies along the side.
    x, y = sight.touched_points(wall, BodyPose(0.095, 0.0, 1.5707963), setup.robot).T
    assert y.max() == pytest.approx(0.2, abs=0.04)
