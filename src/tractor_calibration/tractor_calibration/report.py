"""The page MODEL.report.html: one self-contained file, no scripts, no pictures from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em;
       color: #1c2733; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; } td, th { padding: .3em .9em; text-align: right;
       border-bottom: 1px solid #d8dee5; } td:first-child, th:first-child { text-align: left; }
.facts td { text-align: left; }
figure { display: inline-block; margin: 0 1.5em 1em 0; } figcaption { text-align: center; }
svg { background: #f7f9fb; } .axis { stroke: #9aa7b4; } .ideal { stroke: #9aa7b4;
       stroke-dasharray: 4 3; } .dot { fill: #1667b7; fill-opacity: .55; }
text { font-size: 11px; fill: #5a6875; } code { background: #f0f3f6; padding: 0 .25em; }
"""
_SIZE, _MARGIN = 260, 30


def _line(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"


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
    title = html.escape(f"Conversion of {result['onnx'].rsplit('/', 1)[-1]}")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f"<table class='facts'>{''.join(_line('td', fact) for fact in facts)}</table>"
        f"<ul>{notes}</ul>"
        + (f"<h2>Excluded samples</h2><ul>{excluded}</ul>" if excluded else "")
        + "<h2>Agreement with the ONNX</h2>"
        "<p>Errors in units of the action, which spans -1 to 1. The actions are those of the "
        "toolkit's simulator in the session that built the model; they were finite, the same "
        "twice, and not constant.</p>"
        f"<table>{_line('th', head)}{''.join(_line('td', row) for row in rows)}</table>"
        f"<h2>Action by action</h2>{''.join(plots)}"
        "</body></html>\n"
    )
