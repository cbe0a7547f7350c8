"""What is tried, in this order, until an INT8 build passes its gates.

kl_divergence is not among it: it clips what these networks need (measured: 16.8 dB against 31.6).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

from tractor_core.contract import ACTION_NAMES
from tractor_core.errors import ModelError, raise_all
from tractor_inference.model.manifest import PASS, BuildRecord
from tractor_inference.model.rknn_toolkit import QUANTIZED

from ..parameters import ConvertParameters
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


class WarningsError(ModelError):
    """The best build has warnings: it neither passes nor fails."""


@dataclasses.dataclass(frozen=True)
class Validated:
    """A build, how it agrees with the ONNX, and what follows."""

    build: Build
    metrics: Metrics
    verdict: Verdict


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One of ATTEMPTS: calibrated with so many samples; what came of it, or why nothing did."""

    name: str
    frames: int
    validated: Validated | None
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        # "rung" is what the manifest's format calls it.
        found: dict[str, Any] = {"rung": self.name, "calibration_frames": self.frames}
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
        }


@dataclasses.dataclass(frozen=True)
class Tried:
    """FP16 and the attempts that were made, in order, and the versions that built them."""

    fp16: Validated
    attempts: tuple[Attempt, ...]
    toolkit_version: str
    python_version: str

    @property
    def best(self) -> tuple[Attempt, Validated]:
        """The attempt that passed, else one with warnings before one that failed.

        Among equals the fewest warnings count, then the attempt that was made first: it is the
        plainest build. Of attempts that failed it is the one of the least mean error.
        """
        validated = [(attempt, attempt.validated) for attempt in self.attempts if attempt.validated]

        def rank(item: tuple[Attempt, Validated]) -> tuple[bool, float, int]:
            verdict = item[1].verdict
            mae = item[1].metrics.overall.mae if verdict.failures else 0.0
            return bool(verdict.failures), mae, len(verdict.warnings)

        return min(validated, key=rank)


def make(job: Job, first: int, params: ConvertParameters, run: Run) -> Tried:
    """Build FP16, then INT8 attempt by attempt until one passes.

    Args:
        job: its `calibration` in the order of choice, none for FP16 alone; `builds` is not used.
        first: so many calibration samples are taken by the first attempt, all by the others.
        params: gates and limits.
        run: runs a job in the toolkit's process.

    Raises:
        GateError: FP16 is not exact.
        ModelError: the toolkit failed in the first attempt.
    """
    memory_mb = params.toolkit_memory_limit_mb
    limits = Limits(params.toolkit_time_limit_s, "toolkit_time_limit_s", memory_mb)
    samples = job.calibration
    builds = {FP16: BuildRecord()} | ({COVERAGE: ATTEMPTS[COVERAGE]} if samples else {})
    outcome = run(dataclasses.replace(job, builds=builds, calibration=samples[:first]), limits)
    fp16 = _validate(job, outcome.builds[FP16], params)
    raise_all(
        GateError,
        f"the FP16 model is not good enough on {len(job.frames)} frames; FP16 is nearly exact, so "
        "suspect the layout, the normalisation or the ONNX:",
        list(fp16.verdict.failures),
    )
    attempts: list[Attempt] = []
    for name, options in ATTEMPTS.items() if samples else ():
        if name == COVERAGE:
            validated = _validate(job, outcome.builds[COVERAGE], params)
            attempt = Attempt(name, len(samples[:first]), validated)
        elif name == MORE_COVERAGE and first >= len(samples):
            attempt = Attempt(name, len(samples), None, NOTHING_TO_ADD)
        else:
            log.info("%s: building", words(name))
            allowed = limits
            if name == MMSE:
                allowed = Limits(params.mmse_time_limit_s, "mmse_time_limit_s", memory_mb)
            try:
                built = run(dataclasses.replace(job, builds={name: options}), allowed)
                attempt = Attempt(name, len(samples), _validate(job, built.builds[name], params))
            except ModelError as error:  # the other attempts stay
                attempt = Attempt(name, len(samples), None, str(error))
        attempts.append(attempt)
        log.info("%s", line(attempt.as_json()))
        if attempt.validated is not None and attempt.validated.verdict.word == PASS:
            break
    return Tried(fp16, tuple(attempts), outcome.toolkit_version, outcome.python_version)


def _validate(job: Job, build: Build, params: ConvertParameters) -> Validated:
    metrics = validation.compare(job.reference, build.actions, build.repeated)
    names = ACTION_NAMES[job.contract.action_space]
    quantised = bool(build.options.algorithm)
    return Validated(build, metrics, validation.judge(metrics, names, params, quantised))


def words(name: str) -> str:
    """Return the name of an attempt as it is read."""
    return name.replace("_", " ")


def line(attempt: Mapping[str, Any]) -> str:
    """Return an attempt, as JSON types, in one line."""
    name = words(attempt["rung"])
    if "problem" in attempt:
        return f"{name}: {attempt['problem']}"
    return (
        f"{name}: {attempt['verdict']}, MAE {attempt['mae']:.4f}, max {attempt['max']:.3f}, "
        f"SQNR {attempt['sqnr_db']:.1f} dB"
    )
