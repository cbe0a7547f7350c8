"""Which samples calibrate a conversion and which validate it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tractor_core import drift
from tractor_core.contract import Contract
from tractor_core.errors import SampleError
from tractor_core.samples import POOR_SAMPLES, Sample
from tractor_inference.model import manifest

from ..parameters import Request
from . import selection
from .packed import PackedSamples
from .reading import CheckedFolder, read_folder

log = logging.getLogger(__name__)

SYNTHETIC_FRAMES = 50
# Held-out frames come in runs spread over the recording, each a stretch of time. A run costs the
# pool its neighbours, so none is short; there are many, so that they meet what is rare.
HELD_OUT_RUNS = 16
LEAST_RUN_FRAMES = 8


@dataclasses.dataclass(frozen=True)
class Frames:
    """Samples that may calibrate, frames that validate and where from; `about` is for readers.

    `names` are those of the pool's files. `warnings` say why the validation frames show less than
    held-out ones would.
    """

    names: tuple[str, ...]
    pool: PackedSamples
    validation: PackedSamples
    source: str
    about: dict[str, Any]
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The samples that calibrate, in the order of choice, with the names of their files.

    `ranges` are {feature: [lowest, highest]} of the whole pool whose activations they cover.
    """

    names: tuple[str, ...]
    samples: PackedSamples
    ranges: dict[str, list[float]]


def find(request: Request) -> Frames:
    """Read the samples, once, and split them into a calibration pool and validation frames.

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
            (), PackedSamples(), PackedSamples(synthetic_frames(request.contract)),
            "synthetic frames", dict(found=0, usable=0, rejected=[]),
            ("no samples were given: validated on synthetic frames drawn from the contract",),
        )  # fmt: skip
    checked = read_folder(folder, request.contract)
    _require_enough(request, checked)
    for reason in checked.rejected:
        log.warning("sample excluded: %s", reason)
    usable, found = len(checked.samples), len(checked.samples) + len(checked.rejected)
    notes = []
    if checked.rejected:
        notes.append(f"{found - usable} of {found} samples excluded, as they were not usable")
    about = dict(found=found, usable=usable, rejected=list(checked.rejected))

    pool: list[int] = []
    held_out: list[int] = []
    warnings = []
    if not request.quantize:
        notes.append("without --quantize the samples validate the model and calibrate nothing")
    else:
        if usable < POOR_SAMPLES:
            notes.append(f"{usable} usable samples are poor calibration; collect at least 100")
        wanted = max(manifest.LEAST_PROBES, int(usable * params.held_out_share))
        wanted = min(params.held_out_frames, wanted, usable)
        pool, held_out = hold_out(checked.stamps_ns, wanted, params.held_out_separation_s)
        if len(pool) < params.min_samples:
            warnings.append(
                f"of {usable} samples {wanted} cannot be held out {params.held_out_separation_s:g} "
                f"s apart from {params.min_samples} that calibrate: validated on frames that may "
                "calibrate, which shows little; collect more"
            )
            pool, held_out = list(range(usable)), []
        elif unstamped := sum(not stamp for stamp in checked.stamps_ns):
            notes.append(
                f"{unstamped} samples have no stamp: only their order separates those held out"
            )
        about["pool"] = len(pool)
    spread = np.linspace(0, usable - 1, min(usable, params.held_out_frames))
    validating = held_out or spread.round().astype(int).tolist()
    return Frames(
        names=tuple(checked.names[i] for i in pool),
        pool=checked.samples.pick(pool),
        validation=checked.samples.pick(validating),
        source="held-out samples" if held_out else "samples",
        about=about,
        notes=tuple(notes),
        warnings=tuple(warnings),
    )


def hold_out(
    stamps_ns: Sequence[int | None], count: int, separation_s: float
) -> tuple[list[int], list[int]]:
    """Split frames in the order of time into a calibration pool and held-out runs.

    The recording is cut into equal parts; the end of each part is held out, and the frames next to
    a held-out run are left out of the pool while they are within `separation_s` of it.

    Args:
        stamps_ns: one stamp a frame, in the order of recording; None or 0 where it is unknown,
            there only the order separates.
        count: held-out frames wanted, at most the number of frames.
        separation_s: least time between a pool frame and a held-out neighbour.

    Returns:
        Indices of the pool and of the held-out frames, both ascending.
    """
    total = len(stamps_ns)
    if count == 0:
        return list(range(total)), []
    runs = max(1, min(HELD_OUT_RUNS, count // LEAST_RUN_FRAMES))
    ends = [total * (run + 1) // runs for run in range(runs)]
    lengths = [count * (run + 1) // runs - count * run // runs for run in range(runs)]
    held_out = [i for end, length in zip(ends, lengths) for i in range(end - length, end)]

    def near(a: int, b: int) -> bool:
        first, second = stamps_ns[a], stamps_ns[b]
        if not first or not second:
            return False
        return abs(first - second) < separation_s * 1e9

    excluded = set(held_out)
    for end, length in zip(ends, lengths):
        for edge, step in ((end - length, -1), (end - 1, 1)):
            neighbour = edge + step
            while 0 <= neighbour < total and near(edge, neighbour):
                excluded.add(neighbour)
                neighbour += step
    return [i for i in range(total) if i not in excluded], held_out


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


def choose(request: Request, onnx: bytes, frames: Frames) -> Calibration:
    """Choose samples whose activations cover those of the whole pool; none when there is no pool.

    Raises:
        ModelError: the network cannot be run, or computes NaN or Inf inside.
    """
    if not frames.pool:
        return Calibration((), PackedSamples(), {})
    extremes = selection.activation_ranges(
        onnx, request.contract, frames.pool, request.parameters.target
    )
    chosen = selection.by_coverage(*extremes, len(frames.pool))
    return Calibration(
        tuple(frames.names[i] for i in chosen),
        frames.pool.pick(chosen),
        drift.ranges_of(
            [drift.features(frame.bev, frame.proprio) for frame in frames.pool], request.contract
        ),
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
