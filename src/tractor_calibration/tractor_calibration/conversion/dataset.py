"""The folder rknn_dataset/: the samples that calibrated, as rknn-toolkit2 reads them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tractor_core.contract import Contract
from tractor_core.errors import SampleError, raise_all
from tractor_core.samples import Sample
from tractor_inference.model import rknn_toolkit

FOLDER = "rknn_dataset"
_OURS = re.compile(r"(bev|proprio)_\d+\.npy|dataset\.txt")


def require_replaceable(folder: Path) -> None:
    """Refuse a folder in which `publish` must not replace `rknn_dataset/`.

    Whether it can be written is another matter, and shows when it is.

    Raises:
        SampleError: listing every problem; a folder that does not exist has none here.
    """
    target = folder / FOLDER
    problems = []
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        problems.append(f"{target}: expected a folder, found a link or file; move it away")
    elif foreign := sorted(p.name for p in target.glob("*") if not _OURS.fullmatch(p.name)):
        problems.append(
            f"{target}: is generated and about to be replaced, but holds {foreign[:5]}; "
            "move them to another folder"
        )
    raise_all(SampleError, f"{FOLDER} cannot be written:", problems)


def publish(chosen: Sequence[Sample], contract: Contract, folder: Path) -> Path:
    """Replace the folder's `rknn_dataset/` by the chosen samples, as a whole.

    Returns:
        The path of `rknn_dataset`.

    Raises:
        SampleError: `require_replaceable` refuses the folder.
        OSError: the folder cannot be written.
    """
    target = folder / FOLDER
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        require_replaceable(folder)
        for leftover in folder.glob(f".{FOLDER}-*"):  # of a process that was killed
            shutil.rmtree(leftover)
        with tempfile.TemporaryDirectory(prefix=f".{FOLDER}-", dir=folder) as temporary:
            new, old = Path(temporary, "new"), Path(temporary, "old")
            rknn_toolkit.write_dataset(chosen, contract, new)
            if target.exists():
                target.rename(old)
            try:
                new.rename(target)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    old.rename(target)
                raise
    finally:
        os.close(lock)
    return target
