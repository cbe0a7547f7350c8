"""What the demo found: summary, table, and a self-contained page with plots."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_calibration.conversion.outcome import sentences
from tractor_calibration.pages import page, plots
from tractor_core import samples
from tractor_core.contract import ACTION_NAMES, Contract, normalize
from tractor_core.text import printable_rows
from tractor_inference.model.backends import open_backend

from .results import COLOURS, NAMES, Comparison, Drive

# The second drive is drawn over the first, which must still be seen.
LINE_WIDTHS = {"onnx": 4.0, "int8": 1.5}
WORLD_IN = (4.4, 4.8)
TEMPLATE = "tractor_bringup/demo/report.html"


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
    counts = found.conversion["samples"]
    return {
        "samples": found.samples,
        "grade": counts["grade"],
        "calibrated_with": counts["calibration"],
        "calibrated_with_reference": counts["calibration_reference"],
        "onnx_bytes": found.conversion["onnx_bytes"],
        "fp16_bytes": validation["fp16"]["bytes"],
        "int8_bytes": validation["int8"]["bytes"],
        "int8_mae": validation["int8"]["mae"],
        "int8_max": validation["int8"]["max"],
        "int8_sqnr_db": validation["int8"]["sqnr_db"],
        "int8_within_0_05": validation["int8"]["within_0_05"],
        "verdict": validation["verdict"],
        "agreement": sentences(found.conversion),
        "reasons": validation["reasons"],
        "int8_beyond": validation["int8"].get("beyond"),
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
        ("largest error beyond the drives", "-", _beyond(summary)),
        ("actions within 0.05", "-", format(summary["int8_within_0_05"], ".1%")),
        ("verdict of the conversion", "-", summary["verdict"]),
    ]


def _beyond(summary: dict[str, Any]) -> str:
    beyond = summary["int8_beyond"]
    return format(beyond["max"], ".3f") if beyond else "-"


def conclusions(summary: dict[str, Any]) -> list[str]:
    """Return what was proved, what was not, and what to do next."""
    proved = [f"Proved, verdict {summary['verdict']}.", *summary["agreement"]]
    metres, hits = summary["distance_m"], summary["collisions"]
    if metres["int8"] is not None:
        worlds = len(summary["worlds"])
        proved.append(
            f"In {worlds} worlds it drove {metres['int8']:.1f} m with {hits['int8']:.0f} "
            f"collisions, the ONNX {metres['onnx']:.1f} m with {hits['onnx']:.0f}."
        )
    open_ = "other worlds (python -m tractor_sim rollout --compare), real sensors"
    if not summary["worlds"]:
        open_ = "how it drives, other sensors and places"
    following = "./start_sac_rover.sh on the rover, docs/operations.md"
    if summary["reasons"]:
        following = f"look at why: {'; '.join(summary['reasons'])}"
    elif summary["grade"] != "good":
        following = (
            f"the samples are graded {summary['grade']}: python -m tractor_calibration check says "
            "what they lack"
        )
    return [
        " ".join(proved),
        f"Not proved: the NPU's own answers and times, {open_}.",
        f"Next: {following}.",
    ]


def table(summary: dict[str, Any]) -> str:
    """Return conclusions and table for a terminal."""
    lines = ["", *conclusions(summary), "", f"{'':44}{'ONNX':>10}{'INT8':>10}"]
    lines += [f"{what:44}{onnx:>10}{int8:>10}" for what, onnx, int8 in rows(summary)]
    lines.append(
        f"kept {summary['samples']} samples, graded {summary['grade']}; calibrated with "
        f"{summary['calibrated_with']} frames, {summary['calibrated_with_reference']} of them "
        f"reference observations; {summary['seconds']:.0f} s in all"
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


def _trajectories(found: Comparison) -> Iterator[plots.Picture]:
    """Draw each world with both drives; nothing for recordings."""
    from tractor_sim.world import make_world

    seeds = {i: run["world_seed"] for i, run in enumerate(found.drives["onnx"].runs) if run}
    worlds = [make_world(seed) for seed in seeds.values()]
    # All worlds at one scale.
    half_m = 0.3 + max((max(w.length_m, w.width_m) for w in worlds), default=0.0) / 2
    for i, seed in seeds.items():

        def draw(axes: Any, i: int = i, seed: int = seed) -> None:
            draw_world(axes, seed)
            axes.set(xlim=(-half_m, half_m), ylim=(-half_m, half_m))
            for label, driven in found.drives.items():
                run = driven.runs[i]
                path = np.array(run["trajectory"])
                name = f"{NAMES[label]} {run['distance_m']:.1f} m, {run['collisions']} collisions"
                width = LINE_WIDTHS[label]
                axes.plot(path[:, 0], path[:, 1], color=COLOURS[label], linewidth=width, label=name)
                axes.plot(*path[-1, :2], "o", color=COLOURS[label], markersize=4 + width)
            axes.plot(*path[0, :2], "k^", markersize=7)
            axes.set(title=f"world {seed}", xlabel="x, m", ylabel="y, m")
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)

        yield plots.plot(draw, WORLD_IN, f"both drives in world {seed}, from above", beside=True)


def _channels(contract: Contract, found: Comparison) -> Iterator[plots.Picture]:
    for name, cells in zip(plots.CHANNELS, found.bev):

        def draw(axes: Any, name: str = name, cells: NDArray[np.float32] = cells) -> None:
            plots.draw_grid(axes, cells, contract.grid_extent_m, f"channel {name}")

        yield plots.plot(draw, plots.WIDE, f"channel {name} of one grid")


def _agreements(contract: Contract, found: Comparison) -> Iterator[plots.Picture]:
    actions = zip(found.actions["onnx"].T, found.actions["int8"].T)
    for name, (onnx, int8) in zip(ACTION_NAMES[contract.action_space], actions):

        def draw(axes: Any, name: str = name, onnx: Any = onnx, int8: Any = int8) -> None:
            plots.draw_agreement(axes, {"frames": (onnx, int8)}, "INT8", name)

        yield plots.plot(draw, plots.WIDE, f"INT8 over ONNX: {name}")


def render(contract: Contract, source: str, found: Comparison, summary: dict[str, Any]) -> str:
    """Return the report as one HTML page; `source` says what the drives used."""
    return page.render(
        TEMPLATE,
        title="One actor, driven in ONNX and in INT8",
        tone=summary["verdict"],
        verdict=conclusions(summary)[0],
        source=source,
        summary=summary,
        rows=rows(summary),
        trajectories=[*_trajectories(found)],
        channels=[*_channels(contract, found)],
        agreements=[*_agreements(contract, found)],
        contract=contract,
        model=Path(found.conversion["model"]).name,
        conclusions=conclusions(summary)[1:],
        conversion=found.conversion,
    )
