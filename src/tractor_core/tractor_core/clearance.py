"""How much room the rover has: beside its footprint, along its swept path, straight ahead.

Points are (n, 2) float64 in base_link, m: x forward, y left.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .robot import Robot

# Below this a path is straight: its radius would be beyond what a float64 tells apart.
STRAIGHT_RAD_S = 1e-6


def room(points: NDArray[np.float64], robot: Robot) -> NDArray[np.float64]:
    """Return the distance of each point (..., 2) to the footprint, m; 0 within it."""
    outside = np.abs(points) - (robot.half_length_m, robot.half_width_m)
    return np.hypot(*np.moveaxis(np.maximum(outside, 0.0), -1, 0))


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
    yaw = angular_rad_s * times_s
    if abs(angular_rad_s) > STRAIGHT_RAD_S:
        radius_m = linear_m_s / angular_rad_s
        x, y = radius_m * np.sin(yaw), radius_m * (1.0 - np.cos(yaw))
    else:
        x, y = linear_m_s * times_s, np.zeros_like(times_s)
    dx, dy = points[None, :, 0] - x[:, None], points[None, :, 1] - y[:, None]
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    seen = np.stack([cos * dx + sin * dy, cos * dy - sin * dx], axis=-1)
    return room(seen, robot).min(axis=1, initial=np.inf)


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
