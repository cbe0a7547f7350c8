"""The stages of a conversion, from an ONNX actor and samples to a proved and promoted model."""

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

import numpy as np
from numpy.typing import NDArray

from tractor_inference import onnx_model, samples
from tractor_inference.errors import ModelError, TractorError, raise_all
from tractor_inference.onnx_model import OnnxFacts

from . import (
    dataset,
    ladder,
    promotion,
    record,
    report,
    toolkit_child,
    validation,
)
from . import frames as frames_module
from .frames import Frames
from .parameters import Request

log = logging.getLogger(__name__)

# What went wrong says more than the stage in which it did.
_STAGE_OF: dict[type[Exception], str] = {
    ladder.GateError: "gate",
    ladder.DoubtError: "doubt",
    toolkit_child.ToolkitDied: "died",
    toolkit_child.ToolkitTooSlow: "slow",
    toolkit_child.ToolkitTooLarge: "large",
}


class StageError(TractorError):
    """A stage failed.

    `stage` is one of onnx, samples, toolkit, died, slow, large, gate, doubt, files.
    """

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage


class _Stopwatch:
    """Times the stages and turns their errors into StageErrors."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        except (TractorError, OSError) as error:
            raise StageError(_STAGE_OF.get(type(error), name), str(error)) from error
        finally:
            elapsed = time.perf_counter() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + elapsed, 3)


def convert(request: Request, command: Sequence[str] = toolkit_child.CHILD) -> dict[str, Any]:
    """Convert, prove and promote a model.

    Args:
        request: what to convert.
        command: starts the toolkit's process.

    Returns:
        The result as plain JSON types: files, bytes, samples, validation, notes, seconds.

    Raises:
        StageError: a stage failed; the models folder is as it was before.
    """
    watch = _Stopwatch()
    params, contract = request.parameters, request.contract
    with watch.stage("onnx"):
        facts = onnx_model.inspect(request.onnx, contract)
    with watch.stage("files"):
        promotion.check_destination(request.output)
        if request.quantize and request.calibration_dir:
            dataset.check_destination(request.calibration_dir)
    with watch.stage("samples"):
        frames = frames_module.find(request)
    with watch.stage("onnx"):
        reference = validation.reference_actions(facts.data, contract, frames.validation)
        files, frames.about["ranges"] = frames_module.choose(request, facts.data, frames.pool)
    with watch.stage("samples"):
        frames_module.require_obstacles(contract, frames)
        calibration = [samples.read(file, contract) for file in files]
    with contextlib.ExitStack() as stack:
        with watch.stage("files"):
            work = stack.enter_context(promotion.workspace(request.output.parent))
        with watch.stage("toolkit"):
            log.info("building and simulating with rknn-toolkit2 for %s", params.target)
            job = toolkit_child.Job(
                facts.data, params.target, contract, {}, frames.validation, reference, calibration
            )
            run = _runner(work, request.output.stem, command)
            climbed = ladder.climb(job, params.calibration_frames, params, run)
        with watch.stage("gate"):
            try:
                attempt, proved, doubts = _decide(request, climbed)
            except ModelError as error:
                page = _failed_page(request, facts, frames, climbed, reference, str(error))
                raise type(error)(f"{error}\n  - figures and pictures: {page}") from error
        with watch.stage("files"):
            created = datetime.datetime.now(datetime.timezone.utc)
            used = files[: attempt.frames]
            result = record.describe(request, facts, frames, climbed, attempt, proved)
            result["notes"] += doubts
            result["seconds"] = watch.seconds
            staged = work / request.output.name
            os.replace(proved.build.file, staged)
            probes_record = record.choose_probes(frames.validation, reference, proved, params)
            record.write_manifest(request, facts, used, probes_record, result, staged, created)
            page = work / f"{request.output.stem}.report.html"
            drawn = report.render(result, contract, frames.validation, reference, proved.build)
            page.write_text(drawn, encoding="utf-8")
            stamp = created.strftime("%Y%m%dT%H%M%SZ")
            change, kept = promotion.publish([staged.with_suffix(".json"), page, staged], stamp)
    result |= {"version": change.version, "kept": kept}
    if request.quantize and request.calibration_dir:
        # A copy for readers: the model is promoted and proved with or without it.
        try:
            written = dataset.publish(calibration, contract, request.calibration_dir)
            result["rknn_dataset"] = str(written)
        except (TractorError, OSError) as error:
            result["notes"].append(f"rknn_dataset was not written: {error}")
    return result


def _runner(work: Path, stem: str, command: Sequence[str]) -> ladder.Run:
    """Return what runs a job in a folder of its own; its log survives a failure, outside of it."""
    folders = (work / f"build_{number}" for number in itertools.count())

    def run(job: toolkit_child.Job, limits: toolkit_child.Limits) -> toolkit_child.Outcome:
        folder = next(folders)
        folder.mkdir()
        handle, name = tempfile.mkstemp(prefix=f"convert_{stem}_", suffix=".log")
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


def _decide(
    request: Request, climbed: ladder.Climb
) -> tuple[ladder.Attempt, ladder.Proved, list[str]]:
    """Return what is promoted and what is to be said with it.

    Raises:
        GateError, DoubtError: nothing may be promoted; says what was tried and what to do.
    """
    fp16 = ladder.Attempt(ladder.FP16, 0, climbed.fp16)
    if not request.quantize:
        return fp16, climbed.fp16, []
    if climbed.best is not None:
        attempt, proved = climbed.best
        doubts = list(proved.verdict.doubts)
        if not doubts:
            return attempt, proved, []
        if request.accept_doubts:
            return attempt, proved, [f"accepted with doubts: {doubt}" for doubt in doubts]
    tried = [ladder.line(attempt.as_json()) for attempt in climbed.attempts]
    if request.allow_fp16:
        return fp16, climbed.fp16, ["FP16, because no INT8 build passed", *tried]
    if climbed.best is not None:
        raise_all(
            ladder.DoubtError,
            f"the best INT8 model ({attempt.rung}) neither passes nor fails on "
            f"{proved.metrics.frames} frames:",
            [
                *doubts,
                *tried,
                "look at the figures and convert with --accept-warnings, or collect more varied "
                "samples and convert again",
            ],
        )
    reasons = climbed.attempts[0].proved.verdict.failures if climbed.attempts[0].proved else ()
    raise ladder.GateError(
        "\n  - ".join(
            [
                "the INT8 model does not agree with its ONNX, whatever was tried:",
                *reasons,
                *tried,
                "collect more varied samples, about 100 or more, and convert again, or allow an "
                "FP16 model with --allow-fp16",
            ]
        )
    )


def _failed_page(
    request: Request,
    facts: OnnxFacts,
    frames: Frames,
    climbed: ladder.Climb,
    reference: NDArray[np.float32],
    why: str,
) -> Path:
    """Write the report of a conversion that promoted nothing, outside of the models folder."""
    built = [(a, a.proved) for a in climbed.attempts if a.proved is not None]
    attempt, proved = climbed.best or built[-1]
    result = record.describe(request, facts, frames, climbed, attempt, proved)
    heading = why.split("\n", 1)[0].rstrip(":")
    result["notes"] = [f"NOT PROMOTED: {heading}", *result["notes"]]
    prefix, suffix = f"convert_{request.output.stem}_", ".report.html"
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(
            report.render(result, request.contract, frames.validation, reference, proved.build)
        )
    return Path(name)
