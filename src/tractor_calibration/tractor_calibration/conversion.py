"""The stages of a conversion, from an ONNX actor and samples to a proved and promoted model."""

from __future__ import annotations

import contextlib
import dataclasses
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

from tractor_inference import drift, manifest, onnx_model, probes, samples
from tractor_inference.contract import ACTION_NAMES, ACTION_OUTPUT, Contract
from tractor_inference.errors import ModelError, SampleError, TractorError, raise_all
from tractor_inference.onnx_model import OnnxFacts
from tractor_inference.samples import Sample

from . import (
    dataset,
    ladder,
    models_folder,
    promotion,
    report,
    selection,
    toolkit_child,
    validation,
)
from .parameters import ConvertParameters
from .quality import POOR_SAMPLES

log = logging.getLogger(__name__)

SYNTHETIC_FRAMES = 50
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


@dataclasses.dataclass(frozen=True)
class Request:
    """What to convert: `output` is the .rknn file, `calibration_dir` the folder of samples.

    With `accept_doubts` an INT8 model between pass and fail is promoted, with `allow_fp16` an FP16
    model when no INT8 model is.
    """

    onnx: Path
    output: Path
    quantize: bool
    calibration_dir: Path | None
    contract: Contract
    parameters: ConvertParameters
    accept_doubts: bool = False
    allow_fp16: bool = False


@dataclasses.dataclass(frozen=True)
class Frames:
    """Files that may calibrate, frames that validate and where from; `about` is for readers."""

    pool: tuple[Path, ...]
    validation: tuple[Sample, ...]
    source: str
    about: dict[str, Any]
    notes: tuple[str, ...]


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
        frames = _find_frames(request)
    with watch.stage("onnx"):
        reference = validation.reference_actions(facts.data, contract, frames.validation)
        files, frames.about["ranges"] = _choose_calibration(request, facts, frames.pool)
    with watch.stage("samples"):
        _require_something_seen(request, frames)
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
            result = _describe(request, facts, frames, climbed, attempt, proved)
            result["notes"] += doubts
            result["seconds"] = watch.seconds
            staged = work / request.output.name
            os.replace(proved.build.file, staged)
            probes_record = _probes(frames.validation, reference, proved, params)
            _write_manifest(request, facts, used, probes_record, result, staged, created)
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


def _find_frames(request: Request) -> Frames:
    """Check the samples and split them into a calibration pool and validation frames."""
    folder, params = request.calibration_dir, request.parameters
    if folder is None:
        if request.quantize:
            raise SampleError(
                "No calibration samples found: --quantize needs --calibration-dir DIR with the "
                "calib_*.npz files that the rover saves while it drives"
            )
        return Frames(
            (), tuple(validation.synthetic_frames(request.contract, SYNTHETIC_FRAMES)),
            "synthetic frames", dict(found=0, usable=0, rejected=[]),
            ("no samples were given: validated on synthetic frames drawn from the contract",),
        )  # fmt: skip
    checked = dataset.check_folder(folder, request.contract)
    _require_enough(request, checked)
    for reason in checked.rejected:
        log.warning("sample excluded: %s", reason)
    usable, found = len(checked.files), len(checked.files) + len(checked.rejected)
    notes = []
    if checked.rejected:
        notes.append(f"{found - usable} of {found} samples excluded, as they were not usable")
    about = dict(found=found, usable=usable, rejected=list(checked.rejected))

    pool: list[int] = []
    held_out: list[int] = []
    if not request.quantize:
        notes.append("without --quantize the samples validate the model and calibrate nothing")
    else:
        if usable < POOR_SAMPLES:
            notes.append(f"{usable} usable samples are poor calibration; collect at least 100")
        wanted = max(manifest.LEAST_PROBES, int(usable * params.held_out_share))
        wanted = min(params.held_out_frames, wanted, usable)
        pool, held_out = selection.hold_out(checked.stamps_ns, wanted, params.held_out_separation_s)
        if len(pool) < params.min_samples:
            pool, held_out = list(range(usable)), []
            notes.append("too few samples to hold any out: validated on those that may calibrate")
        about["pool"] = len(pool)
    spread = np.linspace(0, usable - 1, min(usable, params.held_out_frames))
    judges = held_out or spread.round().astype(int).tolist()
    return Frames(
        pool=tuple(checked.files[i] for i in pool),
        validation=tuple(samples.read(checked.files[i], request.contract) for i in judges),
        source="held-out samples" if held_out else "samples",
        about=about,
        notes=tuple(notes),
    )


def _choose_calibration(
    request: Request, facts: OnnxFacts, pool: Sequence[Path]
) -> tuple[tuple[Path, ...], dict[str, list[float]]]:
    """Choose files whose activations cover those of the whole pool; none when there is no pool.

    Returns:
        The files in the order of choice, and {feature: [lowest, highest]} of the whole pool.
    """
    if not pool:
        return (), {}
    seen = []

    def frames() -> Iterator[Sample]:
        for file in pool:
            frame = samples.read(file, request.contract)
            seen.append(drift.features(frame.bev, frame.proprio))
            yield frame

    extremes = selection.activation_ranges(
        facts.data, request.contract, frames(), request.parameters.target
    )
    files = tuple(pool[i] for i in selection.by_coverage(*extremes, len(pool)))
    return files, drift.ranges_of(seen, request.contract)


def _require_something_seen(request: Request, frames: Frames) -> None:
    """Refuse samples in which a channel is always empty: every gate would pass on such frames."""
    names = request.contract.grid_channels if frames.pool else ()
    empty = [name for name in names if frames.about["ranges"][f"{name} occupancy"][1] == 0.0]
    if empty:
        raise SampleError(
            f"in all {len(frames.pool)} samples the grid's channel {' and '.join(empty)} is empty: "
            "expected obstacles, or the model is calibrated for a rover that sees none; look at "
            "the sensor's topic and mounting, and collect samples again"
        )


def _require_enough(request: Request, checked: dataset.CheckedFolder) -> None:
    least = request.parameters.min_samples if request.quantize else manifest.LEAST_PROBES
    usable, rejected = len(checked.files), len(checked.rejected)
    if usable >= least:
        return
    heading = "Too few calibration samples" if usable else "No calibration samples found"
    shown = list(checked.rejected[:20])
    if rejected > len(shown):
        shown.append(f"and {rejected - len(shown)} more")
    raise SampleError(
        "\n  - ".join(
            [
                f"{heading} in {request.calibration_dir}: expected at least {least} usable .npz "
                f"files, found {usable} of {usable + rejected}; let the rover drive for a few "
                "minutes (./start_sac_rover.sh) to collect about 100",
                *shown,
            ]
        )
    )


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
    result = _describe(request, facts, frames, climbed, attempt, proved)
    heading = why.split("\n", 1)[0].rstrip(":")
    result["notes"] = [f"NOT PROMOTED: {heading}", *result["notes"]]
    prefix, suffix = f"convert_{request.output.stem}_", ".report.html"
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(
            report.render(result, request.contract, frames.validation, reference, proved.build)
        )
    return Path(name)


def _probes(
    frames: Sequence[Sample],
    reference: NDArray[np.float32],
    proved: ladder.Proved,
    params: ConvertParameters,
) -> manifest.ProbesRecord:
    """Choose golden probes spread over how much the actor turns."""
    turning = np.argsort(reference[:, 0] - reference[:, 1], kind="stable")
    spread = np.linspace(0, len(frames) - 1, manifest.LEAST_PROBES).round().astype(int)
    answers = proved.build.actions
    return manifest.ProbesRecord(
        params.probe_tolerance,
        tuple(probes.pack(frames[i], answers[i], reference[i]) for i in turning[spread]),
    )


def _describe(
    request: Request,
    facts: OnnxFacts,
    frames: Frames,
    climbed: ladder.Climb,
    attempt: ladder.Attempt,
    proved: ladder.Proved,
) -> dict[str, Any]:
    quantised = attempt.rung != ladder.FP16
    fp16 = ladder.Attempt(ladder.FP16, 0, climbed.fp16).as_json()
    count = len(frames.validation)
    notes = list(frames.notes)
    if count < validation.ENOUGH_FRAMES:
        notes.append(
            f"judged on {count} frames, fewer than the {validation.ENOUGH_FRAMES} wanted: the "
            "verdict is that much weaker"
        )
    output = request.output
    return {
        "model": str(output),
        "manifest": str(output.with_suffix(".json")),
        "report": str(output.with_name(f"{output.stem}.report.html")),
        "link": str(output.with_name(models_folder.LINK)),
        "precision": "int8" if quantised else "fp16",
        "target": request.parameters.target,
        "build": dataclasses.asdict(proved.build.options),
        "actions": list(ACTION_NAMES[request.contract.action_space]),
        "onnx": str(request.onnx),
        "onnx_bytes": len(facts.data),
        "toolkit": climbed.toolkit_version,
        "python": climbed.python_version,
        "samples": {**frames.about, "calibration": attempt.frames},
        "validation": {
            "frames": count,
            "source": frames.source,
            "verdict": proved.verdict.word,
            "rung": attempt.rung,
            "fp16": fp16,
            **({"int8": attempt.as_json()} if quantised else {}),
            "attempts": [tried.as_json() for tried in climbed.attempts],
        },
        "notes": notes,
    }


def _write_manifest(
    request: Request,
    facts: OnnxFacts,
    files: Sequence[Path],
    probes_record: manifest.ProbesRecord,
    result: dict[str, Any],
    model: Path,
    created: datetime.datetime,
) -> None:
    """Write MODEL.json beside the staged model, with paths relative to a version's folder."""
    place = request.output.parent.resolve() / models_folder.VERSIONS / request.output.stem

    def relative(path: Path) -> str:
        return os.path.relpath(path.resolve(), place)

    calibration_dir = request.calibration_dir if files else None
    manifest.write(
        manifest.Manifest(
            model=manifest.ModelRecord(
                request.output.name,
                manifest.sha256_file(model),
                model.stat().st_size,
                result["precision"],
                request.parameters.target,
            ),
            build=manifest.BuildRecord(**result["build"]),
            onnx=manifest.OnnxRecord(
                relative(request.onnx),
                facts.sha256,
                len(facts.data),
                {name: list(shape) for name, shape in facts.inputs.items()}
                | {ACTION_OUTPUT: list(facts.output)},
            ),
            contract=manifest.ContractRecord(request.contract.digest, request.contract.canonical()),
            calibration=manifest.CalibrationRecord(
                relative(calibration_dir) if calibration_dir else "",
                tuple(
                    manifest.SampleRecord(file.name, manifest.sha256_file(file)) for file in files
                ),
                result["samples"]["ranges"] if files else {},
            ),
            toolkit=manifest.ToolkitRecord(result["toolkit"], result["python"]),
            probes=probes_record,
            validation=result["validation"],
            created=created.isoformat(timespec="seconds"),
        ),
        model.with_suffix(".json"),
    )
