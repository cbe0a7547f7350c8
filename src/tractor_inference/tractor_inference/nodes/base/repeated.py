"""When something that goes on is worth another line of the log. No ROS."""

from __future__ import annotations

import math

FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 600.0
# What was away for so long begins anew when it comes back.
AWAY_S = 10.0


class Repeated:
    """Says what goes on at once, then after pauses that double: a night fills no log with it."""

    def __init__(self) -> None:
        self._kind = ""
        self._seen_s = self._said_s = -math.inf
        self._pause_s = self._next_pause_s = FIRST_PAUSE_S

    def due(self, kind: str, now_s: float) -> bool:
        """Return whether to say it now.

        Args:
            kind: the same for the same thing; another one is said after FIRST_PAUSE_S.
            now_s: on a steady clock.
        """
        if kind != self._kind or now_s - self._seen_s > AWAY_S:
            self._pause_s = self._next_pause_s = FIRST_PAUSE_S
        self._kind, self._seen_s = kind, now_s
        if now_s - self._said_s < self._pause_s:
            return False
        self._said_s, self._pause_s = now_s, self._next_pause_s
        self._next_pause_s = min(2.0 * self._pause_s, LONGEST_PAUSE_S)
        return True
