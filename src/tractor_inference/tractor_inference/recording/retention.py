"""Which candidates stay, when there is room for some."""

from __future__ import annotations

import contextlib
import random
from typing import Protocol

from tractor_core import diversity
from tractor_core.contract import Contract
from tractor_core.diversity import DiverseSet
from tractor_core.samples import Sample


class Retention(Protocol):
    """Decides about candidates, each known by a key; holds no file.

    Attributes:
        keep: how many stay, about.
    """

    keep: int

    def fix(self, key: int, sample: Sample) -> None:
        """Take note of a sample that is there and stays."""

    def offer(self, key: int, sample: Sample) -> tuple[bool, int | None]:
        """Return whether a candidate stays, and the key of the one that it replaces, or None."""

    def remove(self, key: int) -> None:
        """Forget a sample that is gone."""


class Reservoir:
    """Keeps a uniform choice of all candidates of this session (Vitter, "Algorithm R", 1985)."""

    def __init__(self, keep: int, rng: random.Random) -> None:
        self.keep, self._random = keep, rng
        self._keys: list[int] = []
        self._offered = 0

    def fix(self, key: int, sample: Sample) -> None:
        """Take no note: the choice is among this session's."""

    def offer(self, key: int, sample: Sample) -> tuple[bool, int | None]:
        """Decide by a draw."""
        self._offered += 1
        if len(self._keys) < self.keep:
            self._keys.append(key)
            return True, None
        if len(self._keys) > self.keep:  # it was lowered
            return False, None
        place = self._random.randrange(self._offered)
        if place >= len(self._keys):
            return False, None
        replaced, self._keys[place] = self._keys[place], key
        return True, replaced

    def remove(self, key: int) -> None:
        """Give its place away."""
        with contextlib.suppress(ValueError):
            self._keys.remove(key)


class MostDiverse:
    """Keeps the most diverse candidates, among themselves and to what was there before."""

    def __init__(self, keep: int, contract: Contract) -> None:
        self._set, self._contract = DiverseSet(keep), contract

    @property
    def keep(self) -> int:
        """How many stay."""
        return self._set.capacity

    @keep.setter
    def keep(self, keep: int) -> None:
        self._set.capacity = keep

    def fix(self, key: int, sample: Sample) -> None:
        """Let a sample that stays count as covered."""
        self._set.fix(key, diversity.embedding(sample.bev, sample.proprio, self._contract))

    def offer(self, key: int, sample: Sample) -> tuple[bool, int | None]:
        """Decide by the distance to those that are kept."""
        point = diversity.embedding(sample.bev, sample.proprio, self._contract)
        return self._set.offer(key, point)

    def remove(self, key: int) -> None:
        """Uncover what it covered."""
        self._set.remove(key)
