"""The calibration samples of a folder, each file read and checked once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tractor_core.contract import Contract
from tractor_core.errors import SampleError
from tractor_core.packed import PackedSamples
from tractor_core.samples import Sample

from . import quality, survey


@dataclasses.dataclass(frozen=True)
class CheckedFolder:
    """The usable samples of a folder in the order of time, and why others are not.

    `names` are those of the files, `stamps_ns` the samples' stamps in ns, `regions` where each
    sample lies, see `diversity.regions`; `always_empty` says for each channel of the grid whether
    it is empty in every sample. `grade` is what `check` says of the set, `findings` why.
    """

    names: tuple[str, ...]
    stamps_ns: tuple[int | None, ...]
    samples: PackedSamples
    regions: tuple[dict[str, str], ...]
    always_empty: tuple[bool, ...]
    rejected: tuple[str, ...]
    grade: str
    findings: tuple[str, ...]


def read_folder(folder: Path, contract: Contract) -> CheckedFolder:
    """Read and check every sample of a folder once; no file is changed.

    Args:
        folder: holds calib_*.npz, or any *.npz with `bev` and `proprio`.
        contract: what the samples must follow.

    Raises:
        SampleError: the folder does not exist or cannot be listed.
    """
    packed = PackedSamples()
    rejected: list[str] = []

    def take(file: Path, found: Sample | SampleError) -> None:
        if isinstance(found, Sample):
            packed.append(found)
        else:
            rejected.append(str(found))

    surveyed = survey.survey(folder, contract, take=take)
    described = quality.describe(surveyed)
    return CheckedFolder(
        tuple(file.name for file in surveyed.files),
        surveyed.stamps_ns,
        packed,
        surveyed.regions,
        tuple((surveyed.empty == len(surveyed.files)).tolist()),
        tuple(rejected),
        described["grade"],
        tuple(
            f"{finding['reason']}; {finding['advice']}"
            for finding in described["findings"]
            if finding["grade"] == described["grade"] != "good"
        ),
    )
