"""Changing the active model: all of it or nothing, and nothing old is lost.

A version appears by the rename of a folder, and the active model changes by the rename of a link:
these two are whole at every moment. The links by name and the line of history come after that;
whoever next works in the folder makes up for them when a process was killed in between.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import filecmp
import itertools
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tractor_core import files, outside
from tractor_core.cli import uninterrupted
from tractor_core.contract import Contract
from tractor_core.errors import ModelError
from tractor_inference.model import manifest

from . import folder as models_folder
from .destination import obstacles, replaceable, require_links
from .folder import HISTORY, INTENT, LINK, SUFFIXES, VERSIONS, WORK_PREFIX, Change, active, stem_of

_LINK_STEM = Path(LINK).stem
# NFS without its lock service, some of FUSE.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)

log = logging.getLogger(__name__)


@contextlib.contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """Lock a models folder and yield a temporary folder in it, removed at the end.

    The folder itself carries the lock, so no lock file stays behind and a killed process's lock is
    free at once; what such a process left is finished if it had changed the active model, and
    removed.

    Raises:
        ModelError: another process changes the folder, or its disk lacks links or locks.
        OSError: the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ModelError(
                f"{folder}: busy, another conversion or promotion works there; "
                "wait until it has ended"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise ModelError(
                f"{folder}: expected a disk that locks folders, found one that does not "
                f"({error.strerror}); two conversions could spoil each other: keep the models on "
                "a disk of this machine"
            ) from error
        leftovers = [
            path
            for path in folder.glob(f"{WORK_PREFIX}*")
            if path.is_dir() and not path.is_symlink()
        ]
        with uninterrupted():
            work = Path(tempfile.mkdtemp(prefix=WORK_PREFIX, dir=folder))
            stack.callback(_remove, work)
        require_links(work)
        for change in models_folder.unrecorded(folder):
            with _all_or_nothing() as undo:
                _follow(work, change, undo)
        for path in leftovers:
            shutil.rmtree(path)
        yield work


def _remove(work: Path) -> None:
    with uninterrupted():
        try:
            shutil.rmtree(work)
        except OSError as error:
            # What was asked is done, or has its own error; the next one tidies up.
            log.warning("%s cannot be removed and stays: %s", work, error)


def publish(staged: Sequence[Path], stamp: str) -> tuple[Change, list[str]]:
    """Make a version of finished files and activate it, or leave the folder as it was.

    Args:
        staged: finished files in a `workspace`, all of one stem; the last is the model.
        stamp: UTC time for the version's name, for instance 20250131T235959Z.

    Returns:
        What changed, and the versions that were made of ordinary files in the way.

    Raises:
        OSError: something is in the way, or a step failed.
    """
    work = staged[0].parent
    complete = Path(tempfile.mkdtemp(dir=work))
    for path in staged:
        os.replace(path, complete / path.name)
    with _all_or_nothing() as undo:
        version = _add(complete, f"{staged[-1].stem}.{stamp}", undo)
        return _activate(work, version, "convert", undo)


def promote(
    work: Path, version: str, contract: Contract, action: str = "promote"
) -> tuple[Change | None, list[str]]:
    """Activate a version, or leave the folder as it was.

    Args:
        work: the `workspace` of the models folder.
        version: its whole name; it is read and checked first.
        contract: what the version must follow.
        action: for the history, "promote" or "rollback".

    Returns:
        What changed, or None when it is active already, and the versions that were made of ordinary
        files in the way.

    Raises:
        ModelError: the version cannot be used.
        ContractError: it was made for another contract.
        OSError: something is in the way, or a step failed.
    """
    models_folder.read(work.parent, version, contract)
    if version == active(work.parent):
        return None, []
    with _all_or_nothing() as undo:
        return _activate(work, version, action, undo)


@contextlib.contextmanager
def _all_or_nothing() -> Iterator[contextlib.ExitStack]:
    """Run the block without interruption; when it fails, run what it has put on the stack."""
    with uninterrupted(), contextlib.ExitStack() as undo:
        yield undo
        undo.pop_all()


def _activate(
    work: Path, version: str, action: str, undo: contextlib.ExitStack
) -> tuple[Change, list[str]]:
    folder, model = work.parent, f"{stem_of(version)}.rknn"
    if problems := obstacles(folder / model):
        raise FileExistsError("\n  - ".join(["files are in the way:", *problems]))
    previous = active(folder)
    linked = manifest.real_path(folder / LINK)
    kept = []
    if linked.parent == manifest.real_path(folder) and linked.is_file():
        # Put there by hand: a version is made of it, to have something to return to.
        previous = _keep(work, linked.stem, undo) or previous
        kept.append(previous)
    now = datetime.datetime.now(datetime.timezone.utc)
    # To the microsecond, so that no two changes are equal.
    change = Change(now.isoformat(timespec="microseconds"), action, version, previous)
    (work / INTENT).write_bytes(_line(change))
    files.sync(work / INTENT)
    files.sync(work)
    _point(work, LINK, f"{VERSIONS}/{version}/{model}", undo)
    files.sync(folder)
    kept += _follow(work, change, undo)
    return change, list(dict.fromkeys(filter(None, kept)))


def _follow(work: Path, change: Change, undo: contextlib.ExitStack) -> list[str | None]:
    """Bring what follows the link, the links by name and the history, up to a change.

    Returns:
        The versions that were made of ordinary files in the way.
    """
    folder, stem = work.parent, stem_of(change.version)
    kept = [_keep(work, name, undo) for name in (stem, _LINK_STEM)]
    for suffix in SUFFIXES:
        stray = folder / f"{_LINK_STEM}{suffix}"
        if stray.is_file() and not stray.is_symlink():
            # It came with a model put there by hand, and would be taken for this one's.
            _point(work, stray.name, None, undo)
        path = folder / f"{stem}{suffix}"
        if stem != _LINK_STEM and (replaceable(path) or not os.path.lexists(path)):
            target = f"{VERSIONS}/{change.version}/{path.name}"
            _point(work, path.name, target if (folder / target).is_file() else None, undo)
    _append(folder / HISTORY, change, undo)
    files.sync(folder)
    return kept


def _point(work: Path, name: str, target: str | None, undo: contextlib.ExitStack) -> None:
    """Let a name in the folder be a link to a target, or be gone when that is None."""
    path, spare = work.parent / name, Path(tempfile.mkdtemp(dir=work))
    old, new = spare / "old", spare / "new"
    if os.path.lexists(path):
        if path.is_symlink():
            old.symlink_to(os.readlink(path))
        else:
            files.keep_as(path, old)
        undo.callback(os.replace, old, path)
    else:
        undo.callback(path.unlink, missing_ok=True)
    if target is None:
        path.unlink(missing_ok=True)
    else:
        new.symlink_to(target)
        os.replace(new, path)


def _add(complete: Path, name: str, undo: contextlib.ExitStack) -> str:
    """Move a folder of finished files into versions/ and return its name there."""
    place = complete.parent.parent / VERSIONS
    if not place.exists():
        place.mkdir()
        undo.callback(place.rmdir)
    for file in complete.iterdir():
        files.set_mode(file, 0o444)
        files.sync(file)
    files.set_mode(complete, 0o755)
    files.sync(complete)
    for number in itertools.count(1):
        target = place / (name if number == 1 else f"{name}-{number}")
        if not os.path.lexists(target):
            break
    os.rename(complete, target)
    undo.callback(os.rename, target, complete)
    files.sync(place)
    return target.name


def _keep(work: Path, stem: str, undo: contextlib.ExitStack) -> str | None:
    """Copy the ordinary files NAME.* into a version; return it, or None when there are no files.

    Files that a version holds already are not copied again.
    """
    folder, copies = work.parent, Path(tempfile.mkdtemp(dir=work))
    found = []
    for suffix in SUFFIXES:
        file = folder / f"{stem}{suffix}"
        if file.is_file() and not file.is_symlink():
            shutil.copyfile(file, copies / file.name)
            if suffix == ".json":
                _move_paths(copies / file.name)
            found.append(file)
    if not found:
        return None
    for version in models_folder.names(folder):
        place = folder / VERSIONS / version
        if all(
            (place / file.name).is_file()
            and filecmp.cmp(place / file.name, copies / file.name, shallow=False)
            for file in found
        ):
            return version
    changed = datetime.datetime.fromtimestamp(found[0].stat().st_mtime, datetime.timezone.utc)
    return _add(copies, f"{stem}.{changed.strftime('%Y%m%dT%H%M%SZ')}", undo)


def _move_paths(path: Path) -> None:
    """Let the relative paths in the copy of a manifest lead from a version to where they led."""
    try:
        record = outside.json_value(outside.read_text(path))
        for part, key in (("onnx", "file"), ("calibration", "folder")):
            if record[part][key]:
                record[part][key] = os.path.join(os.pardir, os.pardir, record[part][key])
    except (ValueError, TypeError, KeyError):
        return  # not a manifest of ours: kept as it is
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _line(change: Change) -> bytes:
    return (json.dumps(dataclasses.asdict(change)) + "\n").encode()


def _append(path: Path, change: Change, undo: contextlib.ExitStack) -> None:
    """Add a line to the history, behind whatever a power failure has left of the last one."""
    new = not os.path.lexists(path)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
    with os.fdopen(handle, "ab+", buffering=0) as file:
        size = os.fstat(handle).st_size
        undo.callback(path.unlink) if new else undo.callback(os.truncate, path, size)
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        line = (b"\n" if torn else b"") + _line(change)
        if file.write(line) != len(line):
            raise OSError(f"{path}: expected room for {len(line)} bytes more, found less")
        files.sync(path)
