"""The stages of a conversion, from an ONNX actor and samples to a validated and promoted model."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tractor_core.errors import ModelError, TractorError
from tractor_core.files import replace_file
from tractor_core.system_error import explain, is_about_writing
from tractor_inference.model.onnx import model as onnx_model

from ..pages import page
from ..parameters import Request
from ..samples import reference, split
from ..samples.split import Frames
from ..store import destination, promotion
from . import attempts, dataset, report, toolkit_child
from . import manifest as record

log = logging.getLogger(__name__)

# What went wrong says more than the stage in which it did.
_STAGE_OF: dict[type[Exception], str] = {
    attempts.GateError: "gate",
    attempts.WarningsError: "warning",
    toolkit_child.ToolkitDied: "died",
    toolkit_child.ToolkitTooSlow: "slow",
    toolkit_child.ToolkitTooLarge: "large",
    toolkit_child.NoRoomError: "files",
}
# What the system refuses in these is about a file that is read.
_READING = ("onnx", "samples")


class StageError(TractorError):
    """A stage failed.

    `stage` is one of onnx, samples, toolkit, died, slow, large, gate, warning, files; `details` are
    plain JSON types: what was tried, and the page about it.
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
    with watch.stage("onnx"):
        facts = onnx_model.inspect(request.onnx, contract)
    with watch.stage("files"):
        destination.check_destination(request.output)
        if request.quantize and request.calibration_dir:
            dataset.check_destination(request.calibration_dir)
    with watch.stage("samples"):
        frames = split.find(request)
    with watch.stage("onnx"):
        actions = reference.reference_actions(facts.data, contract, frames.validation)
        chosen = split.choose(request, facts.data, frames)
    with watch.stage("samples"):
        split.require_obstacles(contract, chosen)
    with contextlib.ExitStack() as stack:
        with watch.stage("files"):
            work = stack.enter_context(promotion.workspace(request.output.parent))
        with watch.stage("toolkit"):
            log.info("building and simulating with rknn-toolkit2 for %s", params.target)
            job = toolkit_child.Job(
                facts.data, params.target, contract, frames.validation, actions, chosen.samples
            )
            run = _runner(work, _prefix(request), command)
            tried = attempts.make(job, params.calibration_frames, params, run)
        built = record.Built(request, facts, frames, chosen, actions, tried)
        with watch.stage("gate"):
            picked, refusal = _pick(request, frames, tried)
            result = record.describe(built, picked, promoted=refusal is None)
            if refusal is not None:
                raise _refused(refusal, built, picked, result)
        with watch.stage("files"):
            created = datetime.datetime.now(datetime.timezone.utc)
            result["seconds"] = watch.seconds
            staged = work / request.output.name
            os.replace(picked.validated.build.file, staged)
            record.write_manifest(built, picked, result, staged, created)
            report_file = work / f"{request.output.stem}.report.html"
            replace_file(report_file, _page(built, picked, result))
            stamp = created.strftime("%Y%m%dT%H%M%SZ")
            change, kept = promotion.publish(
                [staged.with_suffix(".json"), report_file, staged], stamp
            )
    result |= {"version": change.version, "kept": kept}
    if request.quantize and request.calibration_dir:
        # A copy for readers: the model is validated and promoted with or without it.
        try:
            written = dataset.publish(chosen.samples, contract, request.calibration_dir)
            result["rknn_dataset"] = str(written)
        except TractorError as error:
            result["notes"].append(f"rknn_dataset was not written: {error}")
        except OSError as error:
            reason = explain(error, request.calibration_dir / dataset.FOLDER)
            result["notes"].append(f"rknn_dataset was not written: {reason}")
    return result


def _runner(work: Path, prefix: str, command: Sequence[str]) -> attempts.Run:
    """Return what runs a job in a folder of its own; its log survives a failure, outside of it."""
    folders = (work / f"build_{number}" for number in itertools.count())

    def run(job: toolkit_child.Job, limits: toolkit_child.Limits) -> toolkit_child.Outcome:
        folder = next(folders)
        folder.mkdir()
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=".log")
        os.close(handle)
        output = Path(name)
        try:
            outcome = toolkit_child.run(job, folder, output, limits, command)
        except ModelError:
            raise
        except BaseException:
            output.unlink()
            raise
        output.unlink()
        return outcome

    return run


def _pick(
    request: Request, frames: Frames, tried: attempts.Tried
) -> tuple[record.Picked, ModelError | None]:
    """Return the build that the conversion is about, and why it may not be promoted, or None."""
    fp16 = record.Picked(attempts.FP16, 0, tried.fp16, frames.warnings)
    if not request.quantize:
        return fp16, None
    attempt, validated = tried.best
    verdict = validated.verdict
    best = record.Picked(
        attempt.name, attempt.frames, validated, (*frames.warnings, *verdict.warnings)
    )
    lines = [attempts.line(one.as_json()) for one in tried.attempts]
    count, name = validated.metrics.frames, attempts.words(attempt.name)
    if not verdict.failures and (request.accept_warnings or not best.warnings):
        return best, None
    if request.allow_fp16:
        return fp16, None
    if verdict.failures:
        return best, attempts.GateError(
            "\n  - ".join(
                [
                    f"the INT8 model does not agree with its ONNX on {count} frames, whatever was "
                    f"tried; the closest ({name}):",
                    *verdict.failures,
                    *lines,
                    "collect more varied samples, about 100 or more, and convert again, or allow "
                    "an FP16 model with --allow-fp16",
                ]
            )
        )
    return best, attempts.WarningsError(
        "\n  - ".join(
            [
                f"the best INT8 model ({name}) neither passes nor fails on {count} frames:",
                *best.warnings,
                *lines,
                "collect more varied samples and convert again, or look at the figures and convert "
                "with --accept-warnings, or --allow-fp16",
            ]
        )
    )


def _page(built: record.Built, picked: record.Picked, result: dict[str, Any]) -> str:
    frames, contract = built.frames.validation, built.request.contract
    return report.render(result, contract, frames, built.reference, picked.validated.build)


def _refused(
    error: ModelError, built: record.Built, picked: record.Picked, result: dict[str, Any]
) -> StageError:
    """Return the error of a conversion that promotes nothing; its report is a temporary file."""
    first, *rest = str(error).split("\n")
    result["model"] = "none: not promoted"
    result["notes"] = [f"NOT PROMOTED: {first.rstrip(':')}", *result["notes"]]
    details = {"validation": result["validation"], "notes": result["notes"]}
    name = Path(tempfile.gettempdir(), f"convert_{built.request.output.stem}.report.html")
    try:
        handle, text = tempfile.mkstemp(prefix=_prefix(built.request), suffix=".report.html")
        os.close(handle)
        name = Path(text)
        replace_file(name, _page(built, picked, result))
        details["report"] = str(name)
        where = f"figures and pictures: {name}"
    except OSError as problem:  # the verdict stands without its page
        where = f"figures and pictures were not written: {explain(problem, name)}"
    message = "\n".join(
        [first, *rest, *(f"  - {note}" for note in result["notes"][1:]), f"  - {where}"]
    )
    return StageError(_STAGE_OF[type(error)], message, details)


def _prefix(request: Request) -> str:
    """Return how temporary files of a conversion begin; a long name would be too long with more."""
    return f"convert_{request.output.stem[:40]}_"
