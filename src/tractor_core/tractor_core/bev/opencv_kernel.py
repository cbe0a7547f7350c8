"""The bird's-eye grid with OpenCV and numpy, for machines without numba; marks the same cells."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..motion import ScanMotion
from .geometry import Beams, Geometry, compensated

# Metres of height a millimetre of depth; over any depth that is a hair.
LEVEL = 1e-12
# So much stays in the cache from one step to the next; whole images of a megapixel do not.
BLOCK_PIXELS = 2**16


class OpenCvKernel:
    """Rasterizes frames of one geometry; see bev.Kernel."""

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._ready = False

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
        if not self._ready:
            self._make_tables(pixels.dtype)
            self._ready = True
        if pixels.dtype == np.float32 and (close := pixels == -np.inf).any():
            pixels = np.where(close, np.float32(self._geometry.limits[0]), pixels)
        out[:, :, 0] = 0.0
        rows, cols = self._beam_cells(beams, ranges_m, motion)
        out[rows, cols, 0] = scan_value
        out[:, :, 1] = self._occupied(pixels)
        top, bottom, left, right = self._geometry.footprint
        out[top:bottom, left:right] = 0.0

    def _make_tables(self, dtype: np.dtype) -> None:
        """Fold the limits of depth and height into a smallest and largest depth a pixel."""
        g = self._geometry
        row, column, above = g.rows[:, :, None] + g.slopes[:, None, None] * np.arange(g.width)
        nearest, farthest, lowest, highest = g.limits
        # A ray that stays level sees the height of the camera at every depth.
        steep = np.where(np.abs(above) < LEVEL, LEVEL, above)
        low, high = np.sort([lowest / steep, highest / steep], axis=0)
        low, high = np.maximum(low, nearest), np.minimum(high, farthest)
        if dtype == np.uint16:
            low, high = np.ceil(np.float32(low)), np.floor(np.float32(high))
            high = high.clip(max=65535)
        # An empty interval must stay empty whatever the type holds.
        empty = (low > high) | (high < 0)
        low, high = np.where(empty, 1, low), np.where(empty, 0, high)
        self._low, self._high = low.astype(dtype), high.astype(dtype)
        # calcHist counts upwards, rows and columns fall with the distance.
        self._row, self._column = (_without_repeats(-table) for table in (row, column))
        # Memory that is kept: fresh pages would cost more than what is computed in them.
        shape = (max(1, BLOCK_PIXELS // g.width), g.width)
        self._obstacle, self._depth = np.empty(shape, np.uint8), np.empty(shape, np.float32)
        self._places = [np.empty(shape, np.float32) for _ in range(2)]
        self._ranges = [-g.row0, g.cells - g.row0, -g.column0, g.cells - g.column0]

    def _occupied(self, pixels: NDArray) -> NDArray[np.bool_]:
        g = self._geometry
        counts = np.zeros((g.cells, g.cells), np.float32)
        lines = len(self._depth)
        for top in range(0, len(pixels), lines):
            block = slice(top, min(top + lines, len(pixels)))
            rows = slice(0, block.stop - block.start)
            obstacle = cv2.inRange(
                pixels[block], self._low[block], self._high[block], dst=self._obstacle[rows]
            )
            if not cv2.countNonZero(obstacle):
                continue
            depth = self._depth[rows]
            depth[:] = pixels[block]
            places = [place[rows] for place in self._places]
            # What is NaN or too large to multiply is no obstacle: it is not counted.
            with np.errstate(invalid="ignore", over="ignore"):
                for table, place in zip((self._row, self._column), places):
                    np.multiply(depth, table[block] if len(table) > 1 else table, out=place)
            size = [g.cells, g.cells]
            cv2.calcHist(places, [0, 1], obstacle, size, self._ranges, counts, accumulate=True)
        occupied = counts >= g.min_points
        if g.close_gaps:
            closed = occupied.copy()
            closed[:, 1:-1] |= occupied[:, :-2] & occupied[:, 2:]
            closed[1:-1] |= occupied[:-2] & occupied[2:]
            return closed
        return occupied

    def _beam_cells(
        self, beams: Beams, ranges_m: NDArray[np.float32], motion: ScanMotion
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        g = self._geometry
        x_lidar, y_lidar, nearest_m, farthest_m, range_min_m = beams.lidar
        too_close = ranges_m == -np.inf
        hit = too_close | ((ranges_m >= nearest_m) & (ranges_m <= farthest_m))
        r = np.where(too_close, range_min_m, ranges_m.astype(np.float64))[hit]
        x, y = x_lidar + r * beams.directions[0, hit], y_lidar + r * beams.directions[1, hit]
        half = g.cells * g.resolution_m / 2.0
        cells = np.floor((half - np.stack(compensated(x, y, hit, motion))) / g.resolution_m)
        rows, cols = cells[:, ((cells >= 0) & (cells < g.cells)).all(axis=0)].astype(np.intp)
        return rows, cols


def _without_repeats(exact: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return a single row or column where all are alike, as they are without roll and yaw."""
    table = exact.astype(np.float32)
    if (table == table[:1]).all():
        return table[:1]
    if (table == table[:, :1]).all():
        return table[:, :1]
    return table
