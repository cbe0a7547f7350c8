"""Room beside the footprint and along the swept path, against a rover moved in small steps."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor_core import robot as robots
from tractor_core.clearance import free_way, room, room_along, time_to_contact
from tractor_core.paths import default_params_file

ROBOT = robots.load(default_params_file())
HALF = (ROBOT.half_length_m, ROBOT.half_width_m)
metres = st.floats(-2.0, 2.0)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (HALF[0] + 0.3, 0.0, 0.3), (0.0, -HALF[1] - 0.2, 0.2), (0.0, 0.0, 0.0),
        (HALF[0] + 0.3, HALF[1] + 0.4, 0.5),
    ],
)  # fmt: skip
def test_room_is_the_distance_to_the_footprint(x, y, expected):
    assert room(np.array([[x, y]]), ROBOT) == pytest.approx([expected])


@given(metres, metres, st.floats(-0.5, 0.5), st.floats(-2.0, 2.0))
def test_room_along_a_path_is_that_of_the_rover_moved_step_by_step(px, py, linear, angular):
    steps = 4000
    x = y = yaw = 0.0
    for _ in range(steps):  # midpoint rule
        middle = yaw + angular / steps / 2
        x, y = x + linear / steps * math.cos(middle), y + linear / steps * math.sin(middle)
        yaw += angular / steps
    dx, dy = px - x, py - y
    seen = np.array([[
        math.cos(yaw) * dx + math.sin(yaw) * dy, math.cos(yaw) * dy - math.sin(yaw) * dx,
    ]])  # fmt: skip
    found = room_along(np.array([[px, py]]), ROBOT, linear, angular, np.ones(1))
    assert found == pytest.approx(room(seen, ROBOT), abs=1e-5)


def test_without_points_there_is_room():
    nothing = np.zeros((0, 2))
    assert np.isinf(room_along(nothing, ROBOT, 0.2, 0.1, np.ones(3))).all()
    assert free_way(nothing, np.zeros(1), 0.2, 1.7) == [1.7]


def test_a_disc_stops_where_it_touches_and_passes_what_is_beside_or_behind():
    points = np.array([[1.0, 0.0]])
    assert free_way(points, np.array([0.0, math.pi, math.pi / 2]), 0.25, 1.7) == pytest.approx(
        [0.75, 1.7, 1.7]
    )


@given(metres, metres, st.floats(-0.5, 0.5), st.floats(-2.0, 2.0))
def test_contact_is_when_the_rover_moved_on_first_touches(px, py, linear, angular):
    point = np.array([[px, py]])
    found_s = time_to_contact(point, ROBOT, linear, angular)[0]
    times_s = np.linspace(0.0, 4.0, 4001)
    gap = room_along(point, ROBOT, linear, angular, times_s)
    before = times_s < found_s - 1e-9
    assert (gap[before] > 0.0).all()
    if found_s <= 4.0:
        assert room_along(point, ROBOT, linear, angular, np.array([found_s])) <= 1e-6


@pytest.mark.parametrize(("linear", "x"), [(0.2, 0.5), (-0.2, -0.5)])
def test_what_lies_ahead_is_touched_and_what_lies_beside_or_behind_is_not(linear, x):
    points = np.array([[x, 0.0], [-x, 0.0], [x, HALF[1] + 0.01], [0.0, 0.0]])
    found_s = time_to_contact(points, ROBOT, linear, 0.0)
    assert found_s == pytest.approx([1.5, np.inf, np.inf, 0.0])


def test_a_corner_that_swings_out_touches():
    # Beside the rear corner, between its half width and its radius.
    point = np.array([[-0.15, HALF[1] + 0.02]])
    assert np.isfinite(time_to_contact(point, ROBOT, 0.0, -1.0)).all()
    assert np.isinf(time_to_contact(np.array([[0.0, 0.26]]), ROBOT, 0.0, 1.0)).all()
