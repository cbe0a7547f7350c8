"""The grid in slow float64, point by point from the definitions."""

import math

import numpy as np


def oracle_points(scan, depth, robot, limits):
    """Every measured point in base_link with float64, straight from the definitions."""
    lidar, camera = [], []
    for i, r in enumerate(np.asarray(scan.ranges_m, np.float64)):
        if scan.range_min_m <= r <= scan.range_max_m:
            a = scan.angle_min_rad + i * scan.angle_increment_rad
            lidar.append(rotate(robot.lidar, [r * math.cos(a), r * math.sin(a), 0.0]))
    k = depth.intrinsics
    for (v, u), raw in np.ndenumerate(depth.pixels):
        d = float(raw) * depth.metres_per_unit
        if math.isfinite(d) and limits.depth_min_m <= d <= limits.depth_max_m:
            x, y = (u - k.cx) / k.fx * d, (v - k.cy) / k.fy * d
            camera.append(rotate(robot.camera, [d, -x, -y]))
    return lidar, camera


def rotate(pose, p):
    x, y, z = p
    y, z = (
        math.cos(pose.roll) * y - math.sin(pose.roll) * z,
        math.sin(pose.roll) * y + math.cos(pose.roll) * z,
    )
    x, z = (
        math.cos(pose.pitch) * x + math.sin(pose.pitch) * z,
        -math.sin(pose.pitch) * x + math.cos(pose.pitch) * z,
    )
    x, y = (
        math.cos(pose.yaw) * x - math.sin(pose.yaw) * y,
        math.sin(pose.yaw) * x + math.cos(pose.yaw) * y,
    )
    return x + pose.x, y + pose.y, z + pose.z


def oracle(scan, depth, robot, limits, contract):
    """Return (sure, possible): cells certainly occupied, and those a border point may occupy."""
    lidar, camera = oracle_points(scan, depth, robot, limits)
    n, res = contract.grid_cells, contract.resolution_m
    sure = np.zeros((2, n, n), int)
    possible = np.zeros((2, n, n), int)
    low, high = limits.obstacle_min_height_m, limits.obstacle_max_height_m
    for channel, points in enumerate((lidar, camera)):
        for x, y, z in points:
            r, c = (contract.grid_extent_m / 2 - x) / res, (contract.grid_extent_m / 2 - y) / res
            near_limit = channel == 1 and min(abs(z - low), abs(z - high)) < 1e-3
            if channel == 1 and not near_limit and not low <= z <= high:
                continue
            around = {
                (math.floor(r + dr), math.floor(c + dc))
                for dr in (-0.01, 0.0, 0.01)
                for dc in (-0.01, 0.0, 0.01)
            }
            for row, col in around:
                if 0 <= row < n and 0 <= col < n:
                    possible[channel, row, col] += 1
                    sure[channel, row, col] += len(around) == 1 and not near_limit
    centre = contract.grid_extent_m / 2 - (np.arange(n) + 0.5) * res
    foot = np.outer(abs(centre) <= robot.half_length_m, abs(centre) <= robot.half_width_m)
    needed = np.array([1, limits.min_points])[:, None, None]
    return (sure >= needed) & ~foot, (possible >= needed) & ~foot


def problem(grid, sure, possible):
    """Return how a grid departs from what the oracle allows, or None."""
    if not np.isin(grid, (0.0, 1.0)).all():
        return "a cell is neither free nor occupied"
    if (sure & (grid == 0)).any():
        return "an occupied cell is missing"
    if ((grid == 1) & ~possible).any():
        return "a free cell is marked"
    return None


def assert_matches_oracle(grid, scan, depth, robot, limits, contract):
    assert problem(grid, *oracle(scan, depth, robot, limits, contract)) is None
