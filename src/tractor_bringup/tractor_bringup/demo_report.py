"""What the demo found: summary, table, and a self-contained page with plots."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_calibration.report import draw_channels, plain, plot
from tractor_core import samples
from tractor_core.contract import ACTION_NAMES, Contract, normalize
from tractor_core.text import printable_rows
from tractor_inference.backends import open_backend

COLOURS = {"onnx": "#1f5fa8", "int8": "#d9741a"}
NAMES = {"onnx": "ONNX", "int8": "INT8"}
# The second drive is drawn over the first, which must still be seen.
LINE_WIDTHS = {"onnx": 4.0, "int8": 1.5}
PAGE_WIDTH_IN = 10.0


@dataclasses.dataclass
class Drive:
    """One drive with one model: a result per world, latencies (ms) of every moving command.

    `actor_log` is what the actor printed, `drift` its advice to recalibrate, empty when none.
    """

    runs: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    latencies_ms: list[float] = dataclasses.field(default_factory=list)
    actor_log: Path = Path()
    drift: str = ""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Both drives, the conversion's result, and both models' actions on every kept sample.

    `actions` holds (n, 2) float32 per label; `bev` is one kept grid (2, cells, cells).
    """

    conversion: dict[str, Any]
    drives: dict[str, Drive]
    actions: dict[str, NDArray[np.float32]]
    bev: NDArray[np.float32]
    samples: int


@contextlib.contextmanager
def stderr_to(path: Path) -> Iterator[None]:
    """Append what this process prints on stderr, native code included, to a file."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with path.open("ab") as log:
            os.dup2(log.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)


def compare(
    contract: Contract,
    output: Path,
    actor: Path,
    conversion: dict[str, Any],
    drives: dict[str, Drive],
) -> Comparison:
    """Run both models over the kept samples, beside what was measured while driving.

    Args:
        contract: of the models and the samples.
        output: the demo's folder, with calibration_data/ and logs/.
        actor: the ONNX file.
        conversion: what the converter printed.
        drives: by label, `onnx` and `int8`.
    """
    files = samples.list_files(output / "calibration_data")
    frames = [samples.read(path, contract) for path in files]
    actions = {}
    for label, kind, model in (
        ("onnx", "onnx", actor),
        ("int8", "rknn_sim", Path(conversion["model"])),
    ):
        # The toolkit prints pages while it builds.
        with stderr_to(output / "logs" / "compare.log"):
            backend = open_backend(kind, model, contract)
            outputs = [
                backend.infer(f.bev[None], normalize(contract, f.proprio)[None]) for f in frames
            ]
            backend.close()
        actions[label] = np.concatenate(outputs)
    busiest = max(frames, key=lambda f: min(f.bev[0].sum(), f.bev[1].sum()))
    return Comparison(conversion, drives, actions, busiest.bev, len(frames))


def summarise(found: Comparison, seconds: float) -> dict[str, Any]:
    """Return the figures as plain JSON types; metres and collisions are null for recordings."""
    validation = found.conversion["validation"]

    def total(label: str, key: str) -> Any:
        runs = [run for run in found.drives[label].runs if run]
        return round(sum(run[key] for run in runs), 3) if runs else None

    def percentile(label: str, q: float) -> float:
        return round(float(np.percentile(found.drives[label].latencies_ms, q)), 3)

    def both(function: Any, *args: Any) -> dict[str, Any]:
        return {label: function(label, *args) for label in NAMES}

    drifts = [
        f"while driving with {NAMES[label]} the actor said {driven.drift}"
        for label, driven in found.drives.items()
        if driven.drift
    ]
    return {
        "samples": found.samples,
        "calibrated_with": found.conversion["samples"]["calibration"],
        "onnx_bytes": found.conversion["onnx_bytes"],
        "fp16_bytes": validation["fp16"]["bytes"],
        "int8_bytes": validation["int8"]["bytes"],
        "int8_mae": validation["int8"]["mae"],
        "int8_max": validation["int8"]["max"],
        "int8_sqnr_db": validation["int8"]["sqnr_db"],
        "int8_within_0_05": validation["int8"]["within_0_05"],
        "verdict": validation["verdict"],
        "validated_on": f"{validation['frames']} {validation['source']}",
        "worlds": [run["world_seed"] for run in found.drives["onnx"].runs if run],
        "distance_m": both(total, "distance_m"),
        "collisions": both(total, "collisions"),
        "commands": both(lambda label: len(found.drives[label].latencies_ms)),
        "latency_ms_p50": both(percentile, 50),
        "latency_ms_p99": both(percentile, 99),
        "notes": [*found.conversion["notes"], *drifts],
        "seconds": round(seconds, 1),
    }


def rows(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the table: (what, ONNX, INT8)."""

    def pair(key: str, form: str) -> tuple[str, str]:
        onnx, int8 = (
            "-" if value is None else format(value, form) for value in summary[key].values()
        )
        return onnx, int8

    return [
        ("distance, m", *pair("distance_m", ".2f")),
        ("collisions", *pair("collisions", ".0f")),
        ("sensor stamp to command, p50 ms", *pair("latency_ms_p50", ".2f")),
        ("sensor stamp to command, p99 ms", *pair("latency_ms_p99", ".2f")),
        ("moving commands", *pair("commands", "d")),
        (
            "model size, MB (FP16 " + format(summary["fp16_bytes"] / 1e6, ".2f") + ")",
            format(summary["onnx_bytes"] / 1e6, ".2f"),
            format(summary["int8_bytes"] / 1e6, ".2f"),
        ),
        ("mean absolute error of the action", "-", format(summary["int8_mae"], ".4f")),
        ("largest error of the action", "-", format(summary["int8_max"], ".3f")),
        ("actions within 0.05", "-", format(summary["int8_within_0_05"], ".1%")),
        ("verdict of the conversion", "-", summary["verdict"]),
    ]


def table(summary: dict[str, Any]) -> str:
    """Return the table for a terminal."""
    lines = ["", f"{'':44}{'ONNX':>10}{'INT8':>10}"]
    lines += [f"{what:44}{onnx:>10}{int8:>10}" for what, onnx, int8 in rows(summary)]
    lines.append(
        f"kept {summary['samples']} samples, calibrated with {summary['calibrated_with']}, "
        f"validated on {summary['validated_on']}, {summary['seconds']:.0f} s in all"
    )
    lines += [f"note: {note}" for note in summary["notes"]]
    return printable_rows([*lines, ""])


def draw_world(axes: Any, seed: int) -> None:
    """Draw a simulated world from above: walls, obstacles by height, in metres."""
    from matplotlib.patches import Circle, Rectangle

    from tractor_sim.world import make_world

    for solid in make_world(seed).solids:
        colour = "#555555" if solid.top_m > 0.19 and solid.bottom_m < 0.19 else "#b08968"
        if solid.bottom_m > 0.0:
            colour = "#9db4c0"
        if solid.kind == "post":
            axes.add_patch(Circle((solid.x_m, solid.y_m), solid.half_length_m, color=colour))
            continue
        corner = (solid.x_m - solid.half_length_m, solid.y_m - solid.half_width_m)
        axes.add_patch(
            Rectangle(
                corner, 2 * solid.half_length_m, 2 * solid.half_width_m,
                angle=np.degrees(solid.yaw_rad), rotation_point="center", color=colour,
            )
        )  # fmt: skip
    axes.set_aspect("equal")
    axes.autoscale_view()


def _trajectories(found: Comparison) -> str:
    from tractor_sim.world import make_world

    seeds = [run["world_seed"] for run in found.drives["onnx"].runs if run]
    if not seeds:
        return (
            "<p>The recordings come from a sensor that was not driven by us: no trajectories.</p>"
        )

    half_m = 0.3 + max(max(w.length_m, w.width_m) for w in map(make_world, seeds)) / 2

    def draw(all_axes: Any) -> None:
        for i, axes in enumerate(all_axes):
            draw_world(axes, seeds[i])
            # All worlds at one scale.
            axes.set(xlim=(-half_m, half_m), ylim=(-half_m, half_m))
            for label, driven in found.drives.items():
                run = driven.runs[i]
                path = np.array(run["trajectory"])
                name = f"{NAMES[label]} {run['distance_m']:.1f} m, {run['collisions']} collisions"
                width = LINE_WIDTHS[label]
                axes.plot(path[:, 0], path[:, 1], color=COLOURS[label], linewidth=width, label=name)
                axes.plot(*path[-1, :2], "o", color=COLOURS[label], markersize=4 + width)
            axes.plot(*path[0, :2], "k^", markersize=7)
            axes.set(title=f"world {seeds[i]}", xlabel="x, m", ylabel="y, m")
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)

    legend = (
        "<p>Triangle: start. Dot: end. Grey: seen by the LiDAR. Brown: below its plane. Light "
        "blue: overhanging.</p>\n<p>Two good models do not keep to one path: each command changes "
        "what the rover sees next, so that a small difference early grows. How far and how safely "
        "they drive can be compared; how well their answers agree is shown at the end, on equal "
        "frames.</p>\n"
    )
    alt = "both drives in every world, from above"
    return legend + plot(draw, (PAGE_WIDTH_IN, 4.2), alt, columns=len(seeds))


def _scatter(contract: Contract, found: Comparison) -> str:
    names = ACTION_NAMES[contract.action_space]

    def draw(all_axes: Any) -> None:
        for i, axes in enumerate(all_axes):
            axes.plot([-1, 1], [-1, 1], color="#bbbbbb", linewidth=1)
            axes.plot(
                found.actions["onnx"][:, i], found.actions["int8"][:, i],
                ".", color=COLOURS["int8"], markersize=5,
            )  # fmt: skip
            axes.set(title=f"action: {names[i]}", xlabel="ONNX", ylabel="INT8")
            axes.set_aspect("equal")

    return plot(draw, (8.4, 4.2), "INT8 actions over ONNX actions", columns=2)


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em;
       color: #222; }
table { border-collapse: collapse; } td, th { padding: .3em 1em; border-bottom: 1px solid #ddd; }
td + td, th + th { text-align: right; } th { text-align: left; } img { max-width: 100%; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; } p { max-width: 75ch; }
"""


def render(contract: Contract, source: str, found: Comparison, summary: dict[str, Any]) -> str:
    """Return the report as one HTML page; `source` says what the drives used."""
    body = "".join(
        f"<tr><td>{plain(what)}</td><td>{onnx}</td><td>{int8}</td></tr>"
        for what, onnx, int8 in rows(summary)
    )
    channels = plot(
        lambda axes: draw_channels(axes, found.bev, contract.grid_extent_m),
        (8.4, 4.2), "both channels of one grid", columns=2,
    )  # fmt: skip
    notes = "".join(f"<p>Note: {plain(note)}</p>" for note in summary["notes"])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Rover demo</title><style>{STYLE}</style></head>
<body>
<h1>One actor, driven in ONNX and in INT8</h1>
<p>Both drives used {source} over ROS 2 topics. The INT8 model was calibrated with
{summary["calibrated_with"]} of the {summary["samples"]} samples that the first drive kept,
validated on {plain(summary["validated_on"])}, and driven in the toolkit's
simulator of the NPU: its latency here says nothing about the board.</p>
<table><tr><th></th><th>ONNX</th><th>INT8</th></tr>{body}</table>
{notes}
<h2>Trajectories</h2>
{_trajectories(found)}
<h2>What the actor sees</h2>
<p>One kept sample. The rover is at the centre, forward is up; black is occupied.</p>
{channels}
<h2>Agreement on the kept samples</h2>
<p>Each dot is one action on one of the {summary["samples"]} kept samples; on the line both models
agree.</p>
{_scatter(contract, found)}
<p>Contract {contract.digest}<br>Model {plain(Path(found.conversion["model"]).name)} for
{plain(found.conversion["target"])}, rknn-toolkit2 {plain(found.conversion["toolkit"])}
</p>
</body></html>
"""
