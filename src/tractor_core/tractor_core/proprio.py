"""The raw proprioceptive vector: what the scan, the odometry and the last action say."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .bev.geometry import scan_points
from .robot import Robot
from .sensors import Scan

LIDAR_MIN_CAP_M = 4.0
# A direction is free when nothing is nearer than this. Part of the meaning of `gap_heading`, so not
# a parameter: a model trained with another value would be driven on different observations.
GAP_CLEARANCE_M = 1.0


def lidar_min(scan: Scan, robot: Robot) -> float:
    """Return the horizontal distance from base_link to the nearest scan point, m in [0, 4].

    Points inside the footprint are the rover's own body and do not count, unless they are too close
    to be measured (-Inf): those may lie anywhere up to range_min and are nearest there. 4.0 when
    nothing is seen.
    """
    points = scan_points(scan, robot)
    hit, _ = scan.hits(robot)
    body = robot.covers(points[:, 0], points[:, 1]) & ~scan.too_close[hit]
    distance = np.hypot(points[~body, 0], points[~body, 1])
    return float(min(LIDAR_MIN_CAP_M, distance.min(initial=LIDAR_MIN_CAP_M)))


def gap_heading(scan: Scan, robot: Robot) -> float:
    """Return the heading of the widest free gap divided by pi, in [-1, 1], left positive.

    A gap is a run of neighbouring beams that are free: nothing nearer than GAP_CLEARANCE_M, or than
    0.9 of the farthest return when everything is near. +Inf is free and -Inf is not (REP-117); NaN,
    zero and ranges outside the sensor's limits or below the robot's are unknown and not free. In a
    scan that closes to a ring, whatever its direction, the last beam is a neighbour of the first
    one, and where beams overlap the nearer one counts. Of equally wide gaps the one nearest to
    straight ahead counts, of two as near the right one; 0 when all directions or none are free.
    """
    hit, _ = scan.hits(robot)
    measured = hit & scan.measured
    clearance = GAP_CLEARANCE_M
    if measured.any() and not scan.endless.any():
        clearance = min(clearance, 0.9 * float(scan.ranges_m[measured].max()))
    free = scan.endless | (measured & (scan.ranges_m >= clearance))
    step = abs(scan.angle_increment_rad)
    if scan.closes:
        turn = 2.0 * math.pi / step
        free = _once_round(free, (hit | scan.too_close) & ~free, round(turn))
    if free.all() or not free.any():
        return 0.0
    n = len(free)
    # Rotating a full circle so that it starts on a blocked beam leaves no run split at the seam.
    shift = int(np.argmin(free)) if scan.closes else 0
    edges = np.diff(np.concatenate([[0], np.roll(free, -shift).astype(np.int8), [0]]))
    first, last = shift + np.flatnonzero(edges == 1), shift + np.flatnonzero(edges == -1) - 1.0
    if scan.closes:
        # Behind the seam come the beams of the next turn, which need not begin on a whole beam.
        first, last = (np.where(i < n, i, i - n + turn) for i in (first, last))
    centres = scan.angle_min_rad + scan.angle_increment_rad * (first + last) / 2.0
    rotation = robot.lidar.rotation
    directions = rotation[:2, :2] @ np.stack([np.cos(centres), np.sin(centres)])
    headings = np.arctan2(directions[1], directions[0])
    widths = last - first
    widest = headings[widths > widths.max() - 0.5]
    aside = np.abs(widest)
    return float(widest[aside < aside.min() + 0.5 * step].min() / math.pi)


def _once_round(
    free: NDArray[np.bool_], blocked: NDArray[np.bool_], beams: int
) -> NDArray[np.bool_]:
    """Return which directions of one turn of so many beams are free, (at most `beams`,).

    Beams of a further turn see the same directions again: one that sees something near is right,
    one that says nothing does not count.
    """
    beams = max(1, beams)
    if len(free) <= beams:
        return free
    index = np.arange(len(free)) % beams
    seen_free, seen_blocked = (np.bincount(index, weights=w) > 0 for w in (free, blocked))
    return seen_free & ~seen_blocked


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
