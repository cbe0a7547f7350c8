"""How much room the rover has: beside its footprint, along its path, until it touches something.

Points are (n, 2) float64 in base_link, m: x forward, y left.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .robot import Robot

# Below this a path is straight: its radius would be beyond what a float64 tells apart.
STRAIGHT_RAD_S = 1e-6
FULL_TURN_RAD = 2.0 * math.pi


def room(points: NDArray[np.float64], robot: Robot) -> NDArray[np.float64]:
    """Return the distance of each point (..., 2) to the footprint, m; 0 within it."""
    outside = np.abs(points) - (robot.half_length_m, robot.half_width_m)
    return np.hypot(*np.moveaxis(np.maximum(outside, 0.0), -1, 0))


def poses_along(
    linear_m_s: float, angular_rad_s: float, times_s: NDArray[np.float64]
) -> tuple[NDArray, NDArray, NDArray]:
    """Return where base_link is at these times from now on: x, y in m, yaw in rad, (t,) float64."""
    yaw = angular_rad_s * times_s
    if abs(angular_rad_s) > STRAIGHT_RAD_S:
        radius_m = linear_m_s / angular_rad_s
        return radius_m * np.sin(yaw), radius_m * (1.0 - np.cos(yaw)), yaw
    return linear_m_s * times_s, np.zeros_like(times_s), yaw


def room_along(
    points: NDArray[np.float64],
    robot: Robot,
    linear_m_s: float,
    angular_rad_s: float,
    times_s: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return how near the points come to the footprint when the rover goes on at this velocity.

        times_s = np.linspace(0.1, 1.0, 10)
        touches = room_along(points, robot, 0.2, 0.5, times_s) <= 0.0

    Args:
        times_s: (t,), from now on.

    Returns:
        (t,) float64, the distance of the nearest point at each time, m; Inf where there is none.
    """
    seen = seen_from(points, *poses_along(linear_m_s, angular_rad_s, times_s))
    return room(seen, robot).min(axis=1, initial=np.inf)


def seen_from(
    points: NDArray[np.float64],
    x_m: NDArray[np.float64],
    y_m: NDArray[np.float64],
    yaw_rad: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the points as they lie in base_link when that is at these poses, (t, n, 2) m."""
    dx, dy = points[None, :, 0] - x_m[:, None], points[None, :, 1] - y_m[:, None]
    cos, sin = np.cos(yaw_rad)[:, None], np.sin(yaw_rad)[:, None]
    return np.stack([cos * dx + sin * dy, cos * dy - sin * dx], axis=-1)


def time_to_contact(
    points: NDArray[np.float64], robot: Robot, linear_m_s: float, angular_rad_s: float
) -> NDArray[np.float64]:
    """Return when each point touches the footprint while the rover goes on at this velocity.

    Exact: seen from the rover a point moves on a circle about the centre of rotation (0, v/w), or
    on a line, and the first edge that it crosses from outside is where it touches.

        nearest_s = time_to_contact(points, robot, 0.18, 0.5).min(initial=np.inf)

    Returns:
        (n,) float64, s from now on; 0 within the footprint, Inf where it never does.
    """
    x, y = points[:, 0], points[:, 1]
    half_x, half_y = robot.half_length_m, robot.half_width_m
    if abs(angular_rad_s) > STRAIGHT_RAD_S:
        centre_y = linear_m_s / angular_rad_s
        square = x**2 + (y - centre_y) ** 2
        crossings = []
        with np.errstate(invalid="ignore"):
            for side in (half_x, -half_x):
                reach = np.sqrt(square - side**2)
                crossings += [(np.full_like(x, side), centre_y + sign * reach) for sign in (1, -1)]
            for side in (half_y, -half_y):
                reach = np.sqrt(square - (side - centre_y) ** 2)
                crossings += [(sign * reach, np.full_like(x, side)) for sign in (1, -1)]
        end_x, end_y = np.stack(crossings, axis=1)
        # Seen from the rover the points turn the other way round.
        turn = np.arctan2(y - centre_y, x) - np.arctan2(end_y - centre_y, end_x)
        turn = np.mod(turn * math.copysign(1.0, angular_rad_s), FULL_TURN_RAD)
        turn[turn > FULL_TURN_RAD - STRAIGHT_RAD_S] = 0.0  # rounding, of a point on the edge
        touches = (np.abs(end_x) <= half_x) & (np.abs(end_y) <= half_y)
        found_s = np.where(touches, turn / abs(angular_rad_s), np.inf).min(axis=0)
    elif linear_m_s == 0.0:
        found_s = np.full(len(x), np.inf)
    else:
        ahead = x * math.copysign(1.0, linear_m_s) - half_x
        meets = (ahead >= 0.0) & (np.abs(y) <= half_y)
        with np.errstate(over="ignore"):
            found_s = np.where(meets, ahead / abs(linear_m_s), np.inf)
    return np.where(robot.covers(x, y), 0.0, found_s)


def free_way(
    points: NDArray[np.float64],
    headings_rad: NDArray[np.float64],
    radius_m: float,
    horizon_m: float,
) -> NDArray[np.float64]:
    """Return how far a disc can go straight in each heading, (n,) m, at most the horizon."""
    cos, sin = np.cos(headings_rad)[:, None], np.sin(headings_rad)[:, None]
    ahead = cos * points[:, 0] + sin * points[:, 1]
    aside = np.abs(cos * points[:, 1] - sin * points[:, 0])
    # Where the front of the disc touches the point; a point beside the disc's centre is behind.
    depth = np.sqrt(np.maximum(radius_m**2 - aside**2, 0.0))
    way = np.where((aside < radius_m) & (ahead > 0.0), ahead - depth, horizon_m)
    return np.clip(way.min(axis=1, initial=horizon_m), 0.0, horizon_m)
