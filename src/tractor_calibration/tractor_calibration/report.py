"""The page MODEL.report.html, and what all reports share.

A report is one self-contained file: no scripts, no pictures from elsewhere.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import ACTION_NAMES, Contract
from tractor_core.samples import Sample
from tractor_core.text import printable

from . import ladder, validation
from .toolkit_child import Build

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em;
       color: #1c2733; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; } td, th { padding: .3em .9em; text-align: right;
       border-bottom: 1px solid #d8dee5; } td:first-child, th:first-child { text-align: left; }
.facts td, .facts th, .text, .why td:last-child, .why th:last-child { text-align: left; }
figure { display: inline-block; margin: 0 1.5em 1em 0; } figcaption { text-align: center; }
svg { background: #f7f9fb; } .axis { stroke: #9aa7b4; } .ideal { stroke: #9aa7b4;
       stroke-dasharray: 4 3; } .dot { fill: #1667b7; fill-opacity: .55; }
img { max-width: 100%; margin: .8em 0; } .few { color: #a4460c; }
.bar { display: inline-block; height: .7em; background: #1667b7; }
text { font-size: 11px; fill: #5a6875; } code { background: #f0f3f6; padding: 0 .25em; }
"""
_SIZE, _MARGIN = 260, 30
_BINS, _WORST = 25, 3
_DPI = 110


def plain(text: object) -> str:
    """Return a plain text of any origin as HTML."""
    return html.escape(printable(text))


def table_row(tag: str, cells: Iterable[str]) -> str:
    """Return a row of a table; `tag` is td or th, the cells are plain text."""
    return "<tr>" + "".join(f"<{tag}>{plain(c)}</{tag}>" for c in cells) + "</tr>"


def page(title: str, body: str) -> str:
    """Return a whole page; `title` is plain text, `body` HTML."""
    title = plain(title)
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
    return f'<img alt="{plain(alt)}" src="data:image/png;base64,{encoded}">'


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
        f"</svg><figcaption>{plain(caption)}</figcaption></figure>"
    )


def _histogram(errors: NDArray[np.floating], caption: str) -> str:
    """Draw how many frames have which error of an action, with 0.05 where errors reach it."""
    highest = max(1e-4, 1.05 * float(errors.max()))
    counts, edges = np.histogram(errors, bins=_BINS, range=(0.0, highest))
    inner = _SIZE - 2 * _MARGIN

    def x(error: float) -> float:
        return round(_MARGIN + error / highest * inner, 1)

    width = inner / _BINS
    bars = "".join(
        f'<rect class="dot" x="{x(edge)}" y="{round(_SIZE - _MARGIN - height, 1)}" '
        f'width="{width - 1:.1f}" height="{height:.1f}"/>'
        for edge, height in zip(edges, counts / counts.max() * inner)
    )
    low, top, limit = _SIZE - _MARGIN, _MARGIN, x(validation.WITHIN)
    line = (
        f'<line class="ideal" x1="{limit}" y1="{low}" x2="{limit}" y2="{top}"/>'
        f'<text x="{limit + 4}" y="{top}">{validation.WITHIN}</text>'
        if highest > validation.WITHIN
        else ""
    )
    return (
        f'<figure><svg width="{_SIZE}" height="{_SIZE}" viewBox="0 0 {_SIZE} {_SIZE}" role="img">'
        f'{bars}<line class="axis" x1="{_MARGIN}" y1="{low}" x2="{_SIZE - _MARGIN}" y2="{low}"/>'
        f'{line}<text x="{_MARGIN}" y="{low + 14}">0</text>'
        f'<text x="{_SIZE - _MARGIN}" y="{low + 14}" text-anchor="end">{highest:.2g}</text>'
        f'<text x="{_MARGIN}" y="{top - 12}">up to {counts.max()} of {len(errors)} frames</text>'
        f"</svg><figcaption>{plain(caption)}</figcaption></figure>"
    )


def _grid_picture(bev: NDArray[np.floating]) -> str:
    """Return both channels of a grid as one <img>: LiDAR blue, depth orange, the robot red."""
    import cv2

    picture = np.full((*bev.shape[1:], 3), 250, np.uint8)
    picture[bev[1] > 0] = (30, 119, 230)
    picture[bev[0] > 0] = (183, 103, 22)
    middle = bev.shape[1] // 2
    picture[middle - 2 : middle + 2, middle - 2 : middle + 2] = (28, 18, 193)
    picture = picture.repeat(2, axis=0).repeat(2, axis=1)
    encoded = base64.b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode()
    return f'<img alt="grid: LiDAR blue, depth orange" src="data:image/png;base64,{encoded}">'


def _worst_frames(
    contract: Contract,
    frames: Sequence[Sample],
    reference: NDArray[np.floating],
    actions: NDArray[np.floating],
) -> str:
    """Draw the frames with the largest errors, with what the network saw and answered."""
    errors = np.abs(actions - reference).max(axis=1)
    figures = []
    for i in np.argsort(-errors, kind="stable")[:_WORST]:
        features = zip(contract.proprio_names, frames[i].proprio)
        facts = [f"error {errors[i]:.3f}"]
        facts += [
            f"{name}: ONNX {onnx:+.3f}, model {model:+.3f}"
            for name, onnx, model in zip(
                ACTION_NAMES[contract.action_space], reference[i], actions[i]
            )
        ]
        facts += [f"{name} {value:.2f}" for name, value in features]
        lines = "<br>".join(plain(fact) for fact in facts)
        figures.append(
            f"<figure>{_grid_picture(frames[i].bev)}<figcaption>{lines}</figcaption></figure>"
        )
    return "".join(figures)


def _row(name: str, build: Mapping[str, Any], sizes: bool = True) -> list[str]:
    """Return a build, or with `sizes` false one of its actions, as a row of the first table."""
    return [
        name,
        *((f"{build['bytes'] / 1e6:.2f}", f"{build['simulator_ms']:.1f}") if sizes else ("", "")),
        *(f"{build[key]:.4f}" for key in ("mae", "p99", "max")),
        f"{build['sqnr_db']:.1f}",
        f"{build['within_0_05']:.1%}",
        f"{build['r2']:.4f}",
        f"{build['sign_agreement']:.1%}",
    ]


def _gate_row(name: str, gates: Mapping[str, float], kind: str) -> list[str]:
    """Return the limits of passing or failing as a row of the first table."""
    limits = [
        ("max_mae", "{:.4f}"), ("max_p99", "{:.4f}"), ("max_error", "{:.4f}"),
        ("min_sqnr_db", "{:.1f}"), ("min_within_0_05", "{:.1%}"), ("min_r2", "{:.4f}"),
        ("min_sign_agreement", "{:.1%}"),
    ]  # fmt: skip
    sign = {"pass": ("up to ", "from "), "fail": ("above ", "below ")}[kind]
    cells = [
        sign[limit.startswith("min")] + form.format(gates[f"{kind}_{limit}"])
        if f"{kind}_{limit}" in gates
        else ""
        for limit, form in limits
    ]
    return [name, "", "", *cells]


def _table(head: Sequence[str], rows: Iterable[Iterable[str]], style: str = "") -> str:
    body = "".join(table_row("td", row) for row in rows)
    return f"<table class='{style}'>{table_row('th', head)}{body}</table>"


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{plain(item)}</li>" for item in items) + "</ul>"


def render(
    result: Mapping[str, Any],
    contract: Contract,
    frames: Sequence[Sample],
    reference: NDArray[np.floating],
    build: Build,
) -> str:
    """Return the page of one conversion.

    Args:
        result: as `conversion.convert` returns it.
        contract: names of what the network sees and answers.
        frames: the validation frames.
        reference: (n, 2) actions of onnxruntime on them.
        build: the model that the page is about.
    """
    proved, counts = result["validation"], result["samples"]
    actions = build.actions
    precision = result["precision"].upper()
    facts = [
        ("Model", f"{result['model']} ({precision}, {result['target']})"),
        ("Verdict", f"{proved['verdict'].upper()}, on {proved['frames']} {proved['source']}"),
        *(("", reason) for reason in proved["reasons"]),
        ("Built by", f"rknn-toolkit2 {result['toolkit']}, {ladder.words(proved['rung'])}"),
        ("ONNX", result["onnx"]),
        ("Samples found / usable", f"{counts['found']} / {counts['usable']}"),
        ("Samples that calibrate", f"{counts['calibration']}, of {counts.get('pool', 0)}"),
    ]
    rows = [["ONNX", f"{result['onnx_bytes'] / 1e6:.2f}", *[""] * 8]]
    for name in ("fp16", "int8"):
        if name in proved:
            rows.append(_row("Float16" if name == "fp16" else "INT8", proved[name]))
            rows += [
                _row(f"- {action}", part, sizes=False)
                for action, part in zip(result["actions"], proved[name]["actions"])
            ]
    gates = result["gates"]
    if "int8" in proved:
        rows += [_gate_row("INT8 passes", gates, "pass"), _gate_row("INT8 fails", gates, "fail")]
    head = [
        "", "MB", "ms in the simulator", "MAE", "p99", "max", "SQNR dB", "within 0.05", "R2",
        "same sign",
    ]  # fmt: skip
    body = [
        f"<table class='facts'>{''.join(table_row('td', fact) for fact in facts)}</table>",
        _list(result["notes"]),
        f"<h2>{'Float16 against INT8' if 'int8' in proved else 'Float16 against the ONNX'}</h2>"
        "<p>Errors in units of the action, which spans -1 to 1, against onnxruntime, in the "
        "toolkit's simulator in the session that built the model. The simulator's time says "
        "nothing about the NPU's.</p>",
        _table(head, rows),
    ]
    if proved["attempts"]:
        body += [
            "<h2>What was tried</h2>",
            _table(
                ["rung", "frames", "verdict", "MAE", "max", "SQNR dB", "MB", "s", "why"],
                [_attempt_row(attempt) for attempt in proved["attempts"]],
                "why",
            ),
        ]
    if "int8" in proved:
        body += [
            "<h2>Coverage</h2>"
            f"<p>{counts['calibration']} frames were chosen to reach the extremes of every "
            f"activation that any of the {counts['pool']} reaches. Inputs beyond these ranges are "
            "counted while driving; diagnostics ask for a new calibration when they are many.</p>",
            _table(
                ["input", "lowest", "highest"],
                [
                    [name, f"{low:.3f}", f"{high:.3f}"]
                    for name, (low, high) in counts["ranges"].items()
                ],
            ),
        ]
    shown = [
        (f"{precision}, {action}", reference[:, i], actions[:, i])
        for i, action in enumerate(result["actions"])
    ]
    body += [
        "<h2>Distribution of the error</h2>",
        *(_histogram(np.abs(found - onnx), name) for name, onnx, found in shown),
        "<h2>Action by action</h2>",
        *(_scatter(onnx, found, name) for name, onnx, found in shown),
        "<h2>The worst frames</h2><p>Forward is up. LiDAR blue, depth orange, robot red.</p>",
        _worst_frames(contract, frames, reference, actions),
    ]
    if build.options.algorithm:
        body.append(
            "<h2>Layer by layer</h2><p>On the worst frame, by the toolkit's accuracy_analysis: "
            "cosine similarity and Euclidean distance to the float network, all layers before "
            "quantised as well.</p>"
        )
        layers = [[x.name, f"{x.cosine:.5f}", f"{x.distance:.5f}"] for x in build.layers]
        why = plain(build.no_layers or "the toolkit's table names no layer")
        body.append(_table(["layer", "cosine", "distance"], layers) if layers else f"<p>{why}</p>")
    if counts["rejected"]:
        body += ["<h2>Excluded samples</h2>", _list(counts["rejected"])]
    return page(f"Conversion of {result['onnx'].rsplit('/', 1)[-1]}", "".join(body))


def _attempt_row(attempt: Mapping[str, Any]) -> list[str]:
    start = [ladder.words(attempt["rung"]), str(attempt["calibration_frames"])]
    if "problem" in attempt:
        return [*start, "-", "", "", "", "", "", attempt["problem"]]
    return [
        *start,
        attempt["verdict"],
        f"{attempt['mae']:.4f}",
        f"{attempt['max']:.3f}",
        f"{attempt['sqnr_db']:.1f}",
        f"{attempt['bytes'] / 1e6:.2f}",
        f"{attempt['build_seconds']:.1f}",
        "; ".join(attempt["reasons"]),
    ]
