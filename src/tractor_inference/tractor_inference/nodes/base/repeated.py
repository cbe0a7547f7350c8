"""When something that goes on is worth another line of the log. No ROS."""

from __future__ import annotations

import dataclasses
import math

FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 600.0
# What was away for so long begins anew when it comes back.
AWAY_S = 10.0


@dataclasses.dataclass
class _Said:
    """When one kind was last seen and said, and its pauses from then on."""

    seen_s: float
    said_s: float = -math.inf
    pause_s: float = FIRST_PAUSE_S
    next_pause_s: float = FIRST_PAUSE_S


class Repeated:
    """Says what goes on at once, then after pauses that double: a night fills no log with it."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Said] = {}
        self._said_s = -math.inf

    def due(self, kind: str, now_s: float) -> bool:
        """Return whether to say it now.

        Args:
            kind: the same for the same thing, with pauses of its own; two are said FIRST_PAUSE_S
                apart at least.
            now_s: on a steady clock.
        """
        self._kinds = {k: v for k, v in self._kinds.items() if now_s - v.seen_s <= AWAY_S}
        said = self._kinds.setdefault(kind, _Said(now_s))
        said.seen_s = now_s
        if now_s - self._said_s < FIRST_PAUSE_S or now_s - said.said_s < said.pause_s:
            return False
        self._said_s = said.said_s = now_s
        said.pause_s = said.next_pause_s
        said.next_pause_s = min(2.0 * said.pause_s, LONGEST_PAUSE_S)
        return True
