"""The stages of a conversion, from an ONNX actor and samples to a proved and promoted model."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tractor_inference import drift, manifest, onnx_model, samples
from tractor_inference.contract import Contract
from tractor_inference.errors import ModelError, SampleError, TractorError, raise_all
from tractor_inference.onnx_model import OnnxFacts
from tractor_inference.samples import Sample

from . import dataset, promotion, report, selection, toolkit_child, validation
from .parameters import ConvertParameters
from .quality import POOR_SAMPLES
from .validation import Gate, Metrics

log = logging.getLogger(__name__)

ACTION_NAMES = {"tracks": ["left", "right"], "twist": ["linear", "angular"]}

SYNTHETIC_FRAMES = 50


class StageError(TractorError):
    """A stage failed; `stage` is one of onnx, samples, toolkit, gate, files."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage


@dataclasses.dataclass(frozen=True)
class Request:
    """What to convert: `output` is the .rknn file, `calibration_dir` the folder of samples."""

    onnx: Path
    output: Path
    quantize: bool
    calibration_dir: Path | None
    contract: Contract
    parameters: ConvertParameters


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
            raise StageError(name, str(error)) from error
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
        files, ranges = _choose_calibration(request, facts, frames.pool)
    with watch.stage("samples"):
        calibration = [samples.read(file, contract) for file in files]
    with contextlib.ExitStack() as stack:
        with watch.stage("files"):
            work = stack.enter_context(promotion.workspace(request.output.parent))
        with watch.stage("toolkit"):
            log.info("building and simulating with rknn-toolkit2 for %s", params.target)
            build_folder = work / "build"
            build_folder.mkdir()
            job = toolkit_child.Job(
                facts.data, params.target, contract, frames.validation, calibration
            )
            outcome = _run_toolkit(job, build_folder, request.output.stem, params, command)
        with watch.stage("gate"):
            metrics = {
                name: validation.compare(reference, *build.actions)
                for name, build in outcome.builds.items()
            }
            doubts = _pass_gates(metrics, params, len(frames.validation))
        with watch.stage("files"):
            precision = "int8" if request.quantize else "fp16"
            created = datetime.datetime.now(datetime.timezone.utc)
            result = _describe(request, facts, frames, files, outcome, metrics)
            result["notes"] += doubts
            result["seconds"] = watch.seconds
            staged = work / request.output.name
            os.replace(outcome.builds[precision].file, staged)
            _write_manifest(request, facts, files, ranges, outcome, result, staged, created)
            page = work / f"{request.output.stem}.report.html"
            actions = {name: build.actions[0] for name, build in outcome.builds.items()}
            page.write_text(report.render(result, reference, actions), encoding="utf-8")
            stamp = created.strftime("%Y%m%dT%H%M%SZ")
            with promotion.uninterrupted():
                archived = promotion.promote([staged.with_suffix(".json"), page, staged], stamp)
    result["archived"] = [str(path) for path in archived]
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
        wanted = min(params.held_out_frames, int(usable * params.held_out_share))
        pool, held_out = selection.hold_out(checked.stamps_ns, wanted, params.held_out_separation_s)
        if not held_out or len(pool) < params.min_samples:
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
    """Choose the files that calibrate, in the order of time; none when there is no pool.

    Returns:
        The files, and {feature: [lowest, highest]} of the whole pool, whose activations they cover.
    """
    if not pool:
        return (), {}
    seen = []

    def frames() -> Iterator[Sample]:
        for file in pool:
            frame = samples.read(file, request.contract)
            seen.append(drift.features(frame.bev, frame.proprio))
            yield frame

    ranges = selection.activation_ranges(
        facts.data, request.contract, frames(), request.parameters.target
    )
    chosen = selection.by_coverage(*ranges, request.parameters.calibration_frames)
    files = tuple(pool[i] for i in sorted(chosen))
    return files, drift.ranges_of(seen, request.contract)


def _require_enough(request: Request, checked: dataset.CheckedFolder) -> None:
    least = request.parameters.min_samples if request.quantize else 1
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


def _run_toolkit(
    job: toolkit_child.Job,
    folder: Path,
    stem: str,
    params: ConvertParameters,
    command: Sequence[str],
) -> toolkit_child.Outcome:
    """Run the child; its log survives a failure, outside of the models folder."""
    handle, name = tempfile.mkstemp(prefix=f"convert_{stem}_", suffix=".log")
    os.close(handle)
    output = Path(name)
    try:
        outcome = toolkit_child.run(job, folder, output, params.toolkit_time_limit_s, command)
    except ModelError:
        raise
    except BaseException:
        output.unlink()
        raise
    output.unlink()
    return outcome


def _pass_gates(metrics: dict[str, Metrics], params: ConvertParameters, frames: int) -> list[str]:
    """Refuse builds that are not good enough; return what was let pass for want of frames."""
    gates = {
        "fp16": Gate(params.fp16_max_mae),
        "int8": Gate(params.int8_max_mae, params.int8_min_within_0_05),
    }
    for name, found in metrics.items():
        problems = validation.gate_problems(found, gates[name])
        if problems and name == "fp16":
            problems.append("FP16 is nearly exact: suspect the layout, the inputs or the ONNX")
        elif problems:
            problems.append("collect more varied samples, about 100 or more, and convert again")
        heading = f"the {name.upper()} model is not good enough on {frames} frames:"
        raise_all(ModelError, heading, problems)
    return [
        f"{found.overall.within_0_05:.1%} of the {name.upper()} actions within 0.05, less than "
        f"{gates[name].min_within_0_05:.1%}, but {frames} frames are too few to tell; collect more"
        for name, found in metrics.items()
        if found.overall.within_0_05 < gates[name].min_within_0_05
    ]


def _describe(
    request: Request,
    facts: OnnxFacts,
    frames: Frames,
    files: Sequence[Path],
    outcome: toolkit_child.Outcome,
    metrics: dict[str, Metrics],
) -> dict[str, Any]:
    builds = {
        name: {
            "bytes": build.file.stat().st_size,
            "build_seconds": round(build.seconds, 3),
            **metrics[name].as_json(),
        }
        for name, build in outcome.builds.items()
    }
    output = request.output
    return {
        "model": str(output),
        "manifest": str(output.with_suffix(".json")),
        "report": str(output.with_name(f"{output.stem}.report.html")),
        "link": str(output.with_name(promotion.LINK)),
        "precision": "int8" if request.quantize else "fp16",
        "target": request.parameters.target,
        "actions": ACTION_NAMES[request.contract.action_space],
        "onnx": str(request.onnx),
        "onnx_bytes": len(facts.data),
        "toolkit": outcome.toolkit_version,
        "samples": {**frames.about, "calibration": len(files)},
        "validation": {
            "frames": len(frames.validation),
            "source": frames.source,
            **builds,
        },
        "notes": list(frames.notes),
    }


def _write_manifest(
    request: Request,
    facts: OnnxFacts,
    files: Sequence[Path],
    ranges: dict[str, list[float]],
    outcome: toolkit_child.Outcome,
    result: dict[str, Any],
    model: Path,
    created: datetime.datetime,
) -> None:
    """Write MODEL.json beside the staged model, with paths relative to the models folder."""
    models = request.output.parent

    def relative(path: Path) -> str:
        return os.path.relpath(path.resolve(), models.resolve())

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
            onnx=manifest.OnnxRecord(relative(request.onnx), facts.sha256, len(facts.data)),
            contract=manifest.ContractRecord(request.contract.digest, request.contract.canonical()),
            calibration=manifest.CalibrationRecord(
                relative(calibration_dir) if calibration_dir else "",
                tuple(
                    manifest.SampleRecord(file.name, manifest.sha256_file(file)) for file in files
                ),
                ranges,
            ),
            toolkit=manifest.ToolkitRecord(outcome.toolkit_version, outcome.python_version),
            validation=result["validation"],
            created=created.isoformat(timespec="seconds"),
        ),
        model.with_suffix(".json"),
    )
