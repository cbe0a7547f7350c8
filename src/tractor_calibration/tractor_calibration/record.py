"""What a conversion leaves to read: its result, golden probes and manifest."""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_inference import manifest, probes
from tractor_inference.contract import ACTION_NAMES, ACTION_OUTPUT
from tractor_inference.onnx_model import OnnxFacts
from tractor_inference.samples import Sample

from . import ladder, models_folder, validation
from .frames import Frames
from .parameters import ConvertParameters, Request


def choose_probes(
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


def describe(
    request: Request,
    facts: OnnxFacts,
    frames: Frames,
    climbed: ladder.Climb,
    attempt: ladder.Attempt,
    proved: ladder.Proved,
) -> dict[str, Any]:
    """Return a conversion as plain JSON types: files, samples, validation and what was tried."""
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


def write_manifest(
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
