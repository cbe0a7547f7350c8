"""The grid in plain float64, straight from the definitions, sharing no code with the suite."""

import math

import numpy as np


def rotation(roll, pitch, yaw):
    """Fixed-axis roll, pitch, yaw (REP-103): Rz @ Ry @ Rx."""
    cr, sr, cp, sp = math.cos(roll), math.sin(roll), math.cos(pitch), math.sin(pitch)
    cy, sy = math.cos(yaw), math.sin(yaw)
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def in_base_link(points, pose):
    return points @ rotation(pose.roll, pose.pitch, pose.yaw).T + np.array([pose.x, pose.y, pose.z])


def lidar_points(scan, robot, motion):
    """(n, 3) points in base_link at the moment of drawing; which certainly, and perhaps, count."""
    r = scan.ranges_m.astype(np.float64)
    i = np.arange(len(r))
    angle = scan.angle_min_rad + i * scan.angle_increment_rad
    low, high = max(scan.range_min_m, robot.lidar_min_range_m), scan.range_max_m
    sure = (r >= low + 1e-3) & (r <= high - 1e-3)
    possible = (r >= low - 1e-3) & (r <= high + 1e-3)
    # REP-117: nearer than range_min, and beyond range_max.
    too_close = r == -np.inf
    sure &= r < np.inf
    possible &= r < np.inf
    r = np.where(possible, r, 0.0)
    r[too_close] = scan.range_min_m
    sure |= too_close
    possible |= too_close
    flat = np.stack([r * np.cos(angle), r * np.sin(angle), np.zeros(len(r))], axis=1)
    then = in_base_link(flat, robot.lidar)
    share = i / max(1, len(r) - 1)
    dx, dy, yaw = (a + share * (b - a) for a, b in zip(motion.first, motion.last))
    x = np.cos(yaw) * then[:, 0] - np.sin(yaw) * then[:, 1] + dx
    y = np.sin(yaw) * then[:, 0] + np.cos(yaw) * then[:, 1] + dy
    return np.stack([x, y, then[:, 2]], axis=1), sure, possible


def depth_points(depth, robot, nearest_m):
    """(height * width, 3) points in base_link, and the depth of each in metres."""
    k = depth.intrinsics
    d = depth.pixels.astype(np.float64) * depth.metres_per_unit
    # REP-117: too close to be measured. Of a camera without a lower limit that is its own place.
    d[d == -np.inf] = max(nearest_m, 1e-6)
    d = np.where(np.isfinite(d), d, 0.0)
    v, u = np.indices(d.shape)
    right, down = (u - k.cx) / k.fx * d, (v - k.cy) / k.fy * d
    body = np.stack([d, -right, -down], axis=-1).reshape(-1, 3)
    return in_base_link(body, robot.camera), d.reshape(-1)


def counts(points, sure, possible, contract):
    """How many points certainly, and how many perhaps, lie in each cell.

    A point within 0.01 cell of a border may lie on either side of it.
    """
    n, res = contract.grid_cells, contract.resolution_m
    at = ((contract.grid_extent_m / 2 - points[:, :2]) / res).clip(-1e6, 1e6)
    low, high = np.floor(at - 0.01).astype(int), np.floor(at + 0.01).astype(int)
    certain = sure & (low == high).all(axis=1)
    result = []
    for mask, corners in ((certain, [(0, 0)]), (possible, [(0, 0), (0, 1), (1, 0), (1, 1)])):
        total = np.zeros((n, n), int)
        seen = np.full((len(points), len(corners)), -1)
        for j, (dr, dc) in enumerate(corners):
            row, col = (high if dr else low)[:, 0], (high if dc else low)[:, 1]
            inside = mask & (row >= 0) & (row < n) & (col >= 0) & (col < n)
            cell = np.where(inside, row * n + col, -1)
            # The corners of a point inside a cell are all the same one: it counts once.
            cell[(seen[:, :j] == cell[:, None]).any(axis=1)] = -1
            seen[:, j] = cell
            np.add.at(total.reshape(-1), cell[cell >= 0], 1)
        result.append(total)
    return result


def closed(channel):
    result = channel.copy()
    n = len(channel)
    for r in range(n):
        for c in range(n):
            beside = 0 < c < n - 1 and channel[r, c - 1] and channel[r, c + 1]
            along = 0 < r < n - 1 and channel[r - 1, c] and channel[r + 1, c]
            result[r, c] |= beside or along
    return result


def oracle(scan, depth, robot, limits, contract, motion):
    """(sure, possible), each (2, n, n) bool: certainly occupied, and not certainly free."""
    lidar = [c >= 1 for c in counts(*lidar_points(scan, robot, motion), contract)]

    points, d = depth_points(depth, robot, limits.depth_min_m)
    z = points[:, 2]
    inside, near = d > 0, np.zeros(len(d), bool)
    for value, low, high in (
        (d, limits.depth_min_m, limits.depth_max_m),
        (z, limits.obstacle_min_height_m, limits.obstacle_max_height_m),
    ):
        inside &= (value >= low) & (value <= high)
        near |= (np.abs(value - low) < 1e-3) | (np.abs(value - high) < 1e-3)
    loose = (d > 0) & (d >= limits.depth_min_m - 1e-3) & (d <= limits.depth_max_m + 1e-3)
    loose &= (z >= limits.obstacle_min_height_m - 1e-3) & (z <= limits.obstacle_max_height_m + 1e-3)
    camera = counts(points, inside & ~near, loose, contract)
    camera = [c >= limits.min_points for c in camera]
    if limits.close_gaps:
        camera = [closed(c) for c in camera]

    n, res = contract.grid_cells, contract.resolution_m
    centre = contract.grid_extent_m / 2 - (np.arange(n) + 0.5) * res
    foot = np.outer(abs(centre) <= robot.half_length_m, abs(centre) <= robot.half_width_m)
    return tuple(np.stack([a, b]) & ~foot for a, b in zip(lidar, camera))


def problem(grid, sure, possible, lidar_value=1.0):
    """How a grid departs from what the oracle allows, or None."""
    for channel, value in zip(grid, (lidar_value, 1.0)):
        if not np.isin(channel, (0.0, np.float32(value))).all():
            return "a cell is neither free nor occupied"
    if (sure & (grid == 0)).any():
        return "an occupied cell is missing"
    if ((grid > 0) & ~possible).any():
        return "a free cell is marked"
    return None


def assert_matches_oracle(grid, scan, depth, robot, limits, contract, motion=None):
    motion = ((0.0, 0.0, 0.0),) * 2 if motion is None else motion
    motion = type("Motion", (), dict(first=motion[0], last=motion[1]))
    assert problem(grid, *oracle(scan, depth, robot, limits, contract, motion)) is None
