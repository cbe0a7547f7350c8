"""How much of what the rover can meet a set of frames covers, and which frame adds most to it.

Two views of the same frames: `embedding` places a frame in a small space in which near means alike,
for choosing; `regions` names in words where it lies, for people.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract import Contract, normalize

# The grid is summed over so many blocks a side: coarse enough that noise does not look new.
POOL = 4
# A whole block of occupied cells counts as much as this many standard deviations of a feature.
GRID_WEIGHT = 4.0
CHUNK = 256

# Bounds between neighbouring regions of a feature, ascending, and what people call the regions.
_SPEED = ((0.02, 0.1), ("standing", "slow", "at speed"))
_TURN = ((-0.2, 0.2), ("turning right", "straight", "turning left"))
_CLEARANCE = ((0.5, 1.5), ("near obstacles", "some room", "open space"))
_GAP = ((-0.5, -0.1, 0.1, 0.5), (
    "gap behind right", "gap right", "gap ahead", "gap left", "gap behind left",
))  # fmt: skip
_OCCUPANCY = ((0.002, 0.02), ("empty", "some", "crowded"))


def embedding(
    bev: NDArray[np.float32], proprio: NDArray[np.float32], contract: Contract
) -> NDArray[np.float32]:
    """Place a frame in the space of coverage.

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


def nearest_distances(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n,) the distance of each point (n, d) to its nearest neighbour; Inf for a single one.

    Memory grows with n, not with its square.
    """
    squares = (points**2).sum(axis=1)
    nearest = np.empty(len(points), np.float32)
    for start in range(0, len(points), CHUNK):
        part = slice(start, start + CHUNK)
        between = squares[part, None] + squares - 2.0 * points[part] @ points.T
        own = np.arange(len(between))
        between[own, start + own] = np.inf
        nearest[part] = np.sqrt(np.maximum(between.min(axis=1), 0.0))
    return nearest


@dataclasses.dataclass
class _Member:
    key: Any
    fixed: bool


class CoverageSet:
    """Keeps the frames that are least alike, one candidate at a time.

    Below its capacity it takes every frame. Then a candidate replaces the member that has the
    nearest neighbour, when the candidate itself is farther from all others than that: the smallest
    distance within the set only grows (greedy max-min dispersion). Fixed members count for the
    distances and stay.

    Args:
        capacity: members that are not fixed, at most.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._members: list[_Member] = []
        self._points = np.empty((0, 0), np.float32)
        self._between: NDArray[np.float32] | None = None

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
        if not free:
            return False, None
        nearest = self._nearest()
        crowded = min(free, key=lambda i: nearest[i])
        distance[crowded] = np.inf
        if distance.min(initial=np.inf) <= nearest[crowded]:
            return False, None
        replaced = self._members[crowded].key
        self._members[crowded] = _Member(key, fixed=False)
        self._points[crowded] = point
        self._between = None
        return True, replaced

    def remove(self, key: Any) -> None:
        """Forget a member whose frame is gone; unknown keys are ignored."""
        for i, member in enumerate(self._members):
            if member.key == key:
                del self._members[i]
                self._points = np.delete(self._points, i, axis=0)
                self._between = None
                return

    def _append(self, member: _Member, point: NDArray[np.float32]) -> None:
        self._members.append(member)
        points = self._points if len(self._points) else np.empty((0, len(point)), np.float32)
        self._points = np.concatenate([points, point[None]])
        self._between = None

    def _distances(self, point: NDArray[np.float32]) -> NDArray[np.float32]:
        if not len(self._points):
            return np.empty(0, np.float32)
        return np.sqrt(((self._points - point) ** 2).sum(axis=1))

    def _nearest(self) -> NDArray[np.float32]:
        """Return (n,) the distance of each member to its nearest neighbour."""
        if self._between is None:
            self._between = nearest_distances(self._points)
        return self._between

    def _typical(self) -> float:
        """Return the distance at which a frame is as new as the members are to each other."""
        return float(np.median(self._nearest())) if len(self._members) > 1 else 0.0
