"""Which samples calibrate a conversion and which judge it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tractor_core import drift, samples
from tractor_core.contract import Contract
from tractor_core.errors import SampleError
from tractor_core.samples import POOR_SAMPLES, Sample
from tractor_inference import manifest

from . import dataset, selection, validation
from .parameters import Request

log = logging.getLogger(__name__)

SYNTHETIC_FRAMES = 50


@dataclasses.dataclass(frozen=True)
class Frames:
    """Files that may calibrate, frames that validate and where from; `about` is for readers.

    `doubts` say why frames prove less than held-out ones would.
    """

    pool: tuple[Path, ...]
    validation: tuple[Sample, ...]
    source: str
    about: dict[str, Any]
    notes: tuple[str, ...]
    doubts: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The samples that calibrate, in the order of choice, with the names of their files.

    `ranges` are {feature: [lowest, highest]} of the whole pool whose activations they cover.
    """

    names: tuple[str, ...]
    samples: tuple[Sample, ...]
    ranges: dict[str, list[float]]


def find(request: Request) -> Frames:
    """Check the samples and split them into a calibration pool and validation frames.

    Raises:
        SampleError: there are not enough usable ones; names those that are not usable.
    """
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
    doubts = []
    if not request.quantize:
        notes.append("without --quantize the samples validate the model and calibrate nothing")
    else:
        if usable < POOR_SAMPLES:
            notes.append(f"{usable} usable samples are poor calibration; collect at least 100")
        wanted = max(manifest.LEAST_PROBES, int(usable * params.held_out_share))
        wanted = min(params.held_out_frames, wanted, usable)
        pool, held_out = selection.hold_out(checked.stamps_ns, wanted, params.held_out_separation_s)
        if len(pool) < params.min_samples:
            doubts.append(
                f"of {usable} samples {wanted} cannot be held out {params.held_out_separation_s:g} "
                f"s apart from {params.min_samples} that calibrate: judged on frames that may "
                "calibrate, which proves little; collect more"
            )
            pool, held_out = list(range(usable)), []
        elif unstamped := sum(not stamp for stamp in checked.stamps_ns):
            notes.append(
                f"{unstamped} samples have no stamp: only their order separates those held out"
            )
        about["pool"] = len(pool)
    spread = np.linspace(0, usable - 1, min(usable, params.held_out_frames))
    judges = held_out or spread.round().astype(int).tolist()
    return Frames(
        pool=tuple(checked.files[i] for i in pool),
        validation=tuple(samples.read(checked.files[i], request.contract) for i in judges),
        source="held-out samples" if held_out else "samples",
        about=about,
        notes=tuple(notes),
        doubts=tuple(doubts),
    )


def choose(request: Request, onnx: bytes, frames: Frames) -> Calibration:
    """Choose samples whose activations cover those of the whole pool; none when there is no pool.

    Raises:
        ModelError: the network cannot be run, or computes NaN or Inf inside.
        SampleError: a sample has gone or changed since it was checked.
    """
    if not frames.pool:
        return Calibration((), (), {})
    seen = []

    def read_all() -> Iterator[Sample]:
        for file in frames.pool:
            frame = samples.read(file, request.contract)
            seen.append(drift.features(frame.bev, frame.proprio))
            yield frame

    extremes = selection.activation_ranges(
        onnx, request.contract, read_all(), request.parameters.target
    )
    files = [frames.pool[i] for i in selection.by_coverage(*extremes, len(frames.pool))]
    return Calibration(
        tuple(file.name for file in files),
        tuple(samples.read(file, request.contract) for file in files),
        drift.ranges_of(seen, request.contract),
    )


def require_obstacles(contract: Contract, chosen: Calibration) -> None:
    """Refuse samples in which a channel of the grid is always empty: every gate would pass on them.

    Raises:
        SampleError: names the channels.
    """
    names = contract.grid_channels if chosen.samples else ()
    empty = [name for name in names if chosen.ranges[f"{name} occupancy"][1] == 0.0]
    if empty:
        raise SampleError(
            f"the grid's channel {' and '.join(empty)} is empty in every sample: expected "
            "obstacles, or the model is calibrated for a rover that sees none; look at the "
            "sensor's topic and mounting, and collect samples again"
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
