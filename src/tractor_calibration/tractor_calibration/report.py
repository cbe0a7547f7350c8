"""The page MODEL.report.html, and what all reports share.

A report is one self-contained file: no scripts, no pictures from elsewhere.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em;
       color: #1c2733; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; } td, th { padding: .3em .9em; text-align: right;
       border-bottom: 1px solid #d8dee5; } td:first-child, th:first-child { text-align: left; }
.facts td, .facts th, .text { text-align: left; }
figure { display: inline-block; margin: 0 1.5em 1em 0; } figcaption { text-align: center; }
svg { background: #f7f9fb; } .axis { stroke: #9aa7b4; } .ideal { stroke: #9aa7b4;
       stroke-dasharray: 4 3; } .dot { fill: #1667b7; fill-opacity: .55; }
img { max-width: 100%; margin: .8em 0; } .few { color: #a4460c; }
.bar { display: inline-block; height: .7em; background: #1667b7; }
text { font-size: 11px; fill: #5a6875; } code { background: #f0f3f6; padding: 0 .25em; }
"""
_SIZE, _MARGIN = 260, 30
_DPI = 110


def printable(text: str) -> str:
    """Return a text of unknown origin without what a terminal or a file would not take."""
    return text if text.isprintable() else ascii(text)[1:-1]


def table_row(tag: str, cells: Iterable[str]) -> str:
    """Return a row of a table; `tag` is td or th, the cells are plain text."""
    return "<tr>" + "".join(f"<{tag}>{html.escape(printable(c))}</{tag}>" for c in cells) + "</tr>"


def page(title: str, body: str) -> str:
    """Return a whole page; `title` is plain text, `body` HTML."""
    title = html.escape(title)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>{body}</body></html>\n"
    )


def plot(
    draw: Callable[[Any], None],
    size_in: tuple[float, float],
    alt: str,
    rows: int = 1,
    columns: int = 1,
) -> str:
    """Draw with matplotlib and return an <img> that needs no other file.

    Args:
        draw: is given the axes, row by row.
        size_in: width and height, inch.
        alt: says what is drawn.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size_in, layout="constrained")
    draw(figure.subplots(rows, columns, squeeze=False).ravel())
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=_DPI)
    encoded = base64.b64encode(data.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{encoded}">'


def draw_channels(all_axes: Iterable[Any], bev: NDArray[np.floating], extent_m: float) -> None:
    """Draw both channels of a grid (2, cells, cells), x forward up, y left to the left."""
    half = extent_m / 2
    for axes, channel, name in zip(all_axes, bev, ("0: LiDAR", "1: depth")):
        axes.imshow(channel, cmap="Greys", extent=(half, -half, -half, half), vmin=0, vmax=1)
        axes.plot(0, 0, "^", color="#c1121f", markersize=9)
        axes.set(title=f"channel {name}", xlabel="y, m (left positive)", ylabel="x, m (forward)")


def _scatter(reference: NDArray[np.floating], actions: NDArray[np.floating], caption: str) -> str:
    """Draw ONNX (x) against the build (y), both -1..1, with the line where they are equal."""
    inner = _SIZE - 2 * _MARGIN

    def place(value: float) -> float:
        return round(_MARGIN + (float(value) + 1.0) / 2.0 * inner, 1)

    low, middle, high = place(-1.0), place(0.0), place(1.0)
    dots = "".join(
        f'<circle class="dot" cx="{place(x)}" cy="{_SIZE - place(y)}" r="2.5"/>'
        for x, y in zip(reference, actions)
    )
    return (
        f'<figure><svg width="{_SIZE}" height="{_SIZE}" viewBox="0 0 {_SIZE} {_SIZE}" role="img">'
        f'<line class="axis" x1="{low}" y1="{middle}" x2="{high}" y2="{middle}"/>'
        f'<line class="axis" x1="{middle}" y1="{low}" x2="{middle}" y2="{high}"/>'
        f'<line class="ideal" x1="{low}" y1="{high}" x2="{high}" y2="{low}"/>{dots}'
        f'<text x="{high}" y="{middle - 5}" text-anchor="end">ONNX +1</text>'
        f'<text x="{middle + 5}" y="{low - 8}">model +1</text>'
        f"</svg><figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _row(name: str, megabytes: str, figures: Mapping[str, float]) -> list[str]:
    return [
        name,
        megabytes,
        *(f"{figures[key]:.5f}" for key in ("mae", "p99", "max")),
        f"{figures['sqnr_db']:.1f}",
        f"{figures['within_0_05']:.1%}",
    ]


def render(
    result: Mapping[str, Any],
    reference: NDArray[np.floating],
    actions: Mapping[str, NDArray[np.floating]],
) -> str:
    """Return the page of one conversion.

    Args:
        result: as `conversion.convert` returns it.
        reference: (n, 2) actions of onnxruntime on the validation frames.
        actions: (n, 2) actions of each build, by precision.
    """
    proved, counts = result["validation"], result["samples"]
    blank = [""] * 5
    rows = [["ONNX", f"{result['onnx_bytes'] / 1e6:.2f}", *blank]]
    for name in actions:
        build = proved[name]
        rows.append(_row(name.upper(), f"{build['bytes'] / 1e6:.2f}", build))
        rows += [
            _row(f"- {action}", "", part)
            for action, part in zip(result["actions"], build["actions"])
        ]
    facts = [
        ("Model", f"{result['model']} ({result['precision'].upper()}, {result['target']})"),
        ("ONNX", result["onnx"]),
        ("rknn-toolkit2", result["toolkit"]),
        ("Samples found / usable", f"{counts['found']} / {counts['usable']}"),
        ("Samples that calibrate", str(counts["calibration"])),
        ("Validated on", f"{proved['frames']} {proved['source']}"),
    ]
    plots = [
        "<div>"
        + "".join(
            _scatter(reference[:, i], found[:, i], f"{name.upper()}, {action}")
            for i, action in enumerate(result["actions"])
        )
        + "</div>"
        for name, found in actions.items()
    ]
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in result["notes"])
    excluded = "".join(f"<li>{html.escape(reason)}</li>" for reason in counts["rejected"])
    head = ["", "MB", "MAE", "p99", "max", "SQNR dB", "within 0.05"]
    return page(
        f"Conversion of {result['onnx'].rsplit('/', 1)[-1]}",
        f"<table class='facts'>{''.join(table_row('td', fact) for fact in facts)}</table>"
        f"<ul>{notes}</ul>"
        + (f"<h2>Excluded samples</h2><ul>{excluded}</ul>" if excluded else "")
        + "<h2>Agreement with the ONNX</h2>"
        "<p>Errors in units of the action, which spans -1 to 1. The actions are those of the "
        "toolkit's simulator in the session that built the model; they were finite, the same "
        "twice, and not constant.</p>"
        f"<table>{table_row('th', head)}{''.join(table_row('td', row) for row in rows)}</table>"
        f"<h2>Action by action</h2>{''.join(plots)}",
    )
