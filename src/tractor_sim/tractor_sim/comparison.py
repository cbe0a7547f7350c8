"""Two drivers in the same worlds: how far, what they hit, and is the difference more than chance?

Each world is driven by both from the same start with the same noise of the sensors, so the
differences are paired. Their confidence intervals are bootstrap percentiles over the worlds (Efron
and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 10_000
# Worlds in which the metres differ by more than this share are named.
DIFFERS_BY = 0.1
_MOST_NAMED = 10


class Driven(Protocol):
    """What a run in one world came to."""

    @property
    def seed(self) -> int:
        """Of the world."""

    @property
    def distance_m(self) -> float:
        """Metres driven."""

    @property
    def collisions(self) -> int:
        """How often it ran into something."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """Means of both, and of second minus first with its confidence interval."""

    first: float
    second: float
    mean: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two drivers, by name, in the same worlds; (worlds,) metres and collisions of each.

    `distance_m` and `collisions` are means a world.
    """

    names: tuple[str, str]
    seeds: tuple[int, ...]
    metres: tuple[NDArray[np.float64], NDArray[np.float64]]
    hits: tuple[NDArray[np.int64], NDArray[np.int64]]
    distance_m: Difference
    collisions: Difference

    @property
    def differing(self) -> list[int]:
        """Indices of the worlds where they differ: in what they hit, or much in metres."""
        first, second = self.metres
        apart = np.abs(second - first) > DIFFERS_BY * np.maximum(first, second)
        return np.flatnonzero(apart | (self.hits[0] != self.hits[1])).tolist()

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "drivers": list(self.names),
            "confidence": CONFIDENCE,
            "distance_m": dataclasses.asdict(self.distance_m),
            "collisions": dataclasses.asdict(self.collisions),
            "worlds": [
                {
                    "seed": seed,
                    "distance_m": [float(metres[i]) for metres in self.metres],
                    "collisions": [int(hits[i]) for hits in self.hits],
                }
                for i, seed in enumerate(self.seeds)
            ],
        }


def compare(
    names: tuple[str, str], first: Sequence[Driven], second: Sequence[Driven]
) -> Comparison:
    """Compare the runs of two drivers, one each in every world, in the same order.

    Raises:
        ValueError: they are not of the same worlds.
    """
    seeds = tuple(run.seed for run in first)
    if not seeds or seeds != tuple(run.seed for run in second):
        raise ValueError("expected one run of each driver in every world")
    metres = [np.array([run.distance_m for run in runs]) for runs in (first, second)]
    hits = [np.array([run.collisions for run in runs], np.int64) for runs in (first, second)]
    return Comparison(
        names, seeds, (metres[0], metres[1]), (hits[0], hits[1]),
        difference(metres[0], metres[1]), difference(hits[0].astype(float), hits[1].astype(float)),
    )  # fmt: skip


def difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> Difference:
    """Return the mean of the paired differences of (n,) values, with its confidence interval."""
    apart = second - first
    rng = np.random.default_rng(0)
    means = apart[rng.integers(len(apart), size=(RESAMPLES, len(apart)))].mean(axis=1)
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(means, [tail, 100.0 - tail])
    mean = float(apart.mean())
    return Difference(float(first.mean()), float(second.mean()), mean, float(low), float(high))


def table(found: Comparison) -> str:
    """Return the comparison as text for a terminal."""
    first, second = found.names
    worlds = len(found.seeds)
    width = max(12, len(first) + 2, len(second) + 2)
    share = found.distance_m.mean / found.distance_m.first if found.distance_m.first else math.nan
    free = [int((hits == 0).sum()) for hits in found.hits]
    lines = [
        f"{worlds} worlds, second minus first with its {CONFIDENCE:.0%} confidence interval",
        f"{'':24}{first:>{width}}{second:>{width}}",
        _row("metres, mean", found.distance_m, width) + f", {share:+.1%}",
        _row("collisions a world", found.collisions, width),
        f"{'worlds without any':24}{free[0]:{width}}{free[1]:{width}}",
    ]
    differing = found.differing
    lines.append(
        f"worlds where they differ, in collisions or by more than {DIFFERS_BY:.0%} of the metres: "
        f"{len(differing)}"
    )
    lines += [
        f"  world {found.seeds[i]}: {found.metres[0][i]:.2f} and {found.metres[1][i]:.2f} m, "
        f"{found.hits[0][i]} and {found.hits[1][i]} collisions"
        for i in differing[:_MOST_NAMED]
    ]
    if len(differing) > _MOST_NAMED:
        lines.append(f"  and {len(differing) - _MOST_NAMED} more: --json")
    return "\n".join(lines)


def _row(name: str, found: Difference, width: int) -> str:
    return (
        f"{name:24}{found.first:{width}.2f}{found.second:{width}.2f}"
        f"   {found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})"
    )


def plot(found: Comparison, path: Path) -> None:
    """Write a picture, .png or .svg: each world's metres, second driver over first.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 5.0), layout="constrained")
    axes = figure.subplots()
    first, second = found.metres
    most = 1.05 * max(1.0, float(first.max()), float(second.max()))
    axes.plot([0, most], [0, most], "--", color="#9aa7b4", linewidth=1)
    hit = (found.hits[0] > 0) | (found.hits[1] > 0)
    for chosen, colour, label in (
        (~hit, "#1667b7", f"no collision: {int((~hit).sum())} worlds"),
        (hit, "#c1121f", f"one of them, or both, collided: {int(hit.sum())} worlds"),
    ):
        there = first[chosen], second[chosen]
        axes.plot(*there, "o", color=colour, markersize=5, alpha=0.7, label=label)
    axes.set(
        title=f"metres in {len(first)} worlds", xlabel=found.names[0], ylabel=found.names[1],
        xlim=(0, most), ylim=(0, most), aspect="equal",
    )  # fmt: skip
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=144)
