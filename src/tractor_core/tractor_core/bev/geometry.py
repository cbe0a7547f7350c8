"""Where pixels and beams lie: all that turns a scan and a depth image into cells of the grid.

Axes (REP-103, x forward, y left), robot at the centre:
row = floor((extent/2 - x) / res), col = floor((extent/2 - y) / res). One metre ahead is row 32,
column 64 of a 128-cell, 4 m grid; one metre left is row 64, column 32.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from ..contract import Contract
from ..motion import UNCOMPENSATED, ScanMotion
from ..robot import Pose, Robot
from ..sensors import LEAST_DEPTH_UNITS, DepthImage, Intrinsics, Scan
from .parameters import BevParameters

LEAST_RANGE_M = 1e-6


def scan_points(
    scan: Scan, robot: Robot, motion: ScanMotion = UNCOMPENSATED
) -> NDArray[np.float64]:
    """Return the points that a scan hit in base_link, (m, 3) float64 metres; see Scan.hits.

    Args:
        motion: carries the points along; between the first and last beam it is interpolated.
    """
    hit, _ = scan.hits(robot)
    x, y, z = scan.points(robot)
    return np.stack([*compensated(x, y, hit, motion), z], axis=1)


def compensated(
    x: NDArray[np.float64], y: NDArray[np.float64], measured: NDArray[np.bool_], motion: ScanMotion
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Carry the points (m,) of the beams that are True in `measured`, (n,), along with a motion."""
    share = np.flatnonzero(measured) / max(1, len(measured) - 1)
    dx, dy, yaw = (a + share * (b - a) for a, b in zip(motion.first, motion.last))
    cos, sin = np.cos(yaw), np.sin(yaw)
    return cos * x - sin * y + dx, sin * x + cos * y + dy


def pixel_rays(shape: tuple[int, int], intrinsics: Intrinsics, pose: Pose) -> NDArray[np.float64]:
    """Return each pixel's point in base_link, relative to the camera, for a depth of one metre.

    Args:
        shape: (height, width).
        pose: camera body in base_link; the optical frame is z forward, x right, y down (REP-103).

    Returns:
        (3, height, width) float64; a pixel of depth d lies at pose.position + d * ray.
    """
    right = (np.arange(shape[1]) - intrinsics.cx) / intrinsics.fx
    down = (np.arange(shape[0]) - intrinsics.cy) / intrinsics.fy
    body = np.empty((3, *shape))
    body[0] = 1.0
    body[1] = -right[None, :]
    body[2] = -down[:, None]
    return np.tensordot(pose.rotation, body, axes=1)


@dataclasses.dataclass(frozen=True)
class Geometry:
    """All that turns pixels and beams into cells, folded into few numbers.

    A pixel (v, u) of stored depth d lies in row `row0 - d * row(v, u)`, column
    `column0 - d * column(v, u)` and `d * height(v, u)` above the camera. Each of the three
    coefficients is affine in u, because the rays of a pinhole are: `rows[i, v] + slopes[i] * u`.

    Attributes:
        cells, resolution_m: of the grid.
        width: of the image, pixels.
        rows: (3, height) float64, coefficients of row, column (cells) and height (m) per stored
            depth unit at u = 0.
        slopes: (3,) float64, their change from one column to the next.
        row0, column0: where the camera stands, in cells.
        limits: smallest and largest depth in stored units, lowest and highest point above the
            camera in metres.
        min_points, close_gaps: see BevParameters.
        footprint: first and past-the-last row, then column, of the cells under the rover.
    """

    cells: int
    resolution_m: float
    width: int
    rows: NDArray[np.float64]
    slopes: NDArray[np.float64]
    row0: float
    column0: float
    limits: tuple[float, float, float, float]
    min_points: int
    close_gaps: bool
    footprint: tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class Beams:
    """All that turns the ranges of a scan into points.

    Attributes:
        directions: (2, n) float64, of each beam in the plane of base_link.
        lidar: x and y of the LiDAR in base_link, smallest and largest range that is
            rasterized, and the range at which -Inf is, m.
    """

    directions: NDArray[np.float64]
    lidar: tuple[float, float, float, float, float]


def beams_of(robot: Robot, scan: Scan) -> Beams:
    """Return the beams of scans with these angles and limits."""
    angles = scan.angles_rad
    directions = robot.lidar.rotation[:2, :2] @ np.stack([np.cos(angles), np.sin(angles)])
    # Zero says that nothing came back, whatever the lower limit.
    nearest_m = float(max(scan.range_min_m, robot.lidar_min_range_m, LEAST_RANGE_M))
    # +Inf is no range, whatever the upper limit.
    farthest_m = min(float(scan.range_max_m), float(np.finfo(np.float32).max))
    lidar = (robot.lidar.x, robot.lidar.y, nearest_m, farthest_m, float(scan.range_min_m))
    return Beams(np.ascontiguousarray(directions), lidar)


def geometry(
    contract: Contract, robot: Robot, parameters: BevParameters, depth: DepthImage
) -> Geometry:
    """Return the geometry for images of this size and these intrinsics."""
    cells, res = contract.grid_cells, contract.resolution_m
    half = contract.grid_extent_m / 2.0
    height, width = depth.pixels.shape
    # The first two columns give value and slope of what is affine in the column.
    rays = pixel_rays((height, 2), depth.intrinsics, robot.camera) * depth.metres_per_unit
    rays[:2] /= res
    camera, scale = robot.camera, depth.metres_per_unit
    inside = np.abs(half - (np.arange(cells) + 0.5) * res)
    covered = [np.flatnonzero(inside <= m) for m in (robot.half_length_m, robot.half_width_m)]
    rows, columns = ((int(c[0]), int(c[-1]) + 1) if c.size else (0, 0) for c in covered)
    return Geometry(
        cells=cells,
        resolution_m=res,
        width=width,
        rows=rays[:, :, 0],
        slopes=rays[:, 0, 1] - rays[:, 0, 0],
        row0=(half - camera.x) / res,
        column0=(half - camera.y) / res,
        limits=(
            max(parameters.depth_min_m / scale, LEAST_DEPTH_UNITS),
            parameters.depth_max_m / scale,
            parameters.obstacle_min_height_m - camera.z,
            parameters.obstacle_max_height_m - camera.z,
        ),
        min_points=parameters.min_points,
        close_gaps=parameters.close_gaps,
        footprint=(*rows, *columns),
    )
