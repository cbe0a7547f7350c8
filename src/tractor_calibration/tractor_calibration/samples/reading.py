"""The calibration samples of a folder, each file read and checked once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tractor_core import samples
from tractor_core.contract import Contract
from tractor_core.errors import SampleError

from .packed import PackedSamples


@dataclasses.dataclass(frozen=True)
class CheckedFolder:
    """The usable samples of a folder in the order of time, and why others are not.

    `names` are those of the files, `stamps_ns` the samples' stamps in ns.
    """

    names: tuple[str, ...]
    stamps_ns: tuple[int | None, ...]
    samples: PackedSamples
    rejected: tuple[str, ...]


def read_folder(folder: Path, contract: Contract) -> CheckedFolder:
    """Read and check every sample of a folder once; no file is changed.

    Args:
        folder: holds calib_*.npz, or any *.npz with `bev` and `proprio`.
        contract: what the samples must follow.

    Raises:
        SampleError: the folder does not exist or cannot be listed.
    """
    names, stamps, rejected = [], [], []
    packed = PackedSamples()
    for file in samples.require_folder(folder):
        try:
            sample = samples.read(file, contract)
        except SampleError as error:
            rejected.append(str(error))
            continue
        names.append(file.name)
        stamps.append(sample.stamp_ns)
        packed.append(sample)
    return CheckedFolder(tuple(names), tuple(stamps), packed, tuple(rejected))
