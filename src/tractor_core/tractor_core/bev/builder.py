"""The grid of one scan and one depth image, by one of two kernels that mark the same cells."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..contract import Contract
from ..errors import ParameterError
from ..motion import UNCOMPENSATED, ScanMotion
from ..robot import Robot
from ..sensors import DepthImage, Scan
from .geometry import Beams, Geometry, beams_of, geometry
from .parameters import KERNELS, BevParameters


class Kernel(Protocol):
    """Rasterizes one frame into `out`, (cells, cells, 2) float32, all of which it overwrites."""

    def __init__(self, geometry: Geometry) -> None: ...

    def rasterize(
        self,
        pixels: NDArray,
        beams: Beams,
        ranges_m: NDArray[np.float32],
        motion: ScanMotion,
        scan_value: float,
        out: NDArray[np.float32],
    ) -> None:
        """Rasterize a frame of the geometry's size; an occupied LiDAR cell gets `scan_value`."""


def load_kernel(name: str) -> type[Kernel]:
    """Return the implementation of this name.

    Raises:
        ParameterError: its library is not installed.
    """
    try:
        if name == "opencv":
            from .opencv_kernel import OpenCvKernel

            return OpenCvKernel
        from .numba_kernel import load

        return load()
    except ImportError as error:
        other = KERNELS[1 - KERNELS.index(name)]
        raise ParameterError(
            f"kernel: {name!r} needs a package that is not there ({error}); install it, or set "
            f"kernel: {other!r}, which marks the same cells"
        ) from error


class BevBuilder:
    """Builds grids; what depends only on extrinsics, sizes and limits is computed once.

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
        """Rasterize from now on into this memory, (cells, cells, 2) float32, row-major."""
        self._grid = grid

    def build(
        self,
        scan: Scan,
        depth: DepthImage,
        motion: ScanMotion = UNCOMPENSATED,
        scan_age_s: float = 0.0,
    ) -> NDArray[np.float32]:
        """Rasterize one grid.

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
        self._kernel.rasterize(depth.pixels, self._beams, scan.ranges_m, motion, value, self._grid)
        return self._grid.transpose(2, 0, 1)
