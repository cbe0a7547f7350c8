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
from tractor_inference.manifest import PASS, BuildRecord
from tractor_inference.rknn_toolkit import QUANTIZED

from . import validation
from .parameters import ConvertParameters
from .toolkit_child import Build, Job, Limits, Outcome
from .validation import Metrics, Verdict

log = logging.getLogger(__name__)

FP16, COVERAGE, MORE_COVERAGE, MMSE = "fp16", "coverage", "more_coverage", "mmse"
# Names without spaces: they become file names, and the toolkit refuses a path with one.
RUNGS = {
    COVERAGE: QUANTIZED,
    MORE_COVERAGE: QUANTIZED,
    MMSE: BuildRecord("mmse"),
    "normaliser_inside": BuildRecord("normal", normaliser_inside=True),
    "hybrid": BuildRecord("normal", hybrid=True),
}
NOTHING_TO_ADD = "not tried: the ranges of all samples are covered, more give the same model"

Run = Callable[[Job, Limits], Outcome]


class GateError(ModelError):
    """A build does not agree with its ONNX."""


class DoubtError(ModelError):
    """The best build neither passes nor fails."""


@dataclasses.dataclass(frozen=True)
class Proved:
    """A build, how it agrees with the ONNX, and what follows."""

    build: Build
    metrics: Metrics
    verdict: Verdict


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One rung: calibrated with so many samples, and what came of it or the problem why nothing."""

    rung: str
    frames: int
    proved: Proved | None
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        found: dict[str, Any] = {"rung": self.rung, "calibration_frames": self.frames}
        if self.proved is None:
            return found | {"verdict": "none", "problem": self.problem}
        verdict, build = self.proved.verdict, self.proved.build
        return found | {
            "verdict": verdict.word,
            "reasons": [*verdict.failures, *verdict.doubts, *verdict.remarks],
            "bytes": build.file.stat().st_size,
            "build_seconds": round(build.seconds, 3),
            "simulator_ms": round(build.infer_ms, 3),
            **self.proved.metrics.as_json(),
        }


@dataclasses.dataclass(frozen=True)
class Climb:
    """FP16 and the rungs that were tried, in order, and the versions that built them."""

    fp16: Proved
    attempts: tuple[Attempt, ...]
    toolkit_version: str
    python_version: str

    @property
    def best(self) -> tuple[Attempt, Proved]:
        """The rung that passed, else one in doubt before one that failed.

        Among equals the least doubts count, then the rung that was tried first: it is the plainest
        build. Of rungs that failed it is the one of the least mean error.
        """
        proved = [(attempt, attempt.proved) for attempt in self.attempts if attempt.proved]

        def rank(item: tuple[Attempt, Proved]) -> tuple[bool, float, int]:
            verdict = item[1].verdict
            mae = item[1].metrics.overall.mae if verdict.failures else 0.0
            return bool(verdict.failures), mae, len(verdict.doubts)

        return min(proved, key=rank)


def climb(job: Job, first: int, params: ConvertParameters, run: Run) -> Climb:
    """Build FP16, then INT8 rung by rung until one passes.

    Args:
        job: its `calibration` in the order of choice, none for FP16 alone; `builds` is not used.
        first: so many calibration samples are taken on the first rung, all on the others.
        params: gates and limits.
        run: runs a job in the toolkit's process.

    Raises:
        GateError: FP16 is not exact.
        ModelError: the toolkit failed on the first rung.
    """
    memory_mb = params.toolkit_memory_limit_mb
    limits = Limits(params.toolkit_time_limit_s, "toolkit_time_limit_s", memory_mb)
    samples = job.calibration
    builds = {FP16: BuildRecord()} | ({COVERAGE: RUNGS[COVERAGE]} if samples else {})
    outcome = run(dataclasses.replace(job, builds=builds, calibration=samples[:first]), limits)
    fp16 = _prove(job, outcome.builds[FP16], params)
    raise_all(
        GateError,
        f"the FP16 model is not good enough on {len(job.frames)} frames; FP16 is nearly exact, so "
        "suspect the layout, the normalisation or the ONNX:",
        list(fp16.verdict.failures),
    )
    attempts: list[Attempt] = []
    for rung, options in RUNGS.items() if samples else ():
        if rung == COVERAGE:
            proved = _prove(job, outcome.builds[COVERAGE], params)
            attempt = Attempt(rung, len(samples[:first]), proved)
        elif rung == MORE_COVERAGE and first >= len(samples):
            attempt = Attempt(rung, len(samples), None, NOTHING_TO_ADD)
        else:
            log.info("%s: building", words(rung))
            allowed = limits
            if rung == MMSE:
                allowed = Limits(params.mmse_time_limit_s, "mmse_time_limit_s", memory_mb)
            try:
                built = run(dataclasses.replace(job, builds={rung: options}), allowed)
                attempt = Attempt(rung, len(samples), _prove(job, built.builds[rung], params))
            except ModelError as error:  # the rungs below stay
                attempt = Attempt(rung, len(samples), None, str(error))
        attempts.append(attempt)
        log.info("%s", line(attempt.as_json()))
        if attempt.proved is not None and attempt.proved.verdict.word == PASS:
            break
    return Climb(fp16, tuple(attempts), outcome.toolkit_version, outcome.python_version)


def _prove(job: Job, build: Build, params: ConvertParameters) -> Proved:
    metrics = validation.compare(job.reference, build.actions, build.repeated)
    names = ACTION_NAMES[job.contract.action_space]
    quantised = bool(build.options.algorithm)
    return Proved(build, metrics, validation.judge(metrics, names, params, quantised))


def words(rung: str) -> str:
    """Return the name of a rung as it is read."""
    return rung.replace("_", " ")


def line(attempt: Mapping[str, Any]) -> str:
    """Return an attempt, as JSON types, in one line."""
    name = words(attempt["rung"])
    if "problem" in attempt:
        return f"{name}: {attempt['problem']}"
    return (
        f"{name}: {attempt['verdict']}, MAE {attempt['mae']:.4f}, max {attempt['max']:.3f}, "
        f"SQNR {attempt['sqnr_db']:.1f} dB"
    )
