"""How often a model may fail before it drives no more. Time is an argument."""

from __future__ import annotations

import collections

PERIOD_S = 60.0


class Outages:
    """Counts the outages of the last minute; too many are latched until `forget`.

    An outage is a run of failures without an answer in between.

    Args:
        most: as many a minute are borne.

    Attributes:
        latched: why the model must not drive, or None.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._times_s: collections.deque[float] = collections.deque()
        self.latched: str | None = None

    def note(self, error: object, now_s: float) -> None:
        """Note that an outage begins."""
        self._times_s.append(now_s)
        while now_s - self._times_s[0] > PERIOD_S:
            self._times_s.popleft()
        if len(self._times_s) > self._most:
            self.latched = (
                f"the model failed {len(self._times_s)} times within {PERIOD_S:g} s, at last: "
                f"{error}; call ~/reload_model, with a better model or to try this one again"
            )

    def forget(self) -> None:
        """Begin anew."""
        self._times_s.clear()
        self.latched = None
