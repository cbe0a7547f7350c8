"""What a conversion leaves to read: its result, reference vectors and manifest."""

from __future__ import annotations

import dataclasses
import datetime
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import ACTION_NAMES, ACTION_OUTPUT
from tractor_inference.model import manifest, reference_vectors
from tractor_inference.model.onnx.inspection import OnnxFacts

from ..parameters import Request
from ..samples.split import Calibration, Frames
from ..store import folder as models_folder
from . import attempts, validation


@dataclasses.dataclass(frozen=True)
class Built:
    """What a conversion was asked, what it chose, and what the toolkit built of it."""

    request: Request
    facts: OnnxFacts
    frames: Frames
    chosen: Calibration
    reference: NDArray[np.float32]
    tried: attempts.Tried


@dataclasses.dataclass(frozen=True)
class Picked:
    """The build that a conversion is about, calibrated with the first so many samples."""

    attempt: str
    calibration_frames: int
    validated: attempts.Validated
    warnings: tuple[str, ...]

    @property
    def quantised(self) -> bool:
        """Whether it is INT8."""
        return self.attempt != attempts.FP16

    @property
    def verdict(self) -> str:
        """One word: pass, warn or fail."""
        word = self.validated.verdict.word
        return manifest.WARNED if self.warnings and word == manifest.PASS else word


def describe(built: Built, picked: Picked, promoted: bool) -> dict[str, Any]:
    """Return a conversion as plain JSON types: files, samples, validation and what was tried."""
    request, frames, tried = built.request, built.frames, built.tried
    params, output = request.parameters, request.output
    count = len(frames.validation)
    by_name = {attempt.name: attempt.as_json() for attempt in tried.attempts}
    notes = list(frames.notes)
    if built.facts.changes:
        notes.insert(
            0, f"the ONNX was brought to the toolkit's form: {'; '.join(built.facts.changes)}"
        )
    if count < validation.ENOUGH_FRAMES:
        notes.append(
            f"validated on {count} frames, fewer than the {validation.ENOUGH_FRAMES} wanted: the "
            "verdict is that much weaker"
        )
    if request.quantize and not picked.quantised:
        notes.append("FP16, because no INT8 build passed")
    elif promoted:
        notes += [f"accepted with warnings: {warning}" for warning in picked.warnings]
    notes += picked.validated.verdict.remarks
    fp16 = attempts.Attempt(attempts.FP16, 0, tried.fp16).as_json()
    return {
        "model": str(output),
        "manifest": str(output.with_suffix(".json")),
        "report": str(output.with_name(f"{output.stem}.report.html")),
        "link": str(output.with_name(models_folder.LINK)),
        "precision": "int8" if picked.quantised else "fp16",
        "target": params.target,
        "build": dataclasses.asdict(picked.validated.build.options),
        "actions": list(ACTION_NAMES[request.contract.action_space]),
        "onnx": str(request.onnx),
        "onnx_bytes": built.facts.size,
        "toolkit": tried.toolkit_version,
        "python": tried.python_version,
        "samples": {
            **frames.about,
            "calibration": picked.calibration_frames,
            "ranges": built.chosen.ranges,
        },
        "gates": {
            name: value
            for name, value in dataclasses.asdict(params).items()
            if name.startswith(("pass_", "fail_", "fp16_"))
        },
        "validation": {
            "frames": count,
            "source": frames.source,
            "verdict": picked.verdict,
            "rung": picked.attempt,
            "reasons": [*picked.validated.verdict.failures, *picked.warnings],
            "fp16": fp16,
            **({"int8": by_name[picked.attempt]} if picked.quantised else {}),
            "attempts": list(by_name.values()),
        },
        "notes": notes,
    }


def _choose_vectors(built: Built, picked: Picked) -> manifest.ProbesRecord:
    """Choose reference vectors spread over how much the actor turns."""
    reference, frames = built.reference, built.frames.validation
    tracks = built.request.contract.action_space == "tracks"
    turn = reference[:, 1] - reference[:, 0] if tracks else reference[:, 1]
    spread = np.linspace(0, len(frames) - 1, manifest.LEAST_PROBES).round().astype(int)
    answers = picked.validated.build.actions
    return manifest.ProbesRecord(
        built.request.parameters.probe_tolerance,
        tuple(
            reference_vectors.pack(frames[i], answers[i], reference[i])
            for i in np.argsort(turn, kind="stable")[spread]
        ),
    )


def write_manifest(
    built: Built, picked: Picked, result: dict[str, Any], model: Path, created: datetime.datetime
) -> None:
    """Write MODEL.json beside the staged model, with paths relative to a version's folder."""
    request, facts, chosen = built.request, built.facts, built.chosen
    place = request.output.parent.resolve() / models_folder.VERSIONS / request.output.stem
    used = slice(picked.calibration_frames)

    def relative(path: Path) -> str:
        return os.path.relpath(path.resolve(), place)

    calibration = manifest.CalibrationRecord("", ())
    if picked.quantised and request.calibration_dir:
        calibration = manifest.CalibrationRecord(
            relative(request.calibration_dir),
            tuple(
                manifest.SampleRecord(name, sha256)
                for name, sha256 in zip(chosen.names[used], chosen.samples.sha256[used])
            ),
            chosen.ranges,
        )
    manifest.write(
        manifest.Manifest(
            model=manifest.ModelRecord(
                request.output.name,
                manifest.sha256_file(model),
                model.stat().st_size,
                result["precision"],
                request.parameters.target,
            ),
            build=picked.validated.build.options,
            onnx=manifest.OnnxRecord(
                relative(request.onnx),
                facts.sha256,
                facts.size,
                {name: list(shape) for name, shape in facts.inputs.items()}
                | {ACTION_OUTPUT: list(facts.output)},
            ),
            contract=manifest.ContractRecord(request.contract.digest, request.contract.canonical()),
            calibration=calibration,
            toolkit=manifest.ToolkitRecord(result["toolkit"], result["python"]),
            probes=_choose_vectors(built, picked),
            validation=result["validation"],
            created=created.isoformat(timespec="seconds"),
        ),
        model.with_suffix(".json"),
    )
