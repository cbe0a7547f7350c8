"""The raw proprioceptive vector: what the scan, the odometry and the last action say."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .bev import Scan, scan_points
from .robot import Robot

LIDAR_MIN_CAP_M = 4.0
# A direction is free when nothing is nearer than this. Part of the meaning of `gap_heading`, so not
# a parameter: a model trained with another value would be driven on different observations.
GAP_CLEARANCE_M = 1.0


def lidar_min(scan: Scan, robot: Robot) -> float:
    """Return the horizontal distance from base_link to the nearest scan point, m in [0, 4].

    Points inside the footprint are the rover's own body and do not count; 4.0 when nothing is seen.
    """
    points = scan_points(scan, robot)
    body = (np.abs(points[:, 0]) <= robot.half_length_m) & (
        np.abs(points[:, 1]) <= robot.half_width_m
    )
    distance = np.hypot(points[~body, 0], points[~body, 1])
    return float(min(LIDAR_MIN_CAP_M, distance.min(initial=LIDAR_MIN_CAP_M)))


def gap_heading(scan: Scan, robot: Robot) -> float:
    """Return the heading of the widest free gap divided by pi, in [-1, 1], left positive.

    A gap is a run of neighbouring beams that are free: nothing nearer than GAP_CLEARANCE_M, or than
    0.9 of the farthest return when everything is near. +Inf is free (REP-117); NaN, zero and ranges
    below the sensor's or the robot's limit are unknown and not free. Of equally wide gaps the one
    nearest to straight ahead counts; 0 when all directions or none are free.
    """
    measured = scan.beyond_body(robot)
    open_ended = scan.ranges_m == np.inf
    clearance = GAP_CLEARANCE_M
    if measured.any() and not open_ended.any():
        clearance = min(clearance, 0.9 * float(scan.ranges_m[measured].max()))
    free = open_ended | (measured & (scan.ranges_m >= clearance))
    if free.all() or not free.any():
        return 0.0
    n, step = len(free), scan.angle_increment_rad
    closed = abs(step) * n >= 2.0 * math.pi - 0.5 * abs(step)
    # Rotating a full circle so that it starts on a blocked beam leaves no run split at the seam.
    shift = int(np.argmin(free)) if closed else 0
    edges = np.diff(np.concatenate([[0], np.roll(free, -shift).astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    centres = scan.angle_min_rad + step * (shift + (starts + ends - 1) / 2.0)
    rotation = robot.lidar.rotation
    directions = rotation[:2, :2] @ np.stack([np.cos(centres), np.sin(centres)])
    headings = np.arctan2(directions[1], directions[0])
    widths = ends - starts
    widest = headings[widths == widths.max()]
    return float(widest[np.argmin(np.abs(widest))] / math.pi)


def raw_vector(
    lidar_min_m: float,
    previous_action: NDArray[np.floating],
    linear_m_s: float,
    angular_rad_s: float,
    gap_heading_1: float,
) -> NDArray[np.float32]:
    """Return the raw vector in the contract's order, (6,) float32.

    Args:
        lidar_min_m: 0..4 m.
        previous_action: (2,) the last action, -1..1.
        linear_m_s, angular_rad_s: odometry twist in base_link.
        gap_heading_1: -1..1, left positive.
    """
    return np.array(
        [lidar_min_m, *previous_action, linear_m_s, angular_rad_s, gap_heading_1], np.float32
    )
