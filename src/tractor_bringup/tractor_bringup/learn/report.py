"""What `make learn` found: summary, table, and a page with the curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tractor_calibration.pages import page, plots
from tractor_core.text import aligned, printable_rows
from tractor_training.candidates import CANDIDATES
from tractor_training.learning import RUN, progress_of

from .tally import Tally

TEMPLATE = "tractor_bringup/learn/report.html"
# What is wanted of the best model, beside the imitated actor in the same worlds.
WANTED_SHARE, WANTED_FREE = 0.92, 2
CURVE_IN = (6.4, 3.6)


def candidates(run: Path) -> list[dict[str, Any]]:
    """Return all that were judged so far, in their order."""
    path = run / CANDIDATES
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def summarise(
    output: Path, run: Path, tally: Tally, learning_s: float, missed: int, seconds: float,
    judged: dict[str, dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """Return the figures as plain JSON types."""
    found = candidates(run)
    for candidate in found:
        candidate["minute"] = (candidate["time"] - found[0]["time"]) / 60.0
    started = json.loads((run / RUN).read_text())
    updates = progress_of(run).updates
    return {
        "steps": tally.steps,
        "updates": updates,
        "updates_per_s": round(updates / learning_s, 2),
        "bytes_per_step": round(tally.bytes_per_step, 2),
        "steps_lost": tally.lost,
        "models_offered": len(tally.names),
        "models_driven": len(tally.driven),
        "missed_ticks": missed,
        "minutes": round(seconds / 60.0, 2),
        "learning_minutes": round(learning_s / 60.0, 2),
        "rover_steps": tally.rover_steps,
        **judged,
        "candidates": found,
        "versions": [_version(output, name, name in tally.driven) for name in tally.names],
        "seed": started["configuration"]["learner"]["seed"],
        "commit": started["commit"],
    }


def _version(output: Path, name: str, driven: bool) -> dict[str, Any]:
    """Return what a version became on the rover."""
    row: dict[str, Any] = {"name": name, "driven": driven}
    for path in (output / "models" / "versions").glob("*/*.json"):
        values = json.loads(path.read_text())
        if Path(values["onnx"]["file"]).stem == name:
            found = values["validation"]
            precision = values["model"]["precision"]
            row |= {
                "precision": precision, "verdict": found["verdict"],
                "bytes": values["model"]["bytes"], "mae": found[precision]["mae"],
                "max": found[precision]["max"], "sqnr_db": found[precision]["sqnr_db"],
            }  # fmt: skip
    return row


def good_enough(summary: dict[str, Any]) -> bool:
    """Return whether the best model drives as it must, beside the imitated actor."""
    last, imitation = summary["last"], summary["imitation"]
    return (
        last["mean_m"] >= WANTED_SHARE * imitation["mean_m"]
        and last["free_runs"] >= imitation["free_runs"] - WANTED_FREE
    )


def conclusion(summary: dict[str, Any]) -> str:
    """Return what came of it in one sentence."""
    first, last, imitation = (summary[name] for name in ("first", "last", "imitation"))
    share = last["mean_m"] / imitation["mean_m"]
    return (
        f"{'Learnt' if good_enough(summary) else 'Not learnt well enough'}: from "
        f"{first['mean_m']:.2f} m a minute to {last['mean_m']:.2f} m, {share:.0%} of the imitated "
        f"actor's {imitation['mean_m']:.2f} m; {last['free_runs']} of {last['runs']} worlds "
        f"without touching anything, where that has {imitation['free_runs']}."
    )


def rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the table: what, and its figure."""
    steps, minutes = summary["steps"], summary["minutes"]
    return [
        ("control steps learnt from", f"{steps}, {summary['steps_lost']} lost"),
        ("updates", f"{summary['updates']}, {summary['updates_per_s']:.0f} a second"),
        ("candidates", f"{len(summary['candidates'])}, {summary['models_offered']} passed"),
        ("driven by the rover in INT8", str(summary["models_driven"])),
        ("frames that the rover missed", str(summary["missed_ticks"])),
        ("bytes a step on the link", f"{summary['bytes_per_step']:.0f}"),
        ("minutes", f"{minutes:.1f}, {summary['learning_minutes']:.1f} of them learning"),
    ]


def judged_rows(summary: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return the judgements: (who, metres, free runs, collisions)."""
    names = {"first": "random heads", "last": "best that passed", "imitation": "imitated actor"}
    return [
        (
            text, f"{summary[name]['mean_m']:.2f}",
            f"{summary[name]['free_runs']} of {summary[name]['runs']}",
            str(summary[name]["collisions"]),
        )
        for name, text in names.items()
    ]  # fmt: skip


def candidate_rows(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the candidates: (name, steps, updates, metres, free runs, what the gate said)."""
    return [
        (
            found["name"], str(found["steps"]), str(found["updates"]), f"{found['mean_m']:.2f}",
            f"{found['free_runs']} of {found['runs']}", "passed" if found["passed"] else "refused",
        )
        for found in summary["candidates"]
    ]  # fmt: skip


def version_rows(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the versions as the rover converted them: INT8 against the ONNX."""
    return [
        (
            found["name"], found.get("verdict", "not converted"),
            f"{found['bytes'] / 1e6:.2f}" if "bytes" in found else "-",
            f"{found['mae']:.4f}" if "mae" in found else "-",
            f"{found['max']:.3f}" if "max" in found else "-",
            f"{found['sqnr_db']:.1f}" if "sqnr_db" in found else "-",
            "yes" if found["driven"] else "no",
        )
        for found in summary["versions"]
    ]  # fmt: skip


CANDIDATE_HEAD = ("candidate", "steps", "updates", "m a drive", "free", "gate")
VERSION_HEAD = ("version", "verdict", "MB", "MAE", "largest error", "SQNR, dB", "driven")
JUDGED_HEAD = ("", "m a minute", "free", "collisions")


def table(summary: dict[str, Any]) -> str:
    """Return conclusion and tables for a terminal."""
    tables = (
        rows(summary), [JUDGED_HEAD, *judged_rows(summary)],
        [CANDIDATE_HEAD, *candidate_rows(summary)], [VERSION_HEAD, *version_rows(summary)],
    )  # fmt: skip
    lines = ["", conclusion(summary)]
    for found in tables:
        lines += ["", *aligned(found)]
    return printable_rows(lines)


def curve(summary: dict[str, Any], over: str, label: str) -> plots.Picture:
    """Draw the metres of all candidates over steps or minutes; those that passed are filled."""
    found = summary["candidates"]

    def draw(axes: Any) -> None:
        x = np.array([candidate[over] for candidate in found])
        y = np.array([candidate["mean_m"] for candidate in found])
        free = np.array([c["free_runs"] / c["runs"] for c in found])
        passed = np.array([candidate["passed"] for candidate in found], bool)
        axes.plot(x, y, color=plots.GREY, linewidth=1)
        axes.plot(x[passed], y[passed], "o", color=plots.BLUE, label="passed")
        axes.plot(x[~passed], y[~passed], "o", color=plots.RED, mfc="none", label="refused")
        axes.set(xlabel=label, ylabel="m a drive", ylim=(0, None), xlim=(0, None))
        shares = axes.twinx()
        shares.plot(x, 100 * free, color=plots.ORANGE, linewidth=1, label="free runs, %")
        shares.set(ylabel="free runs, %", ylim=(0, 105))
        shares.yaxis.label.set_color(plots.ORANGE)
        axes.legend(loc="lower right")

    return plots.plot(draw, CURVE_IN, f"metres of each candidate over {label}", beside=True)


def render(summary: dict[str, Any]) -> str:
    """Return the page."""
    return page.render(
        TEMPLATE, title="Learnt while driving",
        tone="pass" if good_enough(summary) else "warn", verdict=conclusion(summary),
        summary=summary, rows=rows(summary), judged=judged_rows(summary),
        candidates=candidate_rows(summary), versions=version_rows(summary),
        heads=(JUDGED_HEAD, CANDIDATE_HEAD, VERSION_HEAD),
        curves=[curve(summary, "steps", "control steps"), curve(summary, "minute", "minutes")],
    )  # fmt: skip
