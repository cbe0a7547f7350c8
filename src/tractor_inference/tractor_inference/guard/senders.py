"""Who sends on a command topic: one publisher, or rivals that would drive one base together.

The graph alone does not tell: it lists a process that was killed for 20 s more, by the name of its
successor. So endpoints are counted, and what is heard decides which of them are alive.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable

# A publisher that was not heard for so long does not count as sending any more.
SILENT_S = 2.0
# A process is not started anew within so short a silence; actors and guards repeat themselves.
GAP_S = 0.5
# Messages of a publisher between those of another: a successor gives one, rivals go on.
TURNS = 2
# Fast DDS lists a killed process for 20 s.
GHOST_S = 25.0
# For the graph to catch up with what is heard, and to know the name of a node that it lists.
LAG_S, NAME_LAG_S = 1.5, 3.0
UNKNOWN = "a node of unknown name"


@dataclasses.dataclass
class _Sequence:
    """The messages of one publisher: the last number, heard without a gap since when, its turns."""

    number: int
    unbroken_s: float
    last_s: float
    turns: int = 0


class Senders:
    """Tells publishers of one topic apart that send at the same time.

    Each numbers its messages, one up; so a message continues the sequence with the greatest lower
    number, or it is another publisher's. Two sequences that take turns are two publishers; one that
    ends before the other begins is a process that was started anew.
    """

    def __init__(self) -> None:
        self._sequences: list[_Sequence] = []
        self._last: _Sequence | None = None

    def heard(self, number: int | None, now_s: float) -> None:
        """Note a message.

        Args:
            number: of its publisher; None where the middleware gives none, which is ignored.
            now_s: a steady clock.
        """
        if number is None:
            return
        self._forget(now_s)
        lower = [sequence for sequence in self._sequences if sequence.number < number]
        if lower:
            found = max(lower, key=lambda sequence: (sequence.number, sequence.last_s))
        else:
            found = _Sequence(number, now_s, now_s)
            self._sequences.append(found)
        found.turns += found is not self._last
        if now_s - found.last_s > GAP_S:
            found.unbroken_s = now_s
        found.number, found.last_s = number, now_s
        self._last = found

    def at_once(self, now_s: float) -> int:
        """Return how many publishers send at the same time, at least; 0 when none was heard."""
        self._forget(now_s)
        rivals = sum(sequence.turns >= TURNS for sequence in self._sequences)
        return rivals if rivals > 1 else min(1, len(self._sequences))

    def sending_since(self, now_s: float) -> float | None:
        """Return since when the publisher that sends now has been heard without a gap, or None."""
        sending = [s for s in self._sequences if now_s - s.last_s <= GAP_S]
        return min((s.unbroken_s for s in sending), default=None)

    def _forget(self, now_s: float) -> None:
        self._sequences = [s for s in self._sequences if now_s - s.last_s <= SILENT_S]


class Listed:
    """What the graph lists on one topic, and since when."""

    def __init__(self) -> None:
        self._since_s: dict[bytes, float] = {}
        self._name_of: dict[bytes, str] = {}

    def look(self, endpoints: Iterable[tuple[str, bytes]], now_s: float) -> None:
        """Take over what is listed now.

        Args:
            endpoints: (full name of the node, UNKNOWN where it is not known yet, or not any more;
                unique identifier of the endpoint).
            now_s: a steady clock.
        """
        listed = {gid: name for name, gid in endpoints}
        self._since_s = {gid: self._since_s.get(gid, now_s) for gid in listed}
        self._name_of = {
            gid: self._name_of.get(gid, name) if name == UNKNOWN else name
            for gid, name in listed.items()
        }

    @property
    def count(self) -> int:
        """How many are listed, ghosts included."""
        return len(self._since_s)

    def __str__(self) -> str:
        counts = collections.Counter(self._name_of.values())
        return ", ".join(
            name if count == 1 else f"{name} {count} times"
            for name, count in sorted(counts.items())
        )

    def rivals(self, now_s: float, senders: Senders | None = None) -> bool:
        """Return whether more than one of them is surely alive.

        Nodes of different names are. Of one name, when they send at once, when the one that is
        heard was there before the other, or when both are listed for longer than a killed one.
        """
        names = {
            name
            for gid, name in self._name_of.items()
            if name != UNKNOWN or now_s - self._since_s[gid] > NAME_LAG_S
        }
        if len(names) > 1:
            return True
        since_s = sorted(self._since_s.values())
        if len(since_s) < 2:
            return False
        if now_s - since_s[1] > GHOST_S:
            return True
        if senders is None:
            return False
        heard_s = senders.sending_since(now_s)
        newest_s = since_s[-1]
        went_on = heard_s is not None and heard_s < newest_s - LAG_S < now_s - 2.0 * LAG_S
        return went_on or senders.at_once(now_s) > 1
