"""Bursts of random commands, which lead to where a policy would never go by itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Half a second to one and a half, at 30 Hz.
BURST_TICKS = (10, 45)
# Of the bursts so many are pushed forwards: the rover mostly drives so.
FORWARD_SHARE, FORWARD_PUSH = 0.7, 0.5


class Disturbance:
    """Takes over from who drives, now and then, for a burst.

    Args:
        rng: draws when and what.
        rate: probability a tick that a burst begins.
    """

    def __init__(self, rng: np.random.Generator, rate: float) -> None:
        self._rng, self._rate = rng, rate
        self._ticks = 0
        self._action = np.zeros(2, np.float32)

    def tick(self) -> NDArray[np.float32] | None:
        """Return the track commands of the burst, (2,) in [-1, 1], or None between bursts."""
        rng = self._rng
        if self._ticks > 0:
            self._ticks -= 1
        elif rng.random() < self._rate:
            self._ticks = int(rng.integers(*BURST_TICKS))
            self._action = rng.uniform(-1.0, 1.0, 2).astype(np.float32)
            if rng.random() < FORWARD_SHARE:
                self._action = np.clip(self._action + FORWARD_PUSH, -1.0, 1.0)
        return self._action if self._ticks > 0 else None
