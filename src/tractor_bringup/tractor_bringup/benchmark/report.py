"""The figures as a table for a terminal and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tractor_core.files import replace_file
from tractor_core.text import aligned, printable_rows

from .runs import SIMULATED

HEAD = (
    "model", "backend", "cores", "MB", "load s", "p50 ms", "p99 ms", "MAE", "max", "<= 0.05",
    "memory MB", "NPU load",
)  # fmt: skip
TEMPLATE = "tractor_bringup/benchmark/page.html"
NOT_THE_NPU = (
    "These are not the NPU's times: rknn_sim is the toolkit's simulator, onnx runs on this CPU."
)


def cells(row: dict[str, Any]) -> list[str]:
    """Return a row of the table as text."""
    start = [Path(row["model"]).name, row["backend"], row["cores"], f"{row['megabytes']:.2f}"]
    if row["problem"]:
        return [*start, "not measured", *[""] * 7]
    agreed = ["-"] * 3
    if row["mae"] is not None:
        agreed = [f"{row['mae']:.4f}", f"{row['max']:.3f}", f"{row['within_0_05']:.1%}"]
    return [
        *start, f"{row['load_s']:.2f}", f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}", *agreed,
        f"{row['memory_mb']:.0f}", row["npu_load"] or "-",
    ]  # fmt: skip


def notes(result: dict[str, Any]) -> list[str]:
    """Return what is to be known with the figures."""
    found = []
    rows = result["rows"]
    measured = [row for row in rows if not row["problem"]]
    if measured:
        frames, source = measured[0]["frames"], measured[0]["source"]
        found.append(
            f"on {frames} {source}; MAE, max and <= 0.05 are of the difference to the ONNX, whose "
            "actions span -1 to 1"
        )
    if any(row["backend"] == SIMULATED for row in rows) or "no Rockchip" in result["machine"]:
        found.append(NOT_THE_NPU)
    found += [
        f"{row['model']}, {row['backend']} {row['cores']}: {row['problem']}"
        for row in rows
        if row["problem"]
    ]
    found += sorted(
        {
            f"{row['model']}: not compared: {row['no_reference']}"
            for row in measured
            if row["no_reference"]
        }
    )
    return found


def table(result: dict[str, Any]) -> str:
    """Return the page for a terminal."""
    rows = [list(HEAD), *(cells(row) for row in result["rows"])]
    lines = [f"{result['machine']}, {result['cores']} CPU cores", "", *aligned(rows, left=3), ""]
    lines += [f"note: {note}" for note in notes(result)]
    if "html" in result:
        lines.append(f"written: {result['html']}")
    return printable_rows(lines)


def write(path: Path, result: dict[str, Any]) -> None:
    """Write the page.

    Raises:
        OSError: it cannot be written.
    """
    from tractor_calibration.pages import page

    problems = [row for row in result["rows"] if row["problem"]]
    text = page.render(
        TEMPLATE,
        title="Models on this machine",
        tone="warn" if problems else "pass",
        verdict=f"{len(result['rows']) - len(problems)} of {len(result['rows'])} were measured on "
        f"{result['machine']}.",
        head=list(HEAD),
        rows=[cells(row) for row in result["rows"]],
        notes=notes(result),
    )
    replace_file(path, text)
