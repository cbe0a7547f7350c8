"""The bird's-eye grid: one LaserScan and one depth image become (2, cells, cells) float32.

Axes (REP-103, x forward, y left), robot at the centre:
row = floor((extent/2 - x) / res), col = floor((extent/2 - y) / res). One metre ahead is row 32,
column 64 of a 128-cell, 4 m grid; one metre left is row 64, column 32.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .contract import Contract
from .errors import ParameterError
from .parameters import param
from .robot import Pose, Robot
from .scan import Scan

KERNELS = ("numba", "opencv")


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
    close_gaps: bool = param(
        "Mark a free depth cell whose left and right, or upper and lower, neighbours are occupied.",
        False, live=True,
    )  # fmt: skip
    scan_decay_s: float = param(
        "Time in which a scan older than the depth frame fades to 1/e, s; 0 never fades.",
        0.0, minimum=0.0, maximum=60.0, live=True,
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
class Intrinsics:
    """Pinhole intrinsics in pixels, of the image as it is: rectified, cropped and binned."""

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
        return self.fraction_within(0.0, math.inf)

    def fraction_within(self, nearest_m: float, farthest_m: float) -> float:
        """Return the fraction of pixels that hold a depth within these limits, both inclusive."""
        count = self._count_within(self.pixels, nearest_m, farthest_m)
        return count / max(1, self.pixels.size)

    def has_within(self, nearest_m: float, farthest_m: float, fraction: float) -> bool:
        """Return whether `fraction_within` is at least this; looks no further than it must."""
        rows = max(1, len(self.pixels) // 8)
        count, needed = 0, fraction * self.pixels.size
        for top in range(0, len(self.pixels), rows):
            count += self._count_within(self.pixels[top : top + rows], nearest_m, farthest_m)
            if count >= needed:
                return True
        return False

    def _count_within(self, pixels: NDArray, nearest_m: float, farthest_m: float) -> int:
        least, most = nearest_m / self.metres_per_unit, farthest_m / self.metres_per_unit
        if pixels.dtype == np.uint16:
            low, high = max(1, math.ceil(least - 1e-6)), math.floor(min(most + 1e-6, 65535.0))
            if low > high:
                return 0
            # What is below the lower limit wraps around and becomes large: one comparison.
            return np.count_nonzero((pixels - np.uint16(low)) <= np.uint16(high - low))
        inside = pixels >= np.float32(max(least, LEAST_DEPTH_UNITS))
        inside &= pixels <= np.float32(min(most, float(np.finfo(np.float32).max)))
        return np.count_nonzero(inside)


class Motion(NamedTuple):
    """How base_link moved: a point p of then lies at Rz(yaw_rad) p + (x_m, y_m) now."""

    x_m: float
    y_m: float
    yaw_rad: float


STILL = Motion(0.0, 0.0, 0.0)
# A depth of zero says that there is none (REP-118), whatever the lower limit.
LEAST_DEPTH_UNITS = 1e-6
LEAST_RANGE_M = 1e-6


class ScanMotion(NamedTuple):
    """The motion from the first and from the last beam of a scan to the moment that is drawn."""

    first: Motion = STILL
    last: Motion = STILL


HELD = ScanMotion()


def scan_points(scan: Scan, robot: Robot, motion: ScanMotion = HELD) -> NDArray[np.float64]:
    """Return the points that a scan hit in base_link, (m, 3) float64 metres; see Scan.hits.

    Args:
        motion: carries the points along; between the first and last beam it is interpolated.
    """
    hit, _ = scan.hits(robot)
    x, y, z = scan.points(robot)
    return np.stack([*moved(x, y, hit, motion), z], axis=1)


def moved(
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
        lidar: x and y of the LiDAR in base_link, smallest and largest range that is drawn, and the
            range at which -Inf is, m.
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


class Kernel(Protocol):
    """Draws one frame into `out`, (cells, cells, 2) float32, all of which it overwrites."""

    def __init__(self, geometry: Geometry) -> None: ...

    def draw(
        self,
        pixels: NDArray,
        beams: Beams,
        ranges_m: NDArray[np.float32],
        motion: ScanMotion,
        scan_value: float,
        out: NDArray[np.float32],
    ) -> None:
        """Draw a frame of the geometry's size; an occupied LiDAR cell gets `scan_value`."""


def load_kernel(name: str) -> type[Kernel]:
    """Return the implementation of this name.

    Raises:
        ParameterError: its library is not installed.
    """
    try:
        if name == "opencv":
            from .bev_opencv import OpenCvKernel

            return OpenCvKernel
        from .bev_numba import load

        return load()
    except ImportError as error:
        other = KERNELS[1 - KERNELS.index(name)]
        raise ParameterError(
            f"kernel: {name!r} needs a package that is not there ({error}); install it, or set "
            f"kernel: {other!r}, which draws the same cells"
        ) from error


class BevBuilder:
    """Builds grids; what depends only on mounting, sizes and limits is computed once.

    Not thread-safe: `build` returns the same memory each time, overwritten by the next call.

    Args:
        kernel: "numba" (compiled here, seconds the first time on a machine) or "opencv".

    Raises:
        ParameterError: the kernel's library is not installed.
    """

    def __init__(
        self,
        contract: Contract,
        robot: Robot,
        parameters: BevParameters,
        kernel: str = KERNELS[0],
    ) -> None:
        self.contract = contract
        self.robot = robot
        self._parameters = parameters
        self._make_kernel = load_kernel(kernel)
        self._image_key: tuple | None = None
        self._scan_key: tuple | None = None
        self._kernel: Kernel
        self._beams: Beams
        _, rows, cols = contract.bev_shape
        self.use_memory(np.zeros((rows, cols, len(contract.grid_channels)), np.float32))

    @property
    def parameters(self) -> BevParameters:
        """The limits; changed ones hold from the next frame on."""
        return self._parameters

    @parameters.setter
    def parameters(self, updated: BevParameters) -> None:
        self._parameters, self._image_key = updated, None

    def use_memory(self, grid: NDArray[np.float32]) -> None:
        """Draw from now on into this memory, (cells, cells, 2) float32, row-major."""
        self._grid = grid

    def build(
        self,
        scan: Scan,
        depth: DepthImage,
        motion: ScanMotion = HELD,
        scan_age_s: float = 0.0,
    ) -> NDArray[np.float32]:
        """Draw one grid.

        Args:
            motion: of base_link from the scan to the depth frame.
            scan_age_s: by which the scan is older than the depth frame, for `scan_decay_s`.

        Returns:
            (2, cells, cells) float32: channel 0 LiDAR, channel 1 depth; 0 free or unknown, 1
            occupied, in between a LiDAR cell that fades. A view of channels-last memory, which is
            what the NPU reads, valid until the next call.
        """
        # Apart, because some LiDARs give another number of beams each turn.
        image_key = (depth.pixels.shape, depth.metres_per_unit, depth.intrinsics)
        if image_key != self._image_key:
            self._kernel = self._make_kernel(
                geometry(self.contract, self.robot, self._parameters, depth)
            )
            self._image_key = image_key
        scan_key = (
            len(scan.ranges_m), scan.angle_min_rad, scan.angle_increment_rad,
            scan.range_min_m, scan.range_max_m,
        )  # fmt: skip
        if scan_key != self._scan_key:
            self._beams = beams_of(self.robot, scan)
            self._scan_key = scan_key
        decay_s = self._parameters.scan_decay_s
        value = math.exp(-max(0.0, scan_age_s) / decay_s) if decay_s > 0.0 else 1.0
        self._kernel.draw(depth.pixels, self._beams, scan.ranges_m, motion, value, self._grid)
        return self._grid.transpose(2, 0, 1)
