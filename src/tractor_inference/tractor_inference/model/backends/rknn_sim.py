"""The INT8 or FP16 actor on a PC, in the simulator of rknn-toolkit2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tractor_core import reference_observations, samples
from tractor_core.contract import Contract
from tractor_core.errors import ModelError, TractorError, raise_all
from tractor_core.packed import PackedSamples

from .. import manifest, rknn_toolkit
from ..onnx import model as onnx_model
from ..simulator import Simulator
from .base import Backend

# What `calibration_frames` may be at most.
MAX_FRAMES = 2000


class RknnSimBackend(Backend):
    """Stands in for the NPU: rebuilds an .rknn from what its manifest names, and simulates it.

    A loaded .rknn cannot run in the simulator, so the model is built again from the same ONNX, the
    same samples and the same toolkit, all checked; simulated outputs of such builds are identical.
    Opening takes seconds, in a process of its own, which ends when the model is closed.
    """

    name = "rknn_sim"

    def __init__(self, model: Path, contract: Contract) -> None:
        """Open a model.

        Args:
            model: .rknn with its manifest, the ONNX and the samples that the manifest names.
            contract: what the model must follow.

        Raises:
            ModelError: something is missing or changed since the conversion; lists all of it.
            ContractError: made for another contract.
        """
        super().__init__(contract)
        model, record, _ = manifest.load(model, contract)
        self._follow(record)
        version = rknn_toolkit.toolkit_version()
        if version != record.toolkit.version:
            raise ModelError(
                f"{model}: expected {rknn_toolkit.DISTRIBUTION} {record.toolkit.version}, which "
                f"built it, found {version}; convert the ONNX actor again"
            )
        actor = model.parent / record.onnx.file
        facts = onnx_model.inspect(actor, contract, sha256=record.onnx.sha256)
        frames = _read_samples(model, record.calibration, contract)
        target, options = record.model.target, record.build
        self._simulator = Simulator(facts.data, frames, contract, target, options)

    def _run(self, bev: NDArray[np.float32], proprio: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._simulator.answer(bev, proprio)

    def _release(self) -> None:
        self._simulator.close()


def _read_samples(
    model: Path, calibration: manifest.CalibrationRecord, contract: Contract
) -> PackedSamples:
    """Read the frames a model was calibrated with, in their order.

    Samples lie in the calibration folder, reference observations beside the model.
    """
    records = calibration.samples
    if len(records) > MAX_FRAMES:
        raise ModelError(
            f"{model}: expected at most {MAX_FRAMES} calibration frames, found {len(records)}"
        )
    folder = model.parent / calibration.folder
    frames = PackedSamples()
    sets: dict[tuple[str, str], PackedSamples | str] = {}
    problems: list[str] = []
    for record in records:
        named = reference_observations.file_and_index(record.file)
        if named is None:
            try:
                data = manifest.read_checked(folder / record.file, record.sha256)
                frames.append(samples.parse(data, contract))
            except TractorError as error:
                problems.append(str(error))
            continue
        file, index = named
        key = file, record.sha256
        if key not in sets:
            sets[key] = _read_set(model.parent / file, record.sha256, contract)
        found = sets[key]
        if isinstance(found, str):
            problems.append(found)
        elif index >= len(found):
            problems.append(f"{record.file}: expected an index below {len(found)}")
        else:
            frames.append(found[index])
    problems = list(dict.fromkeys(problems))
    raise_all(ModelError, f"{model}: its calibration samples cannot be used again:", problems)
    return frames


def _read_set(file: Path, sha256: str, contract: Contract) -> PackedSamples | str:
    """Return the frames of a set of reference observations, or why they cannot be used."""
    try:
        return reference_observations.parse(manifest.read_checked(file, sha256), contract).samples
    except TractorError as error:
        return str(error)
