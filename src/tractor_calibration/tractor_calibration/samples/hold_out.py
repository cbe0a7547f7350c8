"""Frames held out of a recording, apart in time from those that stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Held-out frames come in runs spread over the recording, each a stretch of time. A run costs the
# pool its neighbours, so none is short; there are many, so that they meet what is rare.
RUNS = 16
LEAST_RUN_FRAMES = 8
# Where in its part of the recording a run lies: at the end, in the middle, at the beginning.
PLACES = (1.0, 0.5, 0.0)


def hold_out(
    stamps_ns: Sequence[int | None],
    count: int,
    separation_s: float,
    place: float = 1.0,
    most_runs: int = RUNS,
) -> tuple[list[int], list[int]]:
    """Split frames in the order of time into a calibration pool and held-out runs.

    The recording is cut into equal parts; a run of each part is held out, and every frame within
    `separation_s` of one that is held out is left out of the pool.

    Args:
        stamps_ns: one stamp a frame; None or 0 where it is unknown, there only the order separates.
        count: held-out frames wanted, at most the number of frames.
        separation_s: least time between a pool frame and a held-out one.
        place: where a run lies in its part, 0 at the beginning to 1 at the end.
        most_runs: at most so many.

    Returns:
        Indices of the pool and of the held-out frames, both ascending.
    """
    total = len(stamps_ns)
    if count == 0:
        return list(range(total)), []
    runs = max(1, min(most_runs, count // LEAST_RUN_FRAMES))
    bounds = [total * run // runs for run in range(runs + 1)]
    lengths = [count * (run + 1) // runs - count * run // runs for run in range(runs)]
    held_out: list[int] = []
    for start, end, length in zip(bounds, bounds[1:], lengths):
        first = start + round(place * (end - start - length))
        held_out += range(first, first + length)
    near = near_any(stamps_ns, held_out, separation_s)
    return [i for i in range(total) if not near[i]], held_out


def near_any(
    stamps_ns: Sequence[int | None], chosen: Sequence[int], separation_s: float
) -> NDArray[np.bool_]:
    """Return for each frame whether it is chosen, or within `separation_s` of one that is."""
    near = np.zeros(len(stamps_ns), bool)
    near[list(chosen)] = True
    times = np.array(sorted(stamps_ns[i] or 0 for i in chosen if stamps_ns[i]), np.int64)
    if not len(times):
        return near
    own = np.array([stamp or 0 for stamp in stamps_ns], np.int64)
    after = np.searchsorted(times, own)
    to_next = times[np.minimum(after, len(times) - 1)] - own
    to_last = own - times[np.maximum(after - 1, 0)]
    apart = np.minimum(np.abs(to_next), np.abs(to_last))
    return near | ((own > 0) & (apart < separation_s * 1e9))


def spread(total: int, count: int) -> list[int]:
    """Return so many indices spread over all."""
    return np.linspace(0, total - 1, count).round().astype(int).tolist()
