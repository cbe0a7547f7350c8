"""The bird's-eye grid compiled by numba: one call a frame, two passes a row.

The first pass computes the cell of every pixel without a branch, so that LLVM vectorises it; the
second counts, and skips groups of pixels without an obstacle. The cost is bounded by the number of
pixels, and a camera that is rolled or turned costs what a level one does.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..motion import UNCOMPENSATED, ScanMotion
from .geometry import Beams, Geometry

# Pixels that are no obstacle get a target behind the grid, with one bit that no cell has. Each lane
# has one of its own: a single one would make every count wait for the one before.
SPARE_LANES = 64
GROUP = 32
# Both channels of a cell as one word: nothing, or occupied in the depth channel, which is second.
_FREE = np.uint64(0)
_OCCUPIED = np.array([0.0, 1.0], np.float32).view(np.uint64)[0]


# Contraction allows fused multiply-adds; nothing else of fastmath, or NaN would get through.
OPTIONS = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}

log = logging.getLogger(__name__)


def load() -> type[NumbaKernel]:
    """Compile what rasterizes, seconds the first time, or take it from numba's cache on disk.

    A cache that cannot be written or read, after a power cut for instance, is done without.
    """
    if NumbaKernel.compiled is None:
        try:
            compiled = njit(cache=True, **OPTIONS)(_rasterize)
            if not _is_kept(Path(compiled.stats.cache_path)):
                log.info("compiling the grid kernel, some seconds once per machine")
            _try_out(compiled)
        except Exception as error:  # pickle raises anything on damaged files
            log.warning(
                "the compiled grid cannot be kept in numba's cache (%s: %s), which makes every "
                "start slower; delete __pycache__ or name a folder in NUMBA_CACHE_DIR",
                type(error).__name__,
                error,
            )
            _try_out(njit(**OPTIONS)(_rasterize))
    return NumbaKernel


def _is_kept(cache: Path) -> bool:
    """Return whether numba's index in its cache is of this source and Python, as numba judges."""
    written_s = Path(__file__).stat().st_mtime
    python = "py{}{}".format(*sys.version_info)
    kept = cache.glob(f"{Path(__file__).stem}.{_rasterize.__name__}-*.{python}*.nbi")
    return any(index.stat().st_mtime >= written_s for index in kept)


def _try_out(compiled: Callable[..., None]) -> None:
    """Rasterize a pixel of either depth type, so that nothing is compiled while driving."""
    geometry = Geometry(
        cells=16, resolution_m=0.1, width=1, rows=np.zeros((3, 1)), slopes=np.zeros(3),
        row0=0.0, column0=0.0, limits=(0.1, 1.0, 0.0, 1.0), min_points=1, close_gaps=False,
        footprint=(0, 0, 0, 0),
    )  # fmt: skip
    beams = Beams(np.zeros((2, 1)), (0.0, 0.0, 0.0, 1.0, 0.0))
    out, no_ranges = np.zeros((16, 16, 2), np.float32), np.zeros(1, np.float32)
    for kind in (np.uint16, np.float32):
        pixels = np.zeros((1, 1), kind)
        NumbaKernel(geometry, compiled).rasterize(pixels, beams, no_ranges, UNCOMPENSATED, 1.0, out)
    NumbaKernel.compiled = staticmethod(compiled)


class NumbaKernel:
    """Rasterizes frames of one geometry; see bev.Kernel."""

    compiled: ClassVar[Any] = None

    def __init__(self, geometry: Geometry, compiled: Any = None) -> None:
        g = geometry
        self._compiled = compiled or NumbaKernel.compiled or load().compiled
        spare = 1 << (g.cells * g.cells - 1).bit_length()
        kind = np.dtype(np.uint16 if spare + SPARE_LANES <= 2**16 else np.uint32)
        self._rows = g.rows.astype(np.float32)
        self._camera = np.array([g.row0, g.column0, *g.slopes, *g.limits], np.float32)
        self._centre, self._cells_per_m = g.cells / 2.0, 1.0 / g.resolution_m
        self._plan = np.array([g.cells, spare, g.min_points, g.close_gaps, *g.footprint])
        self._spare_bits = np.full(8 // kind.itemsize, spare, kind).view(np.uint64)[0]
        self._counts = np.zeros(spare + SPARE_LANES, np.int32)
        self._targets = np.full(-(-g.width // GROUP) * GROUP, spare, kind)

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
        lidar = (*beams.lidar, self._centre, self._cells_per_m)
        self._compiled(
            pixels, self._rows, self._camera, self._plan, self._spare_bits, self._counts,
            self._targets, self._targets.view(np.uint64),
            ranges_m, beams.directions, lidar, motion.first, motion.last, scan_value,
            out, out.reshape(-1).view(np.uint64),
        )  # fmt: skip


@njit(**OPTIONS)
def _count_pixels(pixels, rows, camera, cells, spare, spare_bits, counts, targets, target_words):
    """Count the obstacle pixels of every cell.

    All integers are wrapped back to 32 bits: numba widens every sum to 64, which would halve the
    lanes of a vector.
    """
    row0, column0, row_slope, column_slope, height_slope = camera[:5]
    depth_min, depth_max, height_min, height_max = camera[5:]
    zero, side, too_close = np.float32(0.0), np.float32(cells), np.float32(-np.inf)
    height, width = pixels.shape
    # Two or four targets a word; loops of constant length are unrolled.
    words = GROUP * targets.itemsize // 8
    counts[: cells * cells] = 0
    for v in range(height):
        line = pixels[v]
        row_v, column_v, height_v = rows[0, v], rows[1, v], rows[2, v]
        for u in range(width):
            depth, across = np.float32(line[u]), np.float32(np.int32(u))
            depth = depth_min if depth == too_close else depth
            row = row0 - depth * (row_v + row_slope * across)
            column = column0 - depth * (column_v + column_slope * across)
            above = depth * (height_v + height_slope * across)
            # Comparisons are false for NaN.
            obstacle = (
                (depth >= depth_min) & (depth <= depth_max)
                & (above >= height_min) & (above <= height_max)
                & (row >= zero) & (row < side) & (column >= zero) & (column < side)
            )  # fmt: skip
            cell = np.int32(np.int32(np.int32(row) * cells) + np.int32(column))
            targets[u] = cell if obstacle else np.int32(spare + np.int32(u % SPARE_LANES))
        for group in range(len(targets) // GROUP):
            first = group * words
            together = target_words[first]
            for i in range(1, GROUP // 4):
                together &= target_words[first + i]
            if words > GROUP // 4:
                for i in range(GROUP // 4, GROUP // 2):
                    together &= target_words[first + i]
            if together & spare_bits != spare_bits:
                for u in range(GROUP):
                    counts[targets[group * GROUP + u]] += np.int32(1)


@njit(**OPTIONS)
def _mark_counted(counts, plan, out, out_words):
    cells, least, close = plan[0], np.int32(plan[2]), plan[3]
    for cell in range(cells * cells):
        out_words[cell] = _OCCUPIED if counts[cell] >= least else _FREE
    if close:
        for row in range(cells):
            for col in range(cells):
                at = row * cells + col
                if 0 < col < cells - 1 and counts[at - 1] >= least <= counts[at + 1]:
                    out[row, col, 1] = 1.0
                if 0 < row < cells - 1 and counts[at - cells] >= least <= counts[at + cells]:
                    out[row, col, 1] = 1.0


@njit(**OPTIONS)
def _mark_beams(ranges_m, beams, lidar, first, last, value, out):
    x_lidar, y_lidar, nearest, farthest, range_min, centre, cells_per_m = lidar
    cells, count = out.shape[0], len(ranges_m)
    steps = max(1, count - 1)
    # The rotation is advanced from beam to beam: two products in place of a sine and a cosine.
    cos, sin = np.cos(first[2]), np.sin(first[2])
    turn = (last[2] - first[2]) / steps
    cos_step, sin_step = np.cos(turn), np.sin(turn)
    dx, dy = (last[0] - first[0]) / steps, (last[1] - first[1]) / steps
    for i in range(count):
        r = np.float64(ranges_m[i])
        too_close = r == -np.inf
        if too_close:
            r = range_min
        if too_close or nearest <= r <= farthest:
            x, y = x_lidar + r * beams[0, i], y_lidar + r * beams[1, i]
            row = np.floor(centre - (cos * x - sin * y + first[0] + i * dx) * cells_per_m)
            col = np.floor(centre - (sin * x + cos * y + first[1] + i * dy) * cells_per_m)
            if 0 <= row < cells and 0 <= col < cells:
                out[np.int64(row), np.int64(col), 0] = value
        cos, sin = cos * cos_step - sin * sin_step, sin * cos_step + cos * sin_step


def _rasterize(
    pixels, rows, camera, plan, spare_bits, counts, targets, target_words,
    ranges_m, beams, lidar, first, last, scan_value, out, out_words,
):  # fmt: skip
    cells, spare = np.int32(plan[0]), np.int32(plan[1])
    _count_pixels(pixels, rows, camera, cells, spare, spare_bits, counts, targets, target_words)
    _mark_counted(counts, plan, out, out_words)
    _mark_beams(ranges_m, beams, lidar, first, last, np.float32(scan_value), out)
    top, bottom, left, right = plan[4:]
    for row in range(top, bottom):
        for col in range(left, right):
            out[row, col, 0] = 0.0
            out[row, col, 1] = 0.0
