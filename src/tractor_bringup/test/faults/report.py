"""What was measured, kept in faults_output/faults.json and written as docs/faults.md."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from .rig import Fault, Measured

# How often each row is repeated; unset in the short form.
REPEATS = int(os.environ.get("FAULT_REPEATS") or 0)
# Of a run; rows that are left then are skipped.
LIMIT_S = 44 * 60.0 if REPEATS else 280.0
# The short form asserts what happens, on a loaded machine too, and not how fast.
MARGIN_S = 0.0 if REPEATS else 2.0

HEAD = """# Faults
What the suite does when something fails, measured over real processes. `make faults` measures all
rows and writes this page and `faults_output/faults.json`; `make test` has a short form of it.

A rover on a stand: the real nodes with the real parameter file, a LiDAR of 10 Hz, depth,
`camera_info` and odometry of 30 Hz, a base that does what it is told. It drives, the fault begins,
and every command on `cmd_vel` is noted when it arrives, on the steady clock.

- **stop**: from the fault to the first zero, at most 0.3 s + T; T is the period of watchdog and
  guard, 0.05 s. **held**: zeros, of all commands from then until the fault is over. **again**: from
  the end of the fault to the first command that moves. Median and worst of n.
- **load**: how many processes wanted one of the {cores} cores ({machine}) in the minute before; the
  nodes themselves are one to two of them. With more, the machine was busy with something else.
- A row that is not within its bound says **missed**, and how.
- Where load is far beyond {cores}, the machine had no time for the nodes, and they stop because
  their inputs are late: measure such rows again on a quiet machine before judging by them.
"""

KINDS = (
    "Sensors and odometry", "What is in the way", "Clock", "The model", "Processes", "Requests",
    "Disk", "Machine",
)  # fmt: skip
NOT_HERE = """## What stood in, and what is not measured
- The model is the backend `fake`, and the reference actor by `onnx` under Requests. The NPU, its
  driver and its heat are not here: a node whose backend fails on purpose takes their place.
- The base is a model that follows at once. Whether a real one stops by itself when commands end, as
  it must when cmd_guard or the machine dies, is for the checklist of docs/operations.md.
- The stand does not see what it drives towards: how far the rover rolls is for the simulator.
- Who starts a killed process again is the page's own script in place of ROS's launch.
- The disk is a tmpfs of two megabytes, mounted and remounted by root; elsewhere its rows are
  skipped. Owned by another: the actor runs without the right of root to write everywhere.
- Memory is taken, but the kernel's killer is not provoked: it is kill -9 of a process.
- The clock is /clock under `use_sim_time`. The machine's own is not set; ages are counted on the
  steady clock, and stamps against a clock that was set are the rows of stamps ahead and old.
- A power failure.
"""


def chosen(faults: Iterable[Fault]) -> list[Fault]:
    """Return the rows of this run: all, or in the short form those that are part of it."""
    return [fault for fault in faults if REPEATS or fault.short]


class Report:
    """Collects rows; those that are measured again replace what was measured before.

    Args:
        folder: of the checkout.
    """

    def __init__(self, folder: Path) -> None:
        self._json, self._page = folder / "faults_output/faults.json", folder / "docs/faults.md"
        self._rows: dict[str, dict[str, Any]] = {}
        self._end_s = time.monotonic() + LIMIT_S

    def measure(self, kind: str, fault: Fault, suffer: Any) -> None:
        """Repeat a fault, note what it gave and judge it.

        Args:
            kind: the table that it belongs to.
            suffer: does it once; returns a Measured.

        Raises:
            AssertionError: it did not hold.
        """
        if time.monotonic() > self._end_s:
            pytest.skip(f"{LIMIT_S / 60:.0f} minutes are over; measure it alone: make faults ROWS=")
        found: list[Measured] = []
        try:
            for _ in range(max(1, min(REPEATS, fault.repeats))):
                found.append(suffer(fault))
        except AssertionError:
            found.append(Measured(wrong=["not measured: it did not drive before"]))
            raise
        finally:
            self.add(kind, fault, found)
        misses = [miss for one in found for miss in one.misses(fault, MARGIN_S)]
        assert not misses, f"{fault.name}: {'; '.join(misses)}"

    def add(self, kind: str, fault: Fault, found: list[Measured]) -> None:
        """Note what a fault gave."""
        self._rows[f"{kind}: {fault.name}"] = {
            "kind": kind, "fault": fault.name, "behaviour": fault.behaviour,
            "bound": _bound(fault), "measured": _words(fault, found), "note": found[-1].note,
            "missed": sorted({miss for one in found for miss in one.misses(fault)}),
            "n": len(found), "load": round(os.getloadavg()[0], 1),
            "date": datetime.date.today().isoformat(),
            "runs": [dataclasses.asdict(one) for one in found],
        }  # fmt: skip

    def write(self) -> None:
        """Write the long form's rows, and the page of all that are known."""
        if not self._rows or not REPEATS:
            return
        known = json.loads(self._json.read_text())["rows"] if self._json.exists() else []
        rows = {f"{row['kind']}: {row['fault']}": row for row in known} | self._rows
        self._json.parent.mkdir(exist_ok=True)
        self._json.write_text(json.dumps({"rows": [*rows.values()]}, indent=1) + "\n")
        self._page.write_text(page([*rows.values()]), encoding="utf-8")


def page(rows: list[dict[str, Any]]) -> str:
    """Return docs/faults.md."""
    machine = f"{platform.machine()}, Linux, CPython {platform.python_version()}"
    parts = [HEAD.format(cores=os.cpu_count(), machine=machine)]
    for kind in KINDS:
        of_kind = [row for row in rows if row["kind"] == kind]
        if not of_kind:
            continue
        lines = [f"## {kind}", "| fault | behaviour | bound | measured | n | load |"]
        lines.append("|---|---|---|---|---|---|")
        for row in of_kind:
            missed = f"; **missed**: {', '.join(row['missed'])}" if row["missed"] else ""
            note = f"; {row['note']}" if row["note"] else ""
            cells = (row["fault"], row["behaviour"], row["bound"],
                     row["measured"] + note + missed, row["n"], row["load"])  # fmt: skip
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        parts.append("\n".join(lines) + "\n")
    held = sum(not row["missed"] for row in rows)
    dates = sorted({row["date"] for row in rows})
    parts.append(
        f"{held} of {len(rows)} rows held; measured {' to '.join({dates[0], dates[-1]})}.\n"
    )
    return "\n".join(parts + [NOT_HERE])


def _bound(fault: Fault) -> str:
    if fault.stops is False:
        return f"at most {fault.most_zeros} % zeros" if fault.most_zeros else "no zero"
    words = [f"stop {fault.bound_s:.2f} s, held 100 %"] if fault.stops else []
    words += [] if fault.resume_s is None else [f"again {fault.resume_s:.2f} s"]
    return ", ".join(words) or "-"


def _words(fault: Fault, found: list[Measured]) -> str:
    if fault.stops is False:
        return f"{sum(one.zeros for one in found)} zeros"
    words = []
    for name, values in (
        ("stop", [one.stop_s for one in found]), ("again", [one.resume_s for one in found]),
    ):  # fmt: skip
        known = [value for value in values if value is not None]
        if known:
            words.append(f"{name} {statistics.median(known):.2f}, worst {max(known):.2f} s")
        if len(known) < len(values) and (fault.stops or name == "again"):
            words.append(f"{name}: never in {len(values) - len(known)}")
    held = [one.held for one in found if one.held is not None]
    if held:
        words.insert(1, f"held {min(held):.1%}")
    return "; ".join(words)
