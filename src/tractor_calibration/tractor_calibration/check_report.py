"""The page of `check --html`: what the samples hold, what they lack, and why the grade."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_core.text import printable
from tractor_inference.sampler import ENOUGH_IN_REGION

from .quality import ALIKE, GOOD_SAMPLES, Survey
from .report import draw_channels, page, plain, plot, table_row

_UNITS = {"lidar_min": "m", "cur_lin": "m/s", "cur_ang": "rad/s"}
_COLOUR, _GAP_COLOUR = "#1667b7", "#c1121f"
_MOST_LEGEND = 8
_MOST_LISTED = 100


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


def _table(head: list[str], rows: list[list[str]], kind: str = "") -> str:
    body = "".join(table_row("td", cells) for cells in rows)
    return f"<table class='{kind}'>{table_row('th', head) if head else ''}{body}</table>"


def _histograms(found: Survey) -> str:
    names = found.contract.proprio_names

    def draw(all_axes: Any) -> None:
        for axes, name, values in zip(all_axes, names, found.proprio.T):
            axes.hist(values, bins=30, color=_COLOUR)
            unit = f", {_UNITS[name]}" if name in _UNITS else ""
            axes.set(title=f"{name}{unit}", ylabel="samples")
            axes.yaxis.get_major_locator().set_params(integer=True)

    return plot(draw, (10.0, 5.4), "histogram of each feature", rows=2, columns=3)


def _occupancy(found: Survey) -> str:
    def draw(all_axes: Any) -> None:
        draw_channels(all_axes, found.occupancy, found.contract.grid_extent_m)
        for axes, channel in zip(all_axes, found.occupancy):
            # A few cells are far above the others, which would not be seen beside them.
            image = axes.get_images()[0]
            image.set_clim(0.0, np.quantile(channel[channel > 0.0], 0.98) if channel.any() else 1.0)
            bar = axes.figure.colorbar(image, ax=axes, shrink=0.8, extend="max")
            bar.set_label("share of the samples")

    return plot(draw, (10.0, 4.4), "mean occupancy of each channel", columns=2)


def _map(found: Survey, lonely: list[dict[str, Any]]) -> str:
    places, shares = principal(found.points)
    sessions = sorted({*found.sessions})
    at = {file.name: i for i, file in enumerate(found.files)}

    def draw(all_axes: Any) -> None:
        (axes,) = all_axes
        look = {"s": 14, "alpha": 0.7, "linewidths": 0}
        if 1 < len(sessions) <= _MOST_LEGEND:
            of = np.array(found.sessions)
            for session in sessions:
                # The word, because matplotlib hides a label that begins with an underscore.
                label = f"session {printable(session)[:40] or '(none named)'}"
                axes.scatter(*places[of == session].T, label=label, **look)
            legend = axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
            for text in legend.get_texts():
                text.set_parse_math(False)
        else:
            order = np.arange(len(places))
            dots = axes.scatter(*places.T, c=order, cmap="viridis", **look)
            axes.figure.colorbar(dots, ax=axes).set_label("sample, in the order of names")
        for number, gap in enumerate(lonely, 1):
            spot = places[at[gap["file"]]]
            axes.scatter(*spot, s=110, facecolors="none", edgecolors=_GAP_COLOUR)
            axes.annotate(
                str(number), spot, (7, 5), textcoords="offset points", color=_GAP_COLOUR
            )  # fmt: skip
        axes.set_xlabel(f"first axis, {shares[0]:.0%} of the variance")
        axes.set_ylabel(f"second axis, {shares[1]:.0%}")

    return plot(draw, (10.0, 5.2), "the samples in the space of coverage, on two axes")


def _regions(counts: Mapping[str, Mapping[str, int]]) -> str:
    most = max(max(regions.values()) for regions in counts.values())
    rows = []
    for feature, regions in counts.items():
        for i, (region, count) in enumerate(regions.items()):
            kind = ' class="few"' if count < ENOUGH_IN_REGION else ""
            bar = f'<span class="bar" style="width:{20.0 * count / most:.2f}em"></span>'
            rows.append(
                f"<tr{kind}><td>{plain(feature) if i == 0 else ''}</td>"
                f'<td class="text">{plain(region)}</td><td>{count}</td>'
                f'<td class="text">{bar}</td></tr>'
            )
    head = '<tr><th></th><th class="text">region</th><th>samples</th><th></th></tr>'
    return f"<table>{head}{''.join(rows)}</table>"


def _gaps(result: Mapping[str, Any]) -> str:
    few = [[gap["region"], gap["feature"], str(gap["samples"])] for gap in result["few"]]
    lonely = [
        [str(i), gap["file"], f"{gap['distance']:.2f}", ", ".join(gap["regions"].values())]
        for i, gap in enumerate(result["lonely"], 1)
    ]
    parts = []
    if few:
        parts.append(
            f"<p>Regions with fewer than {ENOUGH_IN_REGION} samples:</p>"
            + _table(["region", "of", "samples"], few, "facts")
        )
    if lonely:
        parts.append(
            "<p>Situations that one sample stands for alone: the frames farthest from their "
            "nearest neighbour, ringed in the plot. More like them are worth most.</p>"
            + _table(["", "file", "distance", "where it lies"], lonely, "facts")
        )
    return "".join(parts) or "<p>None.</p>"


def _facts(result: Mapping[str, Any], found: Survey) -> str:
    distinct = result["distinct"]
    rows = [
        ["Folder", result["folder"]],
        ["Files", f"{result['found']} found, {result['usable']} usable"],
        [
            "Distinct",
            f"{distinct}{' or more' if distinct == GOOD_SAMPLES else ''} "
            f"(farther than {ALIKE:g} from each other in the space of coverage)",
        ],
        ["Repeated content", str(len(result["duplicates"]))],
        ["Sessions", str(len(result["sessions"]))],
        ["Contract", found.contract.digest],
    ]
    return _table([], rows, "facts")


def _values(result: Mapping[str, Any]) -> str:
    features = [
        [name, *(f"{f[key]:.3f}" for key in ("min", "mean", "max", "std"))]
        for name, f in result["features"].items()
    ]
    return _table(["", "least", "mean", "largest", "std"], features)


def _channels(result: Mapping[str, Any]) -> str:
    rows = [
        [name, f"{c['mean_occupancy']:.2%}", str(c["empty_samples"])]
        for name, c in result["channels"].items()
    ]
    return _table(["", "mean occupancy", "all-zero grids"], rows)


def render(result: Mapping[str, Any], found: Survey) -> str:
    """Return the page.

    Args:
        result: as `quality.describe` returns it.
        found: what it describes.
    """
    reasons = [
        ["note" if f["grade"] == "good" else f["grade"], f["reason"], f["advice"]]
        for f in result["findings"]
    ]
    sessions = [[name or "(none named)", str(n)] for name, n in result["sessions"].items()]
    unusable = [[*pair] for pair in result["unusable"].items()]
    parts = [
        _facts(result, found),
        "<h2>Reasons, and what to do next</h2>",
        _table(["", "reason", "what to do"], reasons, "facts")
        if reasons else "<p>Nothing is missing.</p>",
    ]  # fmt: skip
    if found.files:
        parts += [
            f"<h2>Worst gaps</h2>{_gaps(result)}",
            "<h2>Map</h2><p>Near means alike: proprioception and the occupied share of each part "
            f"of the grid, on the two axes along which the samples vary most.</p>"
            f"{_map(found, result['lonely'])}",
            f"<h2>Features</h2>{_values(result)}{_histograms(found)}",
            "<h2>Mean occupancy</h2><p>The rover is at the centre, forward is up.</p>"
            f"{_channels(result)}{_occupancy(found)}",
            f"<h2>Regions</h2>{_regions(result['regions'])}",
            f"<h2>Sessions</h2>{_table(['session', 'samples'], sessions)}",
        ]
    if unusable:
        more = len(unusable) - _MOST_LISTED
        parts.append(
            f"<h2>Files that cannot be used</h2>"
            f"{_table(['file', 'reason'], unusable[:_MOST_LISTED], 'facts')}"
            + (f"<p>and {more} more: --json lists all.</p>" if more > 0 else "")
        )
    return page(f"Calibration samples: {result['grade']}", "".join(parts))
