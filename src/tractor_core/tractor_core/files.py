"""Writing files whole, on whatever disk a rover or a PC has.

FAT, exFAT, SMB, folders shared by VirtualBox and some of FUSE have no hard links, no symbolic links
or no modes, and sync no folders; each says so in its own way. Their contents are as safe as others.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# What file systems answer that have no such links: EPERM vfat, exfat, vboxsf; EOPNOTSUPP cifs, 9p;
# ENOSYS FUSE; EROFS, EPROTO vboxsf; EACCES AppArmor; EMLINK where a file may have one name only.
NO_LINKS = frozenset({
    errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK,
    errno.EINVAL, errno.EXDEV, errno.EROFS, errno.EPROTO,
})  # fmt: skip
# A sample of some kilobytes is written within much less, also by a slow disk.
UNFINISHED_S = 5.0
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_NO_MODES = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all, also when the power fails.

    Of a text, what UTF-8 lacks is escaped.

    Raises:
        OSError: the folder cannot be written; the file is as it was before.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "backslashreplace")
    # Not of the name: with more letters it could be too long.
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            _sync(file.fileno())
        _let_read(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def add_file(folder: Path, names: Iterator[str], data: bytes) -> Path:
    """Write a new file whole, under the first of the names that nothing in the folder has.

    A finished temporary file is linked to its name, so that nothing is ever replaced. Where the
    disk has no hard links it is renamed: its temporary name, which is of the same name, is held by
    one writer at a time, who looks whether the name is free.

    Raises:
        OSError: the folder cannot be written; nothing stays behind.
    """
    for name in names:
        path, temporary = folder / name, folder / f".{name}.tmp"
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                _sync(file.fileno())
            _let_read(temporary)
            if _named(temporary, path):
                return path
        except BaseException:
            os.unlink(temporary)
            raise
    raise FileExistsError(errno.EEXIST, "every name is taken", str(folder))


def remove_unfinished(folder: Path, prefix: str) -> int:
    """Remove what `add_file` left of such names when its process was killed; return how many.

    A file that was touched within UNFINISHED_S, by whatever clock, may still be written.

    Raises:
        OSError: the folder cannot be listed or written.
    """
    removed = 0
    for path in folder.glob(f".{glob.escape(prefix)}*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if abs(time.time() - path.lstat().st_mtime) > UNFINISHED_S:
                path.unlink()
                removed += 1
    return removed


def _named(temporary: Path, path: Path) -> bool:
    """Give a finished file its name; return whether nothing had it. The temporary name is free."""
    try:
        os.link(temporary, path)
        found = False
    except FileExistsError:
        found = True
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        found = os.path.lexists(path)
        if not found:
            # Frees the temporary name too: from here on it may be another writer's.
            os.rename(temporary, path)
            return True
    os.unlink(temporary)
    return not found


def keep_as(path: Path, spare: Path) -> None:
    """Give a file a second name, or make a copy of it where the disk has no hard links."""
    try:
        os.link(path, spare)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        found = path.stat()
        shutil.copyfile(path, spare)
        os.utime(spare, ns=(found.st_atime_ns, found.st_mtime_ns))
        set_mode(spare, found.st_mode & 0o777)


def has_symbolic_links(folder: Path) -> bool:
    """Return whether the disk of a temporary folder takes symbolic links.

    Raises:
        OSError: the folder cannot be written.
    """
    probe = folder / "probe"
    try:
        probe.symlink_to("target")
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return False
    probe.unlink()
    return True


def set_mode(path: Path, mode: int) -> None:
    """Set the mode of a file or folder, where the disk has modes."""
    try:
        os.chmod(path, mode)
    except OSError as error:
        if error.errno not in _NO_MODES:
            raise


def lock(path: Path) -> int:
    """Return the descriptor of a lock file, made where it is not there; its end gives it back.

    Raises:
        BlockingIOError: another has the lock.
        OSError: the file cannot be opened.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(handle)
        raise
    return handle


def sync(path: Path) -> None:
    """Let what is written of a file or folder survive a loss of power, where the disk can."""
    handle = os.open(path, os.O_RDONLY)
    try:
        _sync(handle)
    finally:
        os.close(handle)


def _let_read(path: str | Path) -> None:
    """Let everybody read a temporary file, as one that was opened in the ordinary way."""
    set_mode(Path(path), 0o644)


def _sync(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
