"""Does the rover meet what its model was calibrated for? Time is an argument.

INT8 holds the range that the calibration frames had; beyond it inputs and activations are clipped
and the actor answers as if it saw something else.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .contract import Contract

WINDOW_S = 60.0
# A share of outside frames that says more than that a range was met at its edge.
MAX_OUTSIDE_SHARE = 0.01
# Fewer frames than ten seconds at 10 Hz say nothing about a share of a hundredth.
LEAST_FRAMES = 100
# Beyond a range by less than this share of it a step of INT8 or two are lost.
MARGIN = 0.02


def feature_names(contract: Contract) -> tuple[str, ...]:
    """Return the names of what is watched: the proprioception, then each channel's occupancy."""
    return (*contract.proprio_names, *(f"{name} occupancy" for name in contract.grid_channels))


def features(bev: NDArray[np.float32], proprio: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the watched values of one frame, (8,): raw proprioception, occupied share 0..1."""
    # Ten times faster than over the channels of a message, which lie between each other.
    cells = np.ascontiguousarray(bev).reshape(len(bev), -1)
    occupied = cells.mean(axis=1, dtype=np.float64)
    return np.concatenate([proprio.astype(np.float64), occupied])


def ranges_of(values: Sequence[NDArray[np.float64]], contract: Contract) -> dict[str, list[float]]:
    """Return {feature: [lowest, highest]} over the `features` of frames, for a model's manifest."""
    if not values:
        return {}
    ends = zip(np.min(values, axis=0).tolist(), np.max(values, axis=0).tolist())
    return {name: [low, high] for name, (low, high) in zip(feature_names(contract), ends)}


class DriftWatch:
    """Counts the frames of the last minute that lie outside of the calibrated ranges.

    Args:
        ranges: {feature: [lowest, highest]} as in the manifest; what is not named is not watched.
    """

    def __init__(self, contract: Contract, ranges: Mapping[str, Sequence[float]]) -> None:
        self._names = feature_names(contract)
        ends = np.array([ranges.get(name, (-np.inf, np.inf)) for name in self._names])
        with np.errstate(invalid="ignore"):
            span = np.nan_to_num(ends[:, 1] - ends[:, 0], posinf=0.0)
        self._low, self._high = ends[:, 0] - MARGIN * span, ends[:, 1] + MARGIN * span
        self._outside = np.zeros(len(self._names), int)
        self._frames: collections.deque[tuple[float, NDArray[np.bool_]]] = collections.deque()

    def step(self, bev: NDArray[np.float32], proprio: NDArray[np.float32], now_s: float) -> bool:
        """Note a frame, and return whether it lies outside in any feature.

        Args:
            bev: (2, cells, cells) float32 in [0, 1].
            proprio: (6,) raw.
            now_s: a steady clock.
        """
        values = features(bev, proprio)
        outside = (values < self._low) | (values > self._high)
        self._frames.append((now_s, outside))
        self._outside += outside
        while now_s - self._frames[0][0] > WINDOW_S:
            self._outside -= self._frames.popleft()[1]
        return bool(outside.any())

    def advice(self) -> str | None:
        """Return "recalibrate" with the features that say so, or None."""
        count = len(self._frames)
        if count < LEAST_FRAMES:
            return None
        shares = self._outside / count
        found = [
            f"{name} in {share:.1%}"
            for name, share in zip(self._names, shares)
            if share > MAX_OUTSIDE_SHARE
        ]
        if not found:
            return None
        return (
            "recalibrate: outside of what the model was calibrated with are, of the last "
            f"{count} frames, {', '.join(found)}"
        )
