"""Moving a proved model into the models folder: all of it or nothing, and nothing old is lost.

A model is three files with one stem: NAME.rknn, NAME.json (manifest) and NAME.report.html, and the
link remote_trained.rknn names the one that drives. Files that would be overwritten are kept in
archive/NAME.<UTC stamp>.*; NAME.rknn exists at every moment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tractor_inference import manifest
from tractor_inference.errors import ModelError, raise_all

LINK = "remote_trained.rknn"
ARCHIVE = "archive"
_WORK_PREFIX = ".convert-"


def check_destination(output: Path) -> None:
    """Refuse a destination that `promote` could not fill, before any work is done.

    Raises:
        ModelError: listing every problem.
    """
    problems = []
    folder = output.parent
    if not folder.is_dir():
        problems.append(f"{folder}: expected a folder, found none; create it first")
    if output.name == LINK:
        problems.append(f"{output.name}: is the link to the latest model; choose another name")
    elif output.is_symlink() or (output.exists() and not output.is_file()):
        problems.append(f"{output}: expected a file or nothing, found a link or folder")
    link = folder / LINK
    if link.exists() and not link.is_symlink() and not link.is_file():
        problems.append(f"{link}: expected a link, a file or nothing, found a folder")
    archive = folder / ARCHIVE
    if archive.is_symlink() or (archive.exists() and not archive.is_dir()):
        problems.append(f"{archive}: expected a folder or nothing, found a link or file")
    raise_all(ModelError, "the model cannot be written:", problems)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """Lock a models folder and yield a temporary folder in it, removed at the end.

    The folder itself carries the lock, so no lock file stays behind and a killed converter's lock
    is free at once; what such a converter left is removed here.

    Raises:
        ModelError: another converter works in the folder.
        OSError: the folder cannot be written.
    """
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ModelError(
                f"{folder}: busy, another converter works there; wait until it has ended"
            ) from error
        for leftover in folder.glob(f"{_WORK_PREFIX}*"):
            shutil.rmtree(leftover)
        work = Path(tempfile.mkdtemp(prefix=_WORK_PREFIX, dir=folder))
        try:
            yield work
        finally:
            with uninterrupted():
                shutil.rmtree(work)
    finally:
        os.close(lock)


def promote(staged: Sequence[Path], stamp: str) -> list[Path]:
    """Move staged files into the folder of their workspace, the model last, then move the link.

    Args:
        staged: finished files in a `workspace`, all of one stem; the last is the model.
        stamp: UTC time for the names in the archive, for instance 20250131T235959Z.

    Returns:
        What was archived.

    Raises:
        OSError: a step failed; the folder is as it was before.
    """
    work = staged[0].parent
    folder, archive = work.parent, work.parent / ARCHIVE
    names = [path.name for path in staged]
    link, link_manifest = folder / LINK, folder / Path(LINK).with_suffix(".json").name
    for path in staged:
        path.chmod(0o644)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    (work / LINK).symlink_to(names[-1])

    def archived(name: str, stem: str) -> Path:
        return archive / f"{stem}.{stamp}{name.removeprefix(stem)}"

    stem = staged[-1].stem
    kept = {name: archived(name, stem) for name in names if (folder / name).exists()}
    retired = []
    if link.exists() and not link.is_symlink():
        # A model put there by hand; its manifest goes with it.
        retired = [link_manifest.name] if link_manifest.exists() else []
        kept |= {name: archived(name, link_manifest.stem) for name in [LINK, *retired]}
    for path in filter(os.path.lexists, kept.values()):
        raise FileExistsError(errno.EEXIST, "the archive has this name already", str(path))
    previous = work / "previous"
    previous.mkdir()
    new_archive = not archive.exists()
    try:
        for name in [*names, LINK, *retired]:
            if os.path.lexists(folder / name):
                os.link(folder / name, previous / name, follow_symlinks=False)
        for name, path in kept.items():
            _keep(folder / name, path)
        for name in [*names, LINK]:
            os.replace(work / name, folder / name)
        for name in retired:
            (folder / name).unlink()
    except BaseException:
        _restore(folder, work, [*names, LINK])
        for path in kept.values():
            path.unlink(missing_ok=True)
        if new_archive:
            with contextlib.suppress(FileNotFoundError):
                archive.rmdir()
        raise
    return list(kept.values())


def _keep(file: Path, archived: Path) -> None:
    """Put a file into the archive: linked, but a manifest so that its paths lead where they led."""
    archived.parent.mkdir(exist_ok=True)
    if file.suffix == ".json":
        try:
            record = manifest.read(file.with_suffix(".rknn"))
            onnx, calibration = record.onnx, record.calibration
            moved = dataclasses.replace(
                record,
                onnx=dataclasses.replace(onnx, file=_from_archive(onnx.file)),
                calibration=dataclasses.replace(
                    calibration, folder=_from_archive(calibration.folder)
                ),
            )
            manifest.write(moved, archived)
            return
        except (ModelError, ValueError):  # not a manifest of ours: kept as it is
            pass
    os.link(file, archived, follow_symlinks=False)


def _from_archive(path: str) -> str:
    """Return a path relative to the models folder as one relative to its archive."""
    return os.path.join(os.pardir, path) if path else path


def _restore(folder: Path, work: Path, written: list[str]) -> None:
    """Put back what a broken promotion has replaced or removed, remove what it has added."""
    previous = work / "previous"
    for name in written:
        if not os.path.lexists(work / name) and not os.path.lexists(previous / name):
            (folder / name).unlink(missing_ok=True)
    for path in previous.iterdir():
        if not os.path.lexists(work / path.name):  # else it was not moved
            os.replace(path, folder / path.name)
