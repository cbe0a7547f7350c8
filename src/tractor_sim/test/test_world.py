import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor_sim.world import SPAWN_CLEARANCE_M, Solid, SolidTable, World, make_world

SEEDS = st.integers(0, 2**31 - 1)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_same_seed_same_world(seed):
    assert make_world(seed) == make_world(seed)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_spawn_is_free_and_inside(seed):
    world = make_world(seed)
    half_m = 0.2 + SPAWN_CLEARANCE_M
    table = SolidTable(world.solids)
    pose = (world.spawn_x_m, world.spawn_y_m, world.spawn_yaw_rad)
    assert not table.overlaps(*pose, half_m, half_m).any()
    assert abs(world.spawn_x_m) < world.length_m / 2
    assert abs(world.spawn_y_m) < world.width_m / 2


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_room_size_and_obstacles_keep_apart(seed):
    world = make_world(seed)
    assert 8.0 <= world.length_m <= 12.0
    assert 8.0 <= world.width_m <= 12.0
    assert len(world.obstacles) >= 8
    for solid in world.obstacles:
        assert 0.0 <= solid.bottom_m < solid.top_m


def test_seeds_vary_layout_and_heights():
    worlds = [make_world(seed) for seed in range(40)]
    assert len({len(world.walls) for world in worlds}) >= 3
    solids = [solid for world in worlds for solid in world.obstacles]
    assert {solid.kind for solid in solids} == {"box", "post"}
    lidar_plane_m, rover_height_m = 0.19, 0.25
    low = [s for s in solids if s.bottom_m == 0.0 and s.top_m < lidar_plane_m]
    overhanging = [s for s in solids if lidar_plane_m < s.bottom_m < rover_height_m]
    passable = [s for s in solids if not s.blocks(rover_height_m)]
    assert min(len(low), len(overhanging), len(passable)) > 20


@pytest.mark.parametrize("kind", ["box", "post"])
def test_overlap_agrees_with_distance_on_an_axis(kind):
    solid = Solid(kind, 1.0, 0.0, 0.0, 0.1, 0.1, 0.0, 1.0)
    table = SolidTable([solid])
    touching_x_m = 1.0 - 0.1 - 0.2
    assert table.overlaps(touching_x_m + 0.001, 0.0, 0.0, 0.2, 0.15).all()
    assert not table.overlaps(touching_x_m - 0.001, 0.0, 0.0, 0.2, 0.15).any()
    # Turned by a quarter the rover is shorter along x.
    assert not table.overlaps(touching_x_m + 0.001, 0.0, math.pi / 2, 0.2, 0.15).any()


def test_overlap_of_turned_boxes_needs_all_axes():
    # The corner of a box turned by 45 degrees points between the axis-aligned bounds.
    solid = Solid("box", 0.0, 0.0, math.pi / 4, 0.5, 0.5, 0.0, 1.0)
    table = SolidTable([solid])
    assert table.overlaps(0.8, 0.0, 0.0, 0.2, 0.15).all()
    assert not table.overlaps(0.6, 0.55, 0.0, 0.2, 0.15).any()


def empty_room(*obstacles: Solid) -> World:
    return World(0, 8.0, 8.0, (), tuple(obstacles), 0.0, 0.0, 0.0)


def test_description_is_plain():
    assert empty_room().solids == ()
