"""How much of what the rover can meet a set of frames covers, and which frame adds most to it.

Two views of the same frames: `embedding` places a frame in a small space in which near means alike,
for choosing; `regions` names in words where it lies, for people.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract import Contract, normalize

# The grid is summed over so many blocks a side: coarse enough that noise does not look new.
POOL = 4
# A whole block of occupied cells counts as much as this many standard deviations of a feature.
GRID_WEIGHT = 4.0

# Bounds between neighbouring regions of a feature, ascending, and what people call the regions.
_SPEED = ((0.02, 0.1), ("standing", "slow", "at speed"))
_TURN = ((-0.2, 0.2), ("turning right", "straight", "turning left"))
_CLEARANCE = ((0.5, 1.5), ("near obstacles", "some room", "open space"))
_GAP = ((-0.5, -0.1, 0.1, 0.5), (
    "gap behind right", "gap right", "gap ahead", "gap left", "gap behind left",
))  # fmt: skip
_OCCUPANCY = ((0.002, 0.02), ("empty", "some", "crowded"))
# A region with fewer samples is named to the operator.
ENOUGH_IN_REGION = 3


def embedding(
    bev: NDArray[np.float32], proprio: NDArray[np.float32], contract: Contract
) -> NDArray[np.float32]:
    """Place a frame in the feature space.

    Args:
        bev: (2, cells, cells) float32 in [0, 1].
        proprio: (6,) raw.

    Returns:
        (6 + 2 * POOL * POOL,) float32: the normalised proprioception, then the root of the occupied
        share of each block of the grid, scaled, so that the first cells of a block count most.
    """
    channels, cells, _ = bev.shape
    edges = np.arange(POOL) * cells // POOL
    blocks = np.add.reduceat(np.add.reduceat(bev, edges, axis=1), edges, axis=2)
    share = blocks.reshape(channels, -1) / (cells / POOL) ** 2
    grid = GRID_WEIGHT * np.sqrt(share, dtype=np.float32).reshape(-1)
    return np.concatenate([normalize(contract, proprio), grid]).astype(np.float32)


def regions(
    bev: NDArray[np.float32], proprio: NDArray[np.float32], contract: Contract
) -> dict[str, str]:
    """Return {feature: region} of one frame, in words: where among all possible frames it lies.

    Features: `motion` (speed and turn together, as the odometry has them), `clearance`
    (lidar_min), `gap` (gap_heading), and the occupancy of each grid channel.
    """
    raw = dict(zip(contract.proprio_names, proprio.tolist()))
    speed = _named(abs(raw["cur_lin"]), *_SPEED)
    turn = _named(raw["cur_ang"], *_TURN)
    found = {
        "motion": f"{turn}, {speed}",
        "clearance": _named(raw["lidar_min"], *_CLEARANCE),
        "gap": _named(raw["gap_heading"], *_GAP),
    }
    for name, channel in zip(contract.grid_channels, bev):
        found[name] = f"{name} {_named(float((channel > 0).mean()), *_OCCUPANCY)}"
    return found


def all_regions(contract: Contract) -> dict[str, list[str]]:
    """Return {feature: every region that a frame can lie in}."""
    found = {
        "motion": [f"{turn}, {speed}" for turn in _TURN[1] for speed in _SPEED[1]],
        "clearance": list(_CLEARANCE[1]),
        "gap": list(_GAP[1]),
    }
    for name in contract.grid_channels:
        found[name] = [f"{name} {label}" for label in _OCCUPANCY[1]]
    return found


def _named(value: float, bounds: tuple[float, ...], names: tuple[str, ...]) -> str:
    return names[int(np.searchsorted(bounds, value))]


@dataclasses.dataclass
class _Member:
    key: Any
    fixed: bool


class DiverseSet:
    """Keeps the frames that are most diverse, one candidate at a time.

    Below its capacity it takes every frame. Then a candidate replaces the member that has the
    nearest neighbour, when the candidate itself is farther from all others than that: the smallest
    distance within the set only grows (greedy max-min dispersion). Fixed members count for the
    distances and stay.

    Args:
        capacity: members that are not fixed, at most; may be changed, which removes none.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._members: list[_Member] = []
        # Grows by doubling; the first len(self) rows count.
        self._memory = np.empty((0, 0), np.float32)
        # Distance to, and place of, the nearest neighbour of each member; kept, because to compute
        # them anew for each change would cost the square of the number of members.
        self._nearest = np.empty(0, np.float32)
        self._nearest_at = np.empty(0, np.intp)

    def __len__(self) -> int:
        return len(self._members)

    @property
    def keys(self) -> list[Any]:
        """The keys of all members, in no order that means anything."""
        return [member.key for member in self._members]

    def fix(self, key: Any, point: NDArray[np.float32]) -> None:
        """Add a member that is never replaced."""
        self._append(_Member(key, fixed=True), point)

    def offer(self, key: Any, point: NDArray[np.float32]) -> tuple[bool, Any]:
        """Consider a candidate.

        Args:
            key: names the frame; what `offer` and `keys` return.
            point: (d,) its embedding.

        Returns:
            (taken, key of the member that it replaces or None).
        """
        free = [i for i, member in enumerate(self._members) if not member.fixed]
        distance = self._distances(point)
        if len(free) < self.capacity:
            # Beside what stays anyway only what is new is worth a place.
            if len(free) == len(self._members) or distance.min() > self._typical():
                self._append(_Member(key, fixed=False), point)
                return True, None
            return False, None
        if not free or len(free) > self.capacity:  # the capacity was lowered
            return False, None
        crowded = min(free, key=lambda i: self._nearest[i])
        distance[crowded] = np.inf
        if distance.min(initial=np.inf) <= self._nearest[crowded]:
            return False, None
        replaced = self._members[crowded].key
        self._members[crowded] = _Member(key, fixed=False)
        self._points[crowded] = point
        orphans = np.flatnonzero(self._nearest_at == crowded)
        self._find_nearest([crowded, *orphans])
        closer = distance < self._nearest
        self._nearest[closer], self._nearest_at[closer] = distance[closer], crowded
        return True, replaced

    def remove(self, key: Any) -> None:
        """Forget a member whose frame is gone; unknown keys are ignored."""
        gone = next((i for i, member in enumerate(self._members) if member.key == key), None)
        if gone is None:
            return
        orphans = np.flatnonzero(np.delete(self._nearest_at, gone) == gone)
        self._memory = np.delete(self._points, gone, axis=0)
        del self._members[gone]
        self._nearest = np.delete(self._nearest, gone)
        self._nearest_at = np.delete(self._nearest_at, gone)
        self._nearest_at -= self._nearest_at > gone
        self._find_nearest(orphans)

    @property
    def _points(self) -> NDArray[np.float32]:
        return self._memory[: len(self._members)]

    def _append(self, member: _Member, point: NDArray[np.float32]) -> None:
        count = len(self._members)
        distance = self._distances(point)
        if count == len(self._memory):
            memory = np.empty((max(16, 2 * count), len(point)), np.float32)
            memory[:count] = self._points.reshape(count, -1) if count else 0.0
            self._memory = memory
        self._members.append(member)
        self._memory[count] = point
        closer = distance < self._nearest
        self._nearest[closer], self._nearest_at[closer] = distance[closer], count
        self._nearest = np.append(self._nearest, distance.min(initial=np.inf))
        self._nearest_at = np.append(self._nearest_at, distance.argmin() if count else -1)

    def _find_nearest(self, places: Iterable[int]) -> None:
        for place in places:
            distance = self._distances(self._points[place])
            distance[place] = np.inf
            self._nearest_at[place] = distance.argmin()
            self._nearest[place] = distance.min()

    def _distances(self, point: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self._members:
            return np.empty(0, np.float32)
        return np.sqrt(((self._points - point) ** 2).sum(axis=1))

    def _typical(self) -> float:
        """Return the distance at which a frame is as new as the members are to each other."""
        return float(np.median(self._nearest)) if len(self._members) > 1 else 0.0
