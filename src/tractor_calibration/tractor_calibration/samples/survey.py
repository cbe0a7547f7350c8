"""What a folder of calibration samples holds.

One frame is in memory at a time: grids become running sums, and what stays of a frame are its
proprioception, its place in the feature space, its regions and its digest, less than 1 kB.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tractor_core import diversity, samples
from tractor_core.contract import Contract
from tractor_core.errors import SampleError
from tractor_core.samples import Sample

# A hostile file can hold a contract digest of megabytes, which its refusal cites.
MAX_REASON = 400


@dataclasses.dataclass(frozen=True)
class Survey:
    """All that was learned about a folder; arrays have a row for each usable file.

    `proprio` is (n, 6) float32 raw, `points` (n, d) float32 places in the feature space,
    `occupancy` (channels, cells, cells) the mean grid, `empty` (channels,) how many grids have no
    occupied cell; `regions` holds {feature: region} of each file. `foreign` are the files made for
    another contract, with its digest: under that one they may be sound.
    """

    folder: Path
    contract: Contract
    files: tuple[Path, ...]
    proprio: NDArray[np.float32]
    points: NDArray[np.float32]
    occupancy: NDArray[np.float64]
    empty: NDArray[np.int64]
    regions: tuple[dict[str, str], ...]
    sessions: tuple[str, ...]
    stamps_ns: tuple[int | None, ...]
    duplicates: dict[Path, Path]
    unusable: dict[Path, str]
    foreign: dict[Path, str]


def survey(
    folder: Path,
    contract: Contract,
    progress: Callable[[Sequence[Path]], Iterable[Path]] = iter,
    take: Callable[[Path, Sample | SampleError], None] = lambda file, found: None,
) -> Survey:
    """Read and check every sample of a folder once; nothing is changed.

    Args:
        folder: holds calib_*.npz, or any *.npz with `bev` and `proprio`.
        contract: what the samples must follow.
        progress: yields the files that it is given, and may show how far it is.
        take: is given each file and its sample, or why it is not usable.

    Raises:
        SampleError: the folder does not exist or cannot be listed.
    """
    there = samples.require_folder(folder)
    total = np.zeros(contract.bev_shape)
    empty = np.zeros(len(contract.grid_channels), np.int64)
    files, stamps, sessions, regions = [], [], [], []
    proprio, points = [], []
    first: dict[bytes, Path] = {}
    duplicates, unusable, foreign = {}, {}, {}
    for file in progress(there):
        try:
            sample = samples.read(file, contract)
        except samples.ForeignSampleError as error:
            foreign[file] = error.digest
            take(file, error)
            continue
        except SampleError as error:
            # The sampler replaces files while it drives.
            if file.is_symlink() or file.exists():
                unusable[file] = error.reason[:MAX_REASON]
                take(file, error)
            continue
        take(file, sample)
        files.append(file)
        stamps.append(sample.stamp_ns)
        sessions.append(sample.session)
        regions.append(diversity.regions(sample.bev, sample.proprio, contract))
        proprio.append(sample.proprio)
        points.append(diversity.embedding(sample.bev, sample.proprio, contract))
        total += sample.bev
        empty += ~sample.bev.any(axis=(1, 2))
        original = first.setdefault(_digest(sample), file)
        if original != file:
            duplicates[file] = original
    return Survey(
        folder,
        contract,
        tuple(files),
        np.array(proprio, np.float32).reshape(len(files), contract.proprio_size),
        np.array(points, np.float32).reshape(len(files), -1) if files else np.empty((0, 0), "f4"),
        total / max(len(files), 1),
        empty,
        tuple(regions),
        tuple(sessions),
        tuple(stamps),
        duplicates,
        unusable,
        foreign,
    )


def _digest(sample: Sample) -> bytes:
    return hashlib.sha256(sample.bev.tobytes() + sample.proprio.tobytes()).digest()


def spread(
    points: NDArray[np.float32], count: int, radius: float
) -> tuple[list[int], NDArray[np.float32]]:
    """Choose points that are far from each other, each the farthest from those chosen before.

    Farthest-point traversal (Gonzalez 1985); time and memory grow with n * count and n. A point
    that is farther than `radius` from all others is always chosen, unless `count` ends the choice.

    Args:
        points: (n, d).
        count: points wanted at most.
        radius: the choice ends when no point is farther than this from those chosen.

    Returns:
        Indices in the order of choice, and for each the distance to its nearest neighbour among
        all points; Inf for a single point.
    """
    chosen: list[int] = []
    nearest: list[float] = []
    gap = np.full(len(points), np.inf, np.float32)
    if len(points):
        # Starts at the outermost point, so that the order of the files does not matter.
        at = int(np.argmax(np.linalg.norm(points - points.mean(axis=0), axis=1)))
        while len(chosen) < count and gap[at] > radius:
            distance = np.linalg.norm(points - points[at], axis=1)
            gap = np.minimum(gap, distance)
            distance[at] = np.inf
            chosen.append(at)
            nearest.append(float(distance.min()))
            at = int(np.argmax(gap))
    return chosen, np.array(nearest, np.float32)
