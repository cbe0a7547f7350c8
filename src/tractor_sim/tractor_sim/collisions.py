"""Does the guard keep the rover from what its sensors can see, whatever drives and whatever fails?

Each world is driven by an actor that commands at random at full speed, and by MODEL if one is
given, under each fault of the sensors and with somebody who steps in; then once more without the
guard, which shows what it is good for. A contact is one with something that a sensor can see, or it
is counted by why none can: docs/collisions.md says how that is decided. `--out FILE.md` writes the
tables below the heading "Measured" of that file, and leaves what is above it.

Exit codes:
  0  nothing was touched that a sensor can see
  1  could not be measured, or the file not be written
  2  wrong usage
  6  with the guard something was touched that a sensor can see; it is named
  130  interrupted
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tractor_core import cli as commands
from tractor_core.files import replace_file

from .guarded.drive import Drive, Task, drive
from .guarded.faults import FAULTS
from .rollout import add_options, all_there, seeds_of
from .workers import ENDS, ended_by, in_processes

RANDOM = "random actor"
TOUCHED = 6
HEADING = "## Measured"

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Row:
    """What one driver came to under one fault, in all worlds: with the guard, and without it.

    `metres` are the mean of a world; `seen` and `unseen` count contacts, `stood` is a share of the
    time.
    """

    fault: str
    driver: str
    guarded: tuple[Drive, ...]
    alone: tuple[Drive, ...]

    @property
    def metres(self) -> float:
        """Mean metres of a world, with the guard."""
        return sum(found.distance_m for found in self.guarded) / len(self.guarded)

    def cells(self) -> dict[str, str]:
        """Return the row of the table, by the name of each column."""
        (seen, unseen), (alone_seen, alone_unseen) = map(counted, (self.guarded, self.alone))
        stood = sum(found.stood for found in self.guarded) / len(self.guarded)
        return {
            "fault": self.fault, "driver": self.driver, "worlds": f"{len(self.guarded)}",
            "m a world": f"{self.metres:.2f}", "stops": f"{sum(d.stops for d in self.guarded)}",
            "stood": f"{stood:.0%}", "seen": f"{seen}", "unseen": f"{unseen}",
            "seen, no guard": f"{alone_seen}", "unseen, no guard": f"{alone_unseen}",
        }  # fmt: skip


def counted(drives: Sequence[Drive]) -> tuple[int, int]:
    """Return how many contacts were with what a sensor can see, and with what none can."""
    unseen = [contact.unseen is not None for found in drives for contact in found.contacts]
    return len(unseen) - sum(unseen), sum(unseen)


@dataclasses.dataclass(frozen=True)
class Findings:
    """All rows, of drives of so many seconds."""

    rows: tuple[Row, ...]
    seconds: float

    def seen(self) -> Iterator[str]:
        """Yield each contact that the guard should have prevented, in words."""
        for row in self.rows:
            for found in row.guarded:
                for contact in found.contacts:
                    if contact.unseen is None:
                        yield (
                            f"world {found.task.seed}, {row.fault}, {row.driver}: touched what a "
                            f"sensor can see at {contact.x_m:.2f}, {contact.y_m:.2f} m after "
                            f"{contact.time_s:.2f} s"
                        )

    def reasons(self) -> list[dict[str, str]]:
        """Return the table of why nothing could be seen, the most frequent first."""
        with_guard, alone = (
            collections.Counter(
                contact.unseen
                for row in self.rows for found in getattr(row, name) for contact in found.contacts
                if contact.unseen is not None
            )
            for name in ("guarded", "alone")
        )  # fmt: skip
        return [
            {"not seen": why, "contacts": f"{with_guard[why]}", "no guard": f"{alone[why]}"}
            for why, _ in (with_guard + alone).most_common()
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "seconds": self.seconds,
            "rows": [row.cells() for row in self.rows],
            "unseen": self.reasons(),
            "contacts": [
                {"seed": found.task.seed, "fault": row.fault, "driver": row.driver}
                | dataclasses.asdict(contact)
                for row in self.rows for found in row.guarded for contact in found.contacts
            ],
        }  # fmt: skip


def measure(
    faults: Sequence[str],
    models: Sequence[str | None],
    seeds: Sequence[int],
    seconds: float,
    params_file: str,
    processes: int,
) -> Findings:
    """Drive every world under every fault with every model, with the guard and without it.

    Args:
        models: files; None is the random actor.
    """
    wanted = {
        (fault, model): [
            [_task(seed, seconds, params_file, fault, model, guarded) for seed in seeds]
            for guarded in (True, False)
        ]
        for fault in faults
        for model in models
    }  # fmt: skip
    tasks = list(dict.fromkeys(task for pair in wanted.values() for half in pair for task in half))
    done: dict[Task, Drive] = {}
    for task, found in zip(tasks, in_processes(drive, tasks, processes)):
        done[task] = found
        log.info(
            "%d of %d: world %d, %s, %s%s: %.2f m, %d contacts seen, %d unseen",
            len(done), len(tasks), task.seed, task.fault, _named(task.model),
            "" if task.guarded else ", no guard", found.distance_m, *counted([found]),
        )  # fmt: skip
    return Findings(
        tuple(
            Row(fault, _named(model), *(tuple(done[task] for task in half) for half in pair))
            for (fault, model), pair in wanted.items()
        ),
        seconds,
    )


def _task(
    seed: int, seconds: float, params_file: str, fault: str, model: str | None, guarded: bool
) -> Task:
    # The random actor looks at nothing: without the guard a fault of the sensors changes nothing.
    blind = model is None and not guarded and not FAULTS[fault].with_walker
    return Task(seed, seconds, params_file, "none" if blind else fault, model, guarded)


def _named(model: str | None) -> str:
    return RANDOM if model is None else Path(model).stem


def table(rows: Sequence[dict[str, str]], markdown: bool) -> str:
    """Return rows of the same columns as text for a terminal, or as Markdown."""
    if not rows:
        return "none"
    names = list(rows[0])
    widths = [max(len(name), *(len(row[name]) for row in rows)) for name in names]
    lines = [names, *([row[name] for name in names] for row in rows)]
    if markdown:
        lines.insert(1, ["---"] * len(names))
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if cell[:1].isdigit() else cell.ljust(width)
            for cell, width in zip(line, widths)
        ).rstrip()
        for line in lines
    )


def page(findings: Findings, markdown: bool = False) -> str:
    """Return both tables and what they come to."""
    rows = findings.rows
    seen, unseen = counted([found for row in rows for found in row.guarded])
    metres = sum(found.distance_m for row in rows for found in row.guarded)
    visits = sum(found.visits for row in rows for found in row.guarded)
    return "\n\n".join([
        f"{sum(len(row.guarded) for row in rows)} drives of {findings.seconds:g} s with the guard, "
        f"{metres:.0f} m: {seen} contacts with what a sensor can see, {unseen} with what none can. "
        f"Somebody stepped in {visits} times.",
        table([row.cells() for row in rows], markdown),
        table(findings.reasons(), markdown),
    ])  # fmt: skip


def write(path: Path, findings: Findings) -> None:
    """Put the tables below the heading of a page, which is made where there is none.

    Raises:
        OSError: it cannot be written.
    """
    before = path.read_text(encoding="utf-8").partition(HEADING)[0] if path.exists() else ""
    replace_file(path, f"{before}{HEADING}\n{page(findings, markdown=True)}\n")


@commands.printing
def main(argv: list[str] | None = None) -> int:
    """Measure and return the exit code."""
    parser = commands.make_parser("collisions", __doc__)
    parser.add_argument("--model", help="an actor that drives too, beside the random one")
    parser.add_argument(
        "--faults", nargs="+", choices=FAULTS, default=[*FAULTS], metavar="FAULT",
        help=f"of {', '.join(map(repr, FAULTS))} (default: all)",
    )  # fmt: skip
    add_options(parser, worlds=100, seconds=15.0)
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="a page for the tables")
    arguments = parser.parse_args(argv)
    if arguments.out is not None:
        commands.require_output(parser, "--out", arguments.out, ".md")
    seeds = seeds_of(parser, arguments)
    models = [None] if arguments.model is None else [None, arguments.model]
    if not all_there(models):
        return 1
    commands.set_up_log("%(message)s")
    try:
        findings = measure(
            arguments.faults, models, seeds,
            arguments.seconds, str(commands.params_file(arguments.params)), arguments.processes,
        )  # fmt: skip
        commands.answer(arguments.json, findings.as_json(), lambda: page(findings))
        if arguments.out is not None:
            write(arguments.out, findings)
    except ENDS as error:
        return ended_by(error, arguments.out or Path())
    touched = list(findings.seen())
    for line in touched:
        print(line, file=sys.stderr)
    return TOUCHED if touched else 0


if __name__ == "__main__":
    sys.exit(main())
