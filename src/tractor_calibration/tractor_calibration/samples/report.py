"""The page of `check --html`: what the samples hold, what they lack, and why the grade."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_core.diversity import ENOUGH_IN_REGION
from tractor_core.text import printable

from ..pages import page, plots
from .quality import ALIKE, GOOD_SAMPLES
from .survey import Survey

TEMPLATE = "tractor_calibration/samples/report.html"
# {grade: (the colour of the verdict, what it means)}
_MEANINGS = {
    "good": ("pass", "the set is worth quantising with"),
    "fair": ("warn", "the set is worth quantising with, and lacks what is listed below"),
    "poor": ("fail", "the set is not worth quantising with yet"),
}
_UNITS = {"lidar_min": "m", "cur_lin": "m/s", "cur_ang": "rad/s"}
_MAP_IN, _OCCUPANCY_IN = (5.0, 4.8), (4.6, 4.0)
_BINS = 30
_MOST_LEGEND = 8
_MOST_LISTED = 100


def render(result: Mapping[str, Any], found: Survey) -> str:
    """Return the page.

    Args:
        result: as `quality.describe` returns it.
        found: what it describes.
    """
    tone, meaning = _MEANINGS[result["grade"]]
    distinct = f"{result['distinct']}{' or more' if result['distinct'] == GOOD_SAMPLES else ''}"
    return page.render(
        TEMPLATE,
        title=f"Calibration samples: {result['grade']}",
        tone=tone,
        verdict=(
            f"{result['grade'].upper()}: {result['usable']} of {result['found']} samples can be "
            f"used, {distinct} of them distinct; {meaning}."
        ),
        facts=[
            ("Folder", result["folder"]),
            ("Files", f"{result['found']} found, {result['usable']} usable"),
            (
                "Distinct",
                f"{distinct} (farther than {ALIKE:g} from each other in the feature space)",
            ),
            ("Repeated content", len(result["duplicates"])),
            ("Sessions", len(result["sessions"])),
            ("Contract", found.contract.digest),
        ],
        reasons=[
            ("note" if f["grade"] == "good" else f["grade"], f["reason"], f["advice"])
            for f in result["findings"]
        ],
        usable=len(found.files),
        unusable=[*result["unusable"].items()],
        most_listed=_MOST_LISTED,
        **(_of_the_usable(result, found) if found.files else {}),
    )


def _of_the_usable(result: Mapping[str, Any], found: Survey) -> dict[str, Any]:
    """Return what the page shows of samples that can be used."""
    return {
        "enough": ENOUGH_IN_REGION,
        "few": [(gap["region"], gap["feature"], gap["samples"]) for gap in result["few"]],
        "outliers": [
            (i, gap["file"], f"{gap['distance']:.2f}", ", ".join(gap["regions"].values()))
            for i, gap in enumerate(result["outliers"], 1)
        ],
        "map": _map(found, result["outliers"]),
        "features": [
            (label, *(f"{f[key]:.3f}" for key in ("min", "mean", "max", "std")))
            for label, f in zip(found.contract.proprio_labels, result["features"].values())
        ],
        "histograms": [
            _histogram(name, label, values)
            for name, label, values in zip(
                found.contract.proprio_names, found.contract.proprio_labels, found.proprio.T
            )
        ],
        "channels": [
            (name, f"{c['mean_occupancy']:.2%}", c["empty_samples"])
            for name, c in result["channels"].items()
        ],
        "occupancy": [
            _occupancy(name, channel, found.contract.grid_extent_m)
            for name, channel in zip(plots.CHANNELS, found.occupancy)
        ],
        "regions": result["regions"],
        "most": max(max(regions.values()) for regions in result["regions"].values()),
        "sessions": [(name or "(none named)", n) for name, n in result["sessions"].items()],
    }


def principal(points: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Project points (n, d), n at least 1, on the two axes along which they vary most.

    Returns:
        (n, 2) positions and (2,) the shares of the variance that the axes hold. The largest weight
        of an axis is positive, so that equal points give equal plots.
    """
    centred = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, :-3:-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    total = values.sum()
    return centred @ axes, values[:-3:-1] / (total if total > 0.0 else 1.0)


def _histogram(name: str, label: str, values: NDArray[np.floating]) -> plots.Picture:
    title = f"{label}, {_UNITS[name]}" if name in _UNITS else label

    def draw(axes: Any) -> None:
        plots.draw_histogram(axes, {"samples": values}, title, "samples", _BINS)

    return plots.plot(draw, plots.SMALL, f"histogram of {title}")


def _occupancy(name: str, cells: NDArray[np.floating], extent_m: float) -> plots.Picture:
    def draw(axes: Any) -> None:
        image = plots.draw_grid(axes, cells, extent_m, f"channel {name}")
        # A few cells are far above the others, which would not be seen beside them.
        image.set_clim(0.0, np.quantile(cells[cells > 0.0], 0.98) if cells.any() else 1.0)
        bar = axes.figure.colorbar(image, ax=axes, shrink=0.8, extend="max")
        bar.set_label("share of the samples")

    return plots.plot(draw, _OCCUPANCY_IN, f"mean occupancy of channel {name}", beside=True)


def _map(found: Survey, outliers: list[dict[str, Any]]) -> plots.Picture:
    places, shares = principal(found.points)
    sessions = sorted({*found.sessions})
    at = {file.name: i for i, file in enumerate(found.files)}

    def draw(axes: Any) -> None:
        look = {"s": 14, "alpha": 0.7, "linewidths": 0}
        if 1 < len(sessions) <= _MOST_LEGEND:
            of = np.array(found.sessions)
            for session in sessions:
                # The word, because matplotlib hides a label that begins with an underscore.
                label = f"session {printable(session)[:40] or '(none named)'}"
                axes.scatter(*places[of == session].T, label=label, **look)
            legend = axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False)
            for text in legend.get_texts():
                text.set_parse_math(False)
        else:
            order = np.arange(len(places))
            dots = axes.scatter(*places.T, c=order, cmap="viridis", **look)
            bar = axes.figure.colorbar(dots, ax=axes, location="bottom", shrink=0.8)
            bar.set_label("sample, in the order of names")
        for number, gap in enumerate(outliers, 1):
            spot = places[at[gap["file"]]]
            axes.scatter(*spot, s=110, facecolors="none", edgecolors=plots.RED)
            axes.annotate(str(number), spot, (7, 5), textcoords="offset points", color=plots.RED)
        axes.set_xlabel(f"first axis, {shares[0]:.0%} of the variance")
        axes.set_ylabel(f"second axis, {shares[1]:.0%}")

    alt = "the samples in the feature space, on two axes"
    return plots.plot(draw, _MAP_IN, alt, beside=True)
