"""What is tried, in this order, until an INT8 build passes its gates.

kl_divergence is not among it: it clips what these networks need (measured: 16.8 dB against 31.6).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import ACTION_NAMES
from tractor_core.errors import ModelError, raise_all
from tractor_core.packed import PackedSamples
from tractor_inference.model.manifest import PASS, BuildRecord
from tractor_inference.model.rknn_toolkit import QUANTIZED

from ..parameters import ConvertParameters
from ..samples.split import Split
from . import validation
from .toolkit_child import Build, Job, Limits, Outcome
from .validation import Metrics, Verdict

log = logging.getLogger(__name__)

FP16, COVERAGE, MORE_COVERAGE, MMSE = "fp16", "coverage", "more_coverage", "mmse"
# Their names are without spaces: they become file names, and the toolkit refuses a path with one.
ATTEMPTS = {
    COVERAGE: QUANTIZED,
    MORE_COVERAGE: QUANTIZED,
    MMSE: BuildRecord("mmse"),
    "hybrid": BuildRecord("normal", hybrid=True),
}
NOTHING_TO_ADD = "not tried: the ranges of all samples are covered, more give the same model"

Run = Callable[[Job, Limits], Outcome]


class GateError(ModelError):
    """A build does not agree with its ONNX."""


@dataclasses.dataclass(frozen=True)
class Validated:
    """A build, how it agrees with the ONNX on the drives and beyond them, and what follows."""

    build: Build
    metrics: Metrics
    beyond: Metrics | None
    verdict: Verdict

    @property
    def actions(self) -> NDArray[np.float32]:
        """Its actions on the validation frames of the drives, (n, 2)."""
        return self.build.actions[: self.metrics.frames]


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One of ATTEMPTS: calibrated with so many frames; what came of it, or why nothing did.

    `split` says how the samples were split for it, counted from 0.
    """

    name: str
    frames: int
    validated: Validated | None
    problem: str = ""
    split: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        # "rung" is what the manifest's format calls it.
        found: dict[str, Any] = {
            "rung": self.name, "calibration_frames": self.frames, "split": self.split
        }  # fmt: skip
        if self.validated is None:
            return found | {"verdict": "none", "problem": self.problem}
        verdict, build = self.validated.verdict, self.validated.build
        return found | {
            "verdict": verdict.word,
            "reasons": [*verdict.failures, *verdict.warnings, *verdict.remarks],
            "bytes": build.file.stat().st_size,
            "build_seconds": round(build.seconds, 3),
            "simulator_ms": round(build.infer_ms, 3),
            **self.validated.metrics.as_json(),
            **({"beyond": beyond.as_json()} if (beyond := self.validated.beyond) else {}),
        }


@dataclasses.dataclass(frozen=True)
class Tried:
    """FP16 by the number of its split, the attempts in order, and what built them."""

    fp16: dict[int, Validated]
    attempts: tuple[Attempt, ...]
    toolkit_version: str
    python_version: str

    @property
    def best(self) -> tuple[Attempt, Validated]:
        """The attempt that passed, else one with warnings before one that failed.

        Among equals the fewest warnings count, then the attempt that was made first: it is the
        plainest build. Of attempts that failed it is the one of the least mean error.
        """
        return min(
            ((one, one.validated) for one in self.attempts if one.validated),
            key=lambda item: rank(item[1]),
        )


def rank(found: Validated) -> tuple[bool, float, int]:
    """Return what orders builds, the best first."""
    verdict = found.verdict
    worst = max(one.overall.mae for one in (found.metrics, found.beyond) if one)
    return bool(verdict.failures), worst if verdict.failures else 0.0, len(verdict.warnings)


def make(
    job: Job, splits: Sequence[Split], first: int, params: ConvertParameters, run: Run
) -> Tried:
    """Build FP16, then INT8 split by split and attempt by attempt until one passes.

    The plainest attempt is made for every split in turn. Where none passes, the others follow for
    the split that came closest.

    Args:
        job: what is built; frames, calibration and builds are those of the splits and attempts.
        splits: the best first; without calibration frames only FP16 is built.
        first: so many calibration frames are taken by the first attempt, all by the others.
        params: gates and limits.
        run: runs a job in the toolkit's process.

    Raises:
        GateError: FP16 is not exact.
        ModelError: the toolkit failed in the first attempt for the first split.
    """
    memory_mb = params.toolkit_memory_limit_mb
    limits = Limits(params.toolkit_time_limit_s, "toolkit_time_limit_s", memory_mb)
    fp16: dict[int, Validated] = {}
    attempts: list[Attempt] = []

    def tried(name: str, number: int, validated: Validated | None, problem: str = "") -> bool:
        """Take note of an attempt, and return whether it passes."""
        count = len(splits[number].calibration)
        count = min(first, count) if name == COVERAGE else count
        attempts.append(Attempt(name, count, validated, problem, number))
        log.info("%s", line(attempts[-1].as_json()))
        return validated is not None and validated.verdict.word == PASS

    passes = False
    for number, split in enumerate(splits):
        builds = {FP16: BuildRecord()}
        builds |= {COVERAGE: ATTEMPTS[COVERAGE]} if split.calibration else {}
        if number:
            log.info("splitting the samples otherwise: building")
        try:
            outcome = run(_job(job, split, builds, first), limits)
            exact = _exact(job, split, outcome.builds[FP16], params)
        except ModelError as error:
            if not number:
                raise
            # What other splits gave stays.
            tried(COVERAGE, number, None, str(error))
            continue
        fp16[number] = exact
        versions = outcome.toolkit_version, outcome.python_version
        if COVERAGE not in builds:
            break
        passes = tried(COVERAGE, number, _validate(job, split, outcome.builds[COVERAGE], params))
        if passes:
            break
    found = Tried(fp16, tuple(attempts), *versions)
    if not attempts or passes:
        return found
    number = found.best[0].split
    split = splits[number]
    for name in (name for name in ATTEMPTS if name != COVERAGE):
        if name == MORE_COVERAGE and first >= len(split.calibration):
            tried(name, number, None, NOTHING_TO_ADD)
            continue
        log.info("%s: building", words(name))
        allowed = limits
        if name == MMSE:
            allowed = Limits(params.mmse_time_limit_s, "mmse_time_limit_s", memory_mb)
        try:
            built = run(_job(job, split, {name: ATTEMPTS[name]}), allowed).builds[name]
        except ModelError as error:  # the other attempts stay
            tried(name, number, None, str(error))
            continue
        if tried(name, number, _validate(job, split, built, params)):
            break
    return dataclasses.replace(found, attempts=tuple(attempts))


def _exact(job: Job, split: Split, build: Build, params: ConvertParameters) -> Validated:
    """Return FP16 as it agrees with the ONNX; raises GateError where that is not nearly exact."""
    validated = _validate(job, split, build, params)
    raise_all(
        GateError,
        f"the FP16 model is not good enough on {split.frames}; FP16 is nearly exact, so suspect "
        "the layout, the normalisation or the ONNX:",
        list(validated.verdict.failures),
    )
    return validated


def _job(
    job: Job, split: Split, builds: Mapping[str, BuildRecord], first: int | None = None
) -> Job:
    return dataclasses.replace(
        job,
        frames=PackedSamples.join([split.validation, split.beyond]),
        reference=np.concatenate([split.answers, split.answers_beyond]),
        calibration=split.calibration[:first],
        builds=builds,
    )


def _validate(job: Job, split: Split, build: Build, params: ConvertParameters) -> Validated:
    count = len(split.answers)
    drives = validation.compare(split.answers, build.actions[:count], build.repeated[:count])
    beyond = None
    if len(split.answers_beyond):
        beyond = validation.compare(
            split.answers_beyond, build.actions[count:], build.repeated[count:]
        )
    names = ACTION_NAMES[job.contract.action_space]
    quantised = bool(build.options.algorithm)
    verdict = validation.judge_both(drives, beyond, names, params, quantised)
    return Validated(build, drives, beyond, verdict)


def words(name: str) -> str:
    """Return the name of an attempt as it is read."""
    return name.replace("_", " ")


def line(attempt: Mapping[str, Any]) -> str:
    """Return an attempt, as JSON types, in one line."""
    name = words(attempt["rung"])
    if attempt["split"]:
        name += f", split {attempt['split'] + 1}"
    if "problem" in attempt:
        return f"{name}: {attempt['problem']}"
    text = (
        f"{name}: {attempt['verdict']}, MAE {attempt['mae']:.4f}, max {attempt['max']:.3f}, "
        f"SQNR {attempt['sqnr_db']:.1f} dB"
    )
    if "beyond" in attempt:
        there = attempt["beyond"]
        text += (
            f"; beyond: MAE {there['mae']:.4f}, max {there['max']:.3f}, "
            f"SQNR {there['sqnr_db']:.1f} dB"
        )
    return text
