"""What a conversion has to calibrate and to validate with."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tractor_core import reference_observations
from tractor_core.contract import Contract
from tractor_core.errors import SampleError
from tractor_core.reference_observations import ReferenceObservations
from tractor_core.samples import Sample
from tractor_inference.model import manifest

from ..parameters import Request
from .reading import CheckedFolder, read_folder

log = logging.getLogger(__name__)

SYNTHETIC_FRAMES = 50


@dataclasses.dataclass(frozen=True)
class Material:
    """Samples and reference observations.

    `folder` are the rover's samples, None where none were given; `reference` the reference
    observations in `file`, None where there are none, for the reason in `no_reference`.
    """

    folder: CheckedFolder | None
    reference: ReferenceObservations | None
    file: Path | None = None
    no_reference: str = ""

    def about(self) -> dict[str, Any]:
        """Return how many samples there are and how good they are, as plain JSON types."""
        found = self.folder
        if found is None:
            return {"found": 0, "usable": 0, "rejected": [], "grade": "", "findings": []}
        return {
            "found": len(found.samples) + len(found.rejected),
            "usable": len(found.samples),
            "rejected": list(found.rejected),
            "grade": found.grade,
            "findings": list(found.findings),
        }

    def about_reference(self) -> dict[str, Any]:
        """Return where the reference observations are from, as plain JSON types."""
        return {
            "file": str(self.file or ""),
            "made_by": self.reference.made_by if self.reference else "",
            "problem": self.no_reference,
        }


def read(request: Request) -> Material:
    """Read the samples, once, and the reference observations.

    Raises:
        SampleError: there are not enough usable samples; names those that are not usable. Or the
            reference observations that the parameter file names cannot be used.
    """
    folder = None
    if request.calibration_dir is not None:
        folder = read_folder(request.calibration_dir, request.contract)
        _require_enough(request, folder)
        for reason in folder.rejected:
            log.warning("sample excluded: %s", reason)
        if request.quantize:
            _require_obstacles(request.contract, folder)
    elif request.quantize:
        raise SampleError(
            "No calibration samples found: --quantize needs --calibration-dir DIR with the "
            "calib_*.npz files that the rover saves while it drives"
        )
    named = request.parameters.reference_observations
    try:
        file, found = reference_observations.find(named, request.origin)
    except SampleError as error:
        if named:
            raise
        return Material(folder, None, None, str(error))
    return Material(folder, found, file)


def synthetic_frames(
    contract: Contract, count: int = SYNTHETIC_FRAMES, seed: int = 0
) -> Iterable[Sample]:
    """Draw frames for a conversion without samples, one at a time.

    Grids are sparse with about 5 % of the cells occupied; proprioception is uniform in mean +- std
    of the contract, which are the raw ranges (lidar_min 0..4 m, actions -1..1, speeds as driven).
    """
    rng = np.random.default_rng(seed)
    mean, std = np.array(contract.proprio_mean), np.array(contract.proprio_std)
    for _ in range(count):
        yield Sample(
            (rng.random(contract.bev_shape) < 0.05).astype(np.float32),
            (mean + std * rng.uniform(-1.0, 1.0, mean.shape)).astype(np.float32),
        )


def _require_obstacles(contract: Contract, folder: CheckedFolder) -> None:
    """Refuse samples in which a channel of the grid is always empty: every gate would pass on them.

    Raises:
        SampleError: names the channels.
    """
    empty = [name for name, always in zip(contract.grid_channels, folder.always_empty) if always]
    if empty:
        raise SampleError(
            f"the grid's channel {' and '.join(empty)} is empty in every sample: expected "
            "obstacles, or the model is calibrated for a rover that sees none; look at the "
            "sensor's topic and mounting, and collect samples again"
        )


def _require_enough(request: Request, checked: CheckedFolder) -> None:
    least = request.parameters.min_samples if request.quantize else manifest.LEAST_PROBES
    usable, rejected = len(checked.samples), len(checked.rejected)
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
