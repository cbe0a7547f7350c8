"""How long something takes, as /diagnostics says it."""

from __future__ import annotations

from collections import deque

import numpy as np


class Timings:
    """The newest so many durations.

    Args:
        name: for instance "latency".
        kept: how many.
        digits: after the point.
    """

    def __init__(self, name: str, kept: int, digits: int) -> None:
        self._name, self._digits = name, digits
        self._values_ms: deque[float] = deque(maxlen=kept)

    def add(self, value_ms: float) -> None:
        """Take note of one, ms."""
        self._values_ms.append(value_ms)

    def describe(self) -> dict[str, str]:
        """Return median and p99 for diagnostics; nothing before the first."""
        if not self._values_ms:
            return {}
        p50, p99 = np.percentile(list(self._values_ms), [50, 99])
        return {
            f"{self._name} p50 ms": f"{p50:.{self._digits}f}",
            f"{self._name} p99 ms": f"{p99:.{self._digits}f}",
        }
