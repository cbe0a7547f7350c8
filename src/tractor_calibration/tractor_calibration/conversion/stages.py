"""The stages of a conversion, from an ONNX actor and samples to a validated and promoted model."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tractor_core.errors import TractorError
from tractor_core.files import replace_file
from tractor_core.system_error import explain, is_about_writing
from tractor_inference.model.onnx import model as onnx_model

from ..pages import page
from ..parameters import Request
from ..samples import material as materials
from ..samples import split
from ..samples.split import Split
from ..store import destination, promotion
from ..store import folder as models_folder
from . import attempts, dataset, driving, outcome, report, toolkit_child, validation
from . import manifest as record

log = logging.getLogger(__name__)

# What went wrong says more than the stage in which it did.
_STAGE_OF: dict[type[Exception], str] = {
    attempts.GateError: "gate",
    driving.DriveError: "drive",
    toolkit_child.ToolkitDied: "died",
    toolkit_child.ToolkitTooSlow: "slow",
    toolkit_child.ToolkitTooLarge: "large",
    toolkit_child.NoRoomError: "files",
}
# What the system refuses in these is about a file that is read.
_READING = ("onnx", "samples")


class StageError(TractorError):
    """A stage failed.

    `stage` is one of onnx, samples, toolkit, died, slow, large, gate, warning, drive, files;
    `details` are plain JSON types: what was tried, and the page about it.
    """

    def __init__(self, stage: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.stage = stage
        self.details = details or {}


class _Stopwatch:
    """Times the stages and turns their errors into StageErrors; `folder` is that of the output."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        except StageError:
            raise
        except TractorError as error:
            raise StageError(_STAGE_OF.get(type(error), name), str(error)) from error
        except OSError as error:
            stage = name if name in _READING and not is_about_writing(error) else "files"
            raise StageError(stage, explain(error, self._folder)) from error
        finally:
            elapsed = time.perf_counter() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + elapsed, 3)


def convert(request: Request, command: Sequence[str] = toolkit_child.CHILD) -> dict[str, Any]:
    """Convert, validate and promote a model.

    Args:
        request: what to convert.
        command: starts the toolkit's process.

    Returns:
        The result as plain JSON types: files, bytes, samples, validation, notes, seconds.

    Raises:
        StageError: a stage failed; the models folder is as it was before.
    """
    watch = _Stopwatch(request.output.parent)
    params, contract = request.parameters, request.contract
    with watch.stage("toolkit"):
        page.require_libraries()
        if request.drive:
            driving.require_simulator()
    with watch.stage("onnx"):
        facts = onnx_model.inspect(request.onnx, contract)
    with watch.stage("files"):
        destination.check_destination(request.output)
        if request.quantize and request.calibration_dir:
            dataset.require_replaceable(request.calibration_dir)
    with watch.stage("samples"):
        material = materials.read(request)
    with watch.stage("onnx"):
        splits = split.divide(request, facts.data, material)
    with contextlib.ExitStack() as stack:
        with watch.stage("files"):
            work = stack.enter_context(promotion.workspace(request.output.parent))
        with watch.stage("toolkit"):
            log.info("building and simulating with rknn-toolkit2 for %s", params.target)
            job = toolkit_child.Job(facts.data, params.target, contract)
            run = _runner(work, _prefix(request), command)
            tried = attempts.make(job, splits, params.calibration_frames, params, run)
        built = record.Built(request, facts, material, tried)
        with watch.stage("gate"):
            picked, refusal = _pick(request, splits, tried)
            result = record.describe(built, picked)
            if refusal is not None:
                raise _refused(refusal, built, picked, result)
        created = datetime.datetime.now(datetime.timezone.utc)
        if request.drive:
            with watch.stage("drive"):
                _drive(built, picked, result, work, created)
        result["notes"] += [f"accepted with warnings: {warning}" for warning in picked.warnings]
        with watch.stage("files"):
            result["seconds"] = watch.seconds
            place = request.output.parent.resolve() / models_folder.VERSIONS / request.output.stem
            staged = record.write_version(built, picked, result, work, place, created)
            report_file = work / f"{request.output.stem}.report.html"
            replace_file(report_file, _page(built, picked, result))
            stamp = created.strftime("%Y%m%dT%H%M%SZ")
            change, kept = promotion.publish([report_file, *staged], stamp)
    result |= {"version": change.version, "kept": kept}
    if picked.quantised and request.calibration_dir:
        # A copy for readers: the model is validated and promoted with or without it.
        try:
            used = picked.split.calibration[: picked.attempt.frames]
            written = dataset.publish(used, contract, request.calibration_dir)
            result["rknn_dataset"] = str(written)
        except TractorError as error:
            result["notes"].append(f"rknn_dataset was not written: {error}")
        except OSError as error:
            reason = explain(error, request.calibration_dir / dataset.FOLDER)
            result["notes"].append(f"rknn_dataset was not written: {reason}")
    return result


def _drive(
    built: record.Built,
    picked: record.Picked,
    result: dict[str, Any],
    work: Path,
    created: datetime.datetime,
) -> None:
    """Drive the built model and its ONNX; raises StageError when it is not good enough."""
    request = built.request
    log.info("driving the model and its ONNX through %d worlds each", request.drive)
    folder = work / "drive"
    folder.mkdir()
    *_, model = record.write_version(built, picked, result, folder, folder.resolve(), created)
    try:
        result["drive"] = driving.drive(request.onnx, model, request.params_file, request.drive)
    except driving.DriveError as error:
        raise _refused(outcome.not_driven(str(error)), built, picked, result) from error
    if problem := driving.problem(result["drive"]):
        raise _refused(outcome.badly_driven(problem, picked.quantised), built, picked, result)


def _runner(work: Path, prefix: str, command: Sequence[str]) -> attempts.Run:
    """Return what runs a job in a folder of its own; the log of a failure lies outside of it."""
    folders = (work / f"build_{number}" for number in itertools.count())

    def run(job: toolkit_child.Job, limits: toolkit_child.Limits) -> toolkit_child.Outcome:
        folder = next(folders)
        folder.mkdir()
        log_file = Path(tempfile.gettempdir(), f"{prefix}{secrets.token_hex(8)}.log")
        return toolkit_child.run(job, folder, log_file, limits, command)

    return run


def _pick(
    request: Request, splits: Sequence[Split], tried: attempts.Tried
) -> tuple[record.Picked, outcome.Refusal | None]:
    """Return the build that the conversion is about, and why it may not be promoted, or None."""
    fp16 = record.Picked(
        attempts.Attempt(attempts.FP16, 0, tried.fp16[0]), tried.fp16[0], splits[0], tried.fp16[0]
    )
    if not request.quantize:
        return fp16, None
    attempt, validated = tried.best
    verdict, of_split = validated.verdict, splits[attempt.split]
    best = record.Picked(
        attempt, validated, of_split, tried.fp16[attempt.split],
        (*of_split.warnings, *verdict.warnings),
    )  # fmt: skip
    if not verdict.failures and (request.accept_warnings or not best.warnings):
        return best, None
    if request.allow_fp16:
        why = "no INT8 build passed"
        if not verdict.failures:
            why = f"the INT8 model has warnings: {'; '.join(best.warnings)}"
        return dataclasses.replace(fp16, because=why), None
    return best, outcome.refusal(validated, of_split.warnings, of_split.frames)


def _page(built: record.Built, picked: record.Picked, result: dict[str, Any]) -> str:
    return report.render(result, built.request.contract, picked.split, picked.validated)


def _refused(
    refusal: outcome.Refusal, built: record.Built, picked: record.Picked, result: dict[str, Any]
) -> StageError:
    """Return the error of a conversion that promotes nothing; its report is a temporary file."""
    found = result["validation"]
    result |= {"refused": refusal.headline, "advice": [*refusal.advice], "model": "not promoted"}
    result["validation"] = found | {"reasons": [*refusal.reasons]}
    if refusal.stage == "gate":
        result["validation"]["verdict"] = validation.FAIL
    name = Path(tempfile.gettempdir(), f"convert_{built.request.output.stem}.report.html")
    written = True
    try:
        handle, text = tempfile.mkstemp(prefix=_prefix(built.request), suffix=".report.html")
        os.close(handle)
        name = Path(text)
        replace_file(name, _page(built, picked, result))
        result["report"] = str(name)
    except OSError as problem:  # the verdict stands without its page
        written = False
        result["report"] = f"not written: {explain(problem, name)}"
    kept = ("validation", "notes", "samples", "reference_observations", "drive", "advice")
    details = {name: result[name] for name in kept if name in result}
    if written:
        details["report"] = result["report"]
    return StageError(refusal.stage, outcome.text(result), details)


def _prefix(request: Request) -> str:
    """Return how temporary files of a conversion begin; a long name would be too long with more."""
    return f"convert_{request.output.stem[:40]}_"
