"""The gate: a candidate is offered to rovers only where it is not worse than the best before it.

Both are judged in the same simulated worlds, which neither training nor the evaluation of the suite
uses, with the whole depth image at 30 Hz.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_core import outside
from tractor_core.child import stops_with_starter
from tractor_core.errors import TractorError
from tractor_core.parameters import param
from tractor_core.text import printable
from tractor_sim import comparison

# No command of the suite draws these for anything else.
FIRST_SEED = 5_000_000
# The best so far must drive at least this share of a candidate's way for its contacts to count
# against it: who stands touches nothing.
DRIVES = 0.5


@dataclasses.dataclass(frozen=True)
class GateParameters:
    """How candidates are judged."""

    every_decisions: int = param(
        "A candidate after so many tenths of a second of experience.",
        4000, minimum=10, maximum=10_000_000,
    )  # fmt: skip
    worlds: int = param("That each drives through.", 12, minimum=1, maximum=1000)
    seconds: float = param("In each, s.", 60.0, minimum=1.0, maximum=600.0)
    processes: int = param("Worlds at the same time.", 1, minimum=1, maximum=256)


@dataclasses.dataclass(frozen=True)
class Drive:
    """What one world came to."""

    seed: int
    distance_m: float
    collisions: int


@dataclasses.dataclass(frozen=True)
class Score:
    """What an actor reached in the worlds of the gate."""

    drives: tuple[Drive, ...]
    seconds: float

    @property
    def mean_m(self) -> float:
        """Metres a world."""
        return float(np.mean([drive.distance_m for drive in self.drives]))

    @property
    def free_runs(self) -> int:
        """Worlds in which it touched nothing."""
        return sum(drive.collisions == 0 for drive in self.drives)

    @property
    def collisions(self) -> int:
        """In all worlds."""
        return sum(drive.collisions for drive in self.drives)

    @property
    def free_m(self) -> NDArray[np.float64]:
        """Metres of each world, (worlds,), 0 where it touched something: what is compared."""
        return np.array([d.distance_m if d.collisions == 0 else 0.0 for d in self.drives])

    @property
    def figures(self) -> dict[str, float]:
        """The figures above, and of how many runs, by name."""
        return {
            "mean_m": self.mean_m, "free_runs": self.free_runs, "collisions": self.collisions,
            "runs": len(self.drives),
        }  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON types; `from_json` reads them."""
        drives = [[d.seed, d.distance_m, d.collisions] for d in self.drives]
        return self.figures | {"seconds": self.seconds, "drives": drives}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Score:
        """Return what `as_json` gave."""
        drives = tuple(Drive(int(s), float(m), int(c)) for s, m, c in values["drives"])
        return cls(drives, float(values["seconds"]))

    def __str__(self) -> str:
        return f"{self.mean_m:.2f} m a world, {self.free_runs} of {len(self.drives)} free"


@dataclasses.dataclass(frozen=True)
class Judgement:
    """Whether a candidate passes, and why in one sentence."""

    passed: bool
    why: str


def standing(parameters: GateParameters) -> Score:
    """Return the score of a rover that stands, which whatever drives is measured by at first."""
    seeds = range(FIRST_SEED, FIRST_SEED + parameters.worlds)
    return Score(tuple(Drive(seed, 0.0, 0) for seed in seeds), parameters.seconds)


async def measure(model: Path, params_file: str, parameters: GateParameters) -> Score:
    """Drive an actor, .onnx or .rknn, through the worlds of the gate, in processes of low priority.

    Raises:
        TractorError: it could not be driven; with the end of what was said.
    """
    command = [
        *stops_with_starter("TERM"), "nice", "-n", "19",
        sys.executable, "-m", "tractor_sim", "rollout",
        "--model", str(model), "--params", params_file, "--first-seed", str(FIRST_SEED),
        "--worlds", str(parameters.worlds), "--seconds", str(parameters.seconds),
        "--processes", str(parameters.processes), "--json",
    ]  # fmt: skip
    # In no session of its own: Linux's autogroups would give that as much as all the others.
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, said = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        raise
    try:
        if process.returncode == 0:
            return Score.from_json(outside.json_value(out))
        why = f"exit code {process.returncode}"
    except (ValueError, LookupError, TypeError) as error:
        why = f"no figures: {error}"
    tail = printable("\n".join(said.decode(errors="replace").splitlines()[-3:]))
    raise TractorError(f"could not be driven in simulation ({why}): {tail}", model)


def judge(candidate: Score, best: Score) -> Judgement:
    """Return whether a candidate is not worse than the best so far, of the same worlds.

    It must drive at least as far without touching anything, and touch something in no more worlds,
    unless the best hardly drives. The interval says how much of the difference may be chance; it is
    told, and decides nothing: of two that may be equal the one that reached more is kept.

    Raises:
        ValueError: they were not judged in the same worlds.
    """
    if not same_worlds(candidate, best):
        raise ValueError("expected both to be judged in the same worlds, for the same time")
    found = comparison.difference(best.free_m, candidate.free_m)
    text = (
        f"{found.second:.2f} m in worlds without a contact against {found.first:.2f} m "
        f"(95 % interval of the difference {found.low:+.2f} to {found.high:+.2f}), "
        f"{candidate.free_runs} of {len(candidate.drives)} free against {best.free_runs}"
    )
    counts = best.mean_m >= DRIVES * candidate.mean_m
    if found.mean < 0.0 or not (counts or found.mean > 0.0):
        return Judgement(False, f"less far: {text}")
    if counts and candidate.free_runs < best.free_runs:
        return Judgement(False, f"touches something in more worlds: {text}")
    return Judgement(True, text)


def same_worlds(one: Score, other: Score) -> bool:
    """Return whether two scores are of the same worlds, driven for the same time."""
    seeds = ([drive.seed for drive in score.drives] for score in (one, other))
    return one.seconds == other.seconds and next(seeds) == next(seeds)
