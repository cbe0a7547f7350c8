"""What a conversion leaves to read: its result, reference vectors and manifest."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tractor_core import reference_observations, samples
from tractor_core.contract import ACTION_NAMES, ACTION_OUTPUT
from tractor_core.errors import TractorError
from tractor_core.files import replace_file
from tractor_inference.model import manifest, reference_vectors
from tractor_inference.model.onnx.inspection import OnnxFacts

from ..parameters import Request
from ..samples.material import Material
from ..samples.split import Split
from ..store import folder as models_folder
from . import attempts, validation


@dataclasses.dataclass(frozen=True)
class Built:
    """What a conversion was asked, what it chose, and what the toolkit built of it."""

    request: Request
    facts: OnnxFacts
    material: Material
    tried: attempts.Tried


@dataclasses.dataclass(frozen=True)
class Picked:
    """The build that a conversion is about, calibrated with the first so many frames of a split.

    `because` says why it is FP16 where INT8 was asked for.
    """

    attempt: attempts.Attempt
    validated: attempts.Validated
    split: Split
    fp16: attempts.Validated
    warnings: tuple[str, ...] = ()
    because: str = ""

    @property
    def quantised(self) -> bool:
        """Whether it is INT8."""
        return self.attempt.name != attempts.FP16

    @property
    def verdict(self) -> str:
        """One word: pass, warn or fail."""
        word = self.validated.verdict.word
        return manifest.WARNED if self.warnings and word == manifest.PASS else word


def describe(built: Built, picked: Picked) -> dict[str, Any]:
    """Return a conversion as plain JSON types: files, samples, validation and what was tried."""
    request, split, tried = built.request, picked.split, built.tried
    params, output = request.parameters, request.output
    count = len(split.validation)
    notes = list(split.notes)
    if built.facts.changes:
        notes.insert(
            0, f"the ONNX was brought to the toolkit's form: {'; '.join(built.facts.changes)}"
        )
    if count < validation.ENOUGH_FRAMES:
        notes.append(
            f"validated on {count} frames, fewer than the {validation.ENOUGH_FRAMES} wanted: the "
            "verdict is that much weaker"
        )
    if picked.because:
        notes.append(f"FP16, because {picked.because}")
    notes += picked.validated.verdict.remarks
    used = picked.attempt.frames
    fp16 = attempts.Attempt(attempts.FP16, 0, picked.fp16, split=picked.attempt.split)
    validated = {"fp16": fp16.as_json()}
    if picked.quantised:
        validated["int8"] = picked.attempt.as_json()
    return {
        "refused": "",
        "advice": [],
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
            **built.material.about(),
            "pool": split.pool,
            "calibration": used,
            "calibration_reference": split.references(used),
            "ranges": split.ranges,
        },
        "reference_observations": built.material.about_reference(),
        "gates": {
            name: value
            for name, value in dataclasses.asdict(params).items()
            if name.startswith(("pass_", "fail_", "fp16_"))
        },
        "validation": {
            "frames": count,
            "source": split.source,
            "beyond_frames": len(split.beyond),
            "verdict": picked.verdict,
            "rung": picked.attempt.name,
            "reasons": [*picked.validated.verdict.failures, *picked.warnings],
            **validated,
            "attempts": [attempt.as_json() for attempt in tried.attempts],
        },
        "notes": notes,
    }


def _choose_vectors(built: Built, picked: Picked) -> manifest.ProbesRecord:
    """Choose reference vectors spread over how much the actor turns."""
    reference, frames = picked.split.answers, picked.split.validation
    tracks = built.request.contract.action_space == "tracks"
    turn = reference[:, 1] - reference[:, 0] if tracks else reference[:, 1]
    spread = np.linspace(0, len(frames) - 1, manifest.LEAST_PROBES).round().astype(int)
    answers = picked.validated.actions
    return manifest.ProbesRecord(
        built.request.parameters.probe_tolerance,
        tuple(
            reference_vectors.pack(frames[i], answers[i], reference[i])
            for i in np.argsort(turn, kind="stable")[spread]
        ),
    )


def _keep_samples(
    built: Built, picked: Picked, source: Path, folder: Path
) -> tuple[list[Path], tuple[manifest.SampleRecord, ...]]:
    """Write the samples of `source` that calibrated a model into a folder.

    Returns:
        The files, and the records of all that calibrated it.
    """
    split, used = picked.split, slice(picked.attempt.frames)
    kept: dict[str, Path] = {}
    records: list[manifest.SampleRecord] = []
    calibrating = split.calibration[used]
    for name, sha256, sample in zip(split.names[used], calibrating.sha256, calibrating):
        if reference_observations.file_and_index(name) is not None:
            records.append(manifest.SampleRecord(name, sha256))
            continue
        try:
            data = manifest.read_checked(source / name, sha256)
        except TractorError:  # a rover that drives may have replaced it since it was read
            data = samples.encode(sample, built.request.contract)
        own = Path(name).name
        own = own if own not in kept else f"{samples.PREFIX}{len(kept)}_{own}"
        kept[own] = folder / own
        replace_file(kept[own], data)
        records.append(manifest.SampleRecord(own, hashlib.sha256(data).hexdigest()))
    return [*kept.values()], tuple(records)


def write_version(
    built: Built,
    picked: Picked,
    result: dict[str, Any],
    folder: Path,
    place: Path,
    created: datetime.datetime,
) -> list[Path]:
    """Write a model and its manifest into a folder, with paths relative to the folder `place`.

    What calibrated it is kept with it: a rover that drives replaces its samples, and the suite's
    reference observations may be others one day.

    Returns:
        The files, the model last.
    """
    request, facts, split = built.request, built.facts, picked.split
    model = folder / request.output.name
    shutil.copyfile(picked.validated.build.file, model)
    written = [model.with_suffix(".json"), model]
    reference = built.material.reference
    if picked.quantised and reference and split.references(picked.attempt.frames):
        written.insert(0, folder / reference_observations.FILE_NAME)
        replace_file(written[0], reference.data)

    def relative(path: Path) -> str:
        return os.path.relpath(path.resolve(), place)

    calibration = manifest.CalibrationRecord("", ())
    if picked.quantised and request.calibration_dir:
        kept, records = _keep_samples(built, picked, request.calibration_dir, folder)
        written = [*kept, *written]
        calibration = manifest.CalibrationRecord(os.curdir, records, split.ranges)
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
            exploration_scale=facts.exploration_scale,
        ),
        model.with_suffix(".json"),
    )
    return written
