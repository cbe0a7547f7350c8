"""Where a model is to be promoted to: is everything there that it needs, and nothing in the way?"""

from __future__ import annotations

import os
import re
from pathlib import Path

from tractor_core import files
from tractor_core.errors import ModelError, raise_all

from .folder import HISTORY, LINK, SUFFIXES, VERSIONS


def check_destination(output: Path) -> None:
    """Refuse a destination that `publish` or `promote` could not fill, before any work is done.

    Args:
        output: the NAME.rknn that is to become a link to the promoted version.

    Raises:
        ModelError: listing every problem.
    """
    problems = []
    if not output.parent.is_dir():
        problems.append(f"{output.parent}: expected a folder, found none; create it first")
    if output.name == LINK:
        problems.append(f"{output.name}: is the link to the latest model; choose another name")
    raise_all(ModelError, "the model cannot be written:", problems + obstacles(output))


def require_links(work: Path) -> None:
    """Refuse a disk on which what drives cannot be changed at one moment; raises ModelError."""
    if not files.has_symbolic_links(work):
        raise ModelError(
            f"{work.parent}: expected a disk with symbolic links, by which a model is promoted, "
            "found one without, such as FAT, exFAT, SMB or a folder shared by VirtualBox; keep the "
            "models on a disk of Linux (ext4, xfs, btrfs): copy the ONNX there, or name it with "
            "--output or --models-dir. Samples may stay where they are"
        )


def obstacles(output: Path) -> list[str]:
    """Return what lies where a promotion writes, and must not be replaced."""
    folder = output.parent
    places = [
        (folder / VERSIONS, "a folder", lambda path: path.is_dir() and not path.is_symlink()),
        (folder / HISTORY, "a file", lambda path: path.is_file() and not path.is_symlink()),
        (folder / LINK, "a link, a file", lambda path: path.is_symlink() or path.is_file()),
    ]
    places += [
        (output.with_name(f"{output.stem}{suffix}"), "a file, a link to a version", replaceable)
        for suffix in SUFFIXES
        if output.name != LINK
    ]
    problems = []
    for path, expected, fits in places:
        if os.path.lexists(path) and not fits(path):
            kind = "a folder" if path.is_dir() else "a file" if path.is_file() else "something else"
            found = f"a link to {os.readlink(path)}" if path.is_symlink() else kind
            problems.append(f"{path}: expected {expected} or nothing, found {found}; move it away")
    return problems


def replaceable(path: Path) -> bool:
    """Whether a path is an ordinary file, which is kept first, or a link of ours."""
    if path.is_symlink():
        return bool(re.fullmatch(rf"{VERSIONS}/[^/]+/[^/]+", os.readlink(path)))
    return path.is_file()
