"""The bird's-eye grid: one LaserScan and one depth image become (2, cells, cells) float32.

Axes (REP-103, x forward, y left), robot at the centre:
row = floor((extent/2 - x) / res), col = floor((extent/2 - y) / res). One metre ahead is row 32,
column 64 of a 128-cell, 4 m grid; one metre left is row 64, column 32.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from .contract import Contract
from .parameters import param
from .robot import Pose, Robot


@dataclasses.dataclass(frozen=True)
class BevParameters:
    """How points become cells; see the bev_builder section of config/sac_rover.yaml."""

    depth_min_m: float = param(
        "Nearest depth that is used, m.", 0.20, minimum=0.0, maximum=100.0, live=True
    )
    depth_max_m: float = param(
        "Farthest depth that is used, m.", 4.0, minimum=0.0, maximum=100.0, live=True
    )
    obstacle_min_height_m: float = param(
        "Lowest point that is an obstacle, m above the floor.",
        0.04, minimum=-10.0, maximum=10.0, live=True,
    )  # fmt: skip
    obstacle_max_height_m: float = param(
        "Highest point that is an obstacle, m above the floor.",
        0.30, minimum=-10.0, maximum=10.0, live=True,
    )  # fmt: skip
    min_points: int = param(
        "Pixels that must agree before a depth cell is occupied.",
        2, minimum=1, maximum=1000, live=True,
    )  # fmt: skip

    def problems(self) -> list[str]:
        """Return what is wrong between fields, one sentence each."""
        found = []
        for low, high in (
            ("depth_min_m", "depth_max_m"),
            ("obstacle_min_height_m", "obstacle_max_height_m"),
        ):
            if getattr(self, low) >= getattr(self, high):
                found.append(
                    f"{low}: expected less than {high} = {getattr(self, high)}, "
                    f"found {getattr(self, low)}"
                )
        return found


@dataclasses.dataclass(frozen=True)
class Scan:
    """One planar scan in the LiDAR's frame.

    `ranges_m` is (n,) float32; beam i points to angle_min_rad + i * angle_increment_rad. A range
    is a measurement when range_min_m <= r <= range_max_m, +Inf means nothing within reach
    (REP-117).
    """

    ranges_m: NDArray[np.float32]
    angle_min_rad: float
    angle_increment_rad: float
    range_min_m: float
    range_max_m: float

    @property
    def angles_rad(self) -> NDArray[np.float64]:
        """(n,) beam angles in the LiDAR's frame."""
        return self.angle_min_rad + self.angle_increment_rad * np.arange(len(self.ranges_m))

    @property
    def measured(self) -> NDArray[np.bool_]:
        """(n,) True where the beam hit something within the sensor's limits."""
        return (self.ranges_m >= self.range_min_m) & (self.ranges_m <= self.range_max_m)


@dataclasses.dataclass(frozen=True)
class Intrinsics:
    """Pinhole intrinsics in pixels, from CameraInfo.k."""

    fx: float
    fy: float
    cx: float
    cy: float


@dataclasses.dataclass(frozen=True)
class DepthImage:
    """One depth image along the optical axis (REP-118): uint16 mm or float32 m, (height, width)."""

    pixels: NDArray[np.uint16] | NDArray[np.float32]
    intrinsics: Intrinsics

    @property
    def metres_per_unit(self) -> float:
        """Scale from stored values to metres."""
        return 0.001 if self.pixels.dtype == np.uint16 else 1.0

    @property
    def valid_fraction(self) -> float:
        """Fraction of pixels that hold a depth: neither zero, NaN nor Inf."""
        valid = np.count_nonzero((self.pixels > 0) & (self.pixels < np.inf))
        return valid / max(1, self.pixels.size)


def scan_points(scan: Scan, pose: Pose) -> NDArray[np.float64]:
    """Return the measured points of a scan in base_link, (m, 3) float64 metres."""
    measured = scan.measured
    ranges = scan.ranges_m[measured].astype(np.float64)
    angles = scan.angles_rad[measured]
    flat = np.stack([ranges * np.cos(angles), ranges * np.sin(angles)])
    return (pose.rotation[:, :2] @ flat).T + pose.position


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


class BevBuilder:
    """Builds grids; holds the tables that depend only on mounting, size and intrinsics.

    Not thread-safe: `build` returns the same array each time, overwritten by the next call.
    """

    def __init__(self, contract: Contract, robot: Robot, parameters: BevParameters) -> None:
        self.contract = contract
        self.robot = robot
        self.parameters = parameters
        self._grid = np.zeros(contract.bev_shape, np.float32)
        half = contract.grid_extent_m / 2.0
        centre = half - (np.arange(contract.grid_cells) + 0.5) * contract.resolution_m
        self._footprint = np.outer(
            np.abs(centre) <= robot.half_length_m, np.abs(centre) <= robot.half_width_m
        )
        self._table_key: tuple | None = None
        self._table: NDArray[np.float32] = np.empty((3, 0), np.float32)

    def build(self, scan: Scan, depth: DepthImage) -> NDArray[np.float32]:
        """Draw one grid.

        Returns:
            (2, cells, cells) float32 of 0 (free or unknown) and 1 (occupied); channel 0 LiDAR,
            channel 1 depth. Valid until the next call.
        """
        self._draw_scan(scan, self._grid[0])
        self._draw_depth(depth, self._grid[1])
        self._grid[:, self._footprint] = 0.0
        return self._grid

    def _draw_scan(self, scan: Scan, channel: NDArray[np.float32]) -> None:
        points = scan_points(scan, self.robot.lidar)
        half, res = self.contract.grid_extent_m / 2.0, self.contract.resolution_m
        cells = np.floor((half - points[:, :2]) / res)
        inside = ((cells >= 0) & (cells < self.contract.grid_cells)).all(axis=1)
        rows, cols = cells[inside].astype(np.intp).T
        channel.fill(0.0)
        channel[rows, cols] = 1.0

    def _pixel_table(self, depth: DepthImage) -> NDArray[np.float32]:
        """Return (3, pixels): row, column (cells) and height (m) per stored depth unit."""
        key = (depth.pixels.shape, depth.metres_per_unit, depth.intrinsics)
        if key != self._table_key:
            height, width = depth.pixels.shape
            rays = pixel_rays((height, width), depth.intrinsics, self.robot.camera)
            res = self.contract.resolution_m
            per_metre = np.stack([-rays[0] / res, -rays[1] / res, rays[2]])
            self._table = (per_metre * depth.metres_per_unit).reshape(3, -1).astype(np.float32)
            self._table_key = key
        return self._table

    def _draw_depth(self, depth: DepthImage, channel: NDArray[np.float32]) -> None:
        limits = self.parameters
        cells, res = self.contract.grid_cells, self.contract.resolution_m
        half = self.contract.grid_extent_m / 2.0
        camera = self.robot.camera
        per_row, per_col, per_height = self._pixel_table(depth)
        flat = depth.pixels.reshape(-1)
        scale = depth.metres_per_unit
        # Comparisons are false for NaN, so no NaN passes this line.
        used = np.flatnonzero(
            (flat >= limits.depth_min_m / scale) & (flat <= limits.depth_max_m / scale)
        )
        distance = flat[used].astype(np.float32)
        height = distance * per_height[used] + np.float32(camera.z)
        row = distance * per_row[used] + np.float32((half - camera.x) / res)
        col = distance * per_col[used] + np.float32((half - camera.y) / res)
        keep = (height >= limits.obstacle_min_height_m) & (height <= limits.obstacle_max_height_m)
        keep &= (row >= 0) & (row < cells) & (col >= 0) & (col < cells)
        index = row[keep].astype(np.int32) * cells + col[keep].astype(np.int32)
        hits = np.bincount(index, minlength=cells * cells).reshape(cells, cells)
        np.greater_equal(hits, limits.min_points, out=channel, casting="unsafe")
