"""When a rover that stands still is worth a line of the log, and how grave that is."""

from __future__ import annotations

import logging

WARN_AFTER_S, ERROR_AFTER_S = 2.0, 10.0
# Until it could drive once: drivers start, and the grid's kernel may have to be compiled.
START_LIMIT_S = 60.0


class Standstill:
    """Says once that the rover stands still, and once more when that is a fault.

    Args:
        now_s: when it was activated, s on a steady clock.
    """

    def __init__(self, now_s: float) -> None:
        self._since_s = now_s
        self._error_after_s = START_LIMIT_S
        self._said = logging.NOTSET

    def step(self, problem: str | None, now_s: float) -> tuple[int, str] | None:
        """Return (level of logging, text) when there is something to say about a problem."""
        if problem is None:
            self._since_s, self._error_after_s = now_s, ERROR_AFTER_S
            self._said = logging.NOTSET
            return None
        waited_s = now_s - self._since_s
        level, text = logging.NOTSET, ""
        if waited_s > self._error_after_s:
            level, text = logging.ERROR, f"standing still for {waited_s:.0f} s: {problem}"
        elif waited_s > WARN_AFTER_S:
            level, text = logging.WARNING, f"standing still: {problem}"
        if level <= self._said:
            return None
        self._said = level
        return level, text
