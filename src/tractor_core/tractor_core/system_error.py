"""What the operating system refuses, as a sentence: where, expected, found, and what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_ELSEWHERE = "or choose another folder"
_GONE = (
    "a disk that answers", "one that fails or is gone",
    f"look at dmesg, check the disk or the network, {_ELSEWHERE}",
)  # fmt: skip
_PERMISSION = (
    "permission", "none",
    f"see ls -ld of it and of the folders above, change owner or mode, {_ELSEWHERE}",
)  # fmt: skip
# errno: (expected, found, what to do).
_CAUSES = {
    errno.ENOSPC: ("room on the disk", "none", f"free space there, {_ELSEWHERE}"),
    errno.EDQUOT: ("room in the quota", "none", f"remove files there, {_ELSEWHERE}"),
    errno.EFBIG: ("a size that is allowed there", "more", f"see ulimit -f, {_ELSEWHERE}"),
    errno.EROFS: (
        "a disk that can be written", "a read-only one", f"mount it for writing, {_ELSEWHERE}",
    ),
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.ENOENT: ("a file or folder", "none", "check the name, and create the folder first"),
    errno.ENOTDIR: ("a folder", "a file where a folder must be", "check the name"),
    errno.EISDIR: ("a file", "a folder", "check the name, or move it away"),
    errno.EEXIST: ("nothing there", "a file or folder", "move it away"),
    errno.ENOTEMPTY: ("nothing there", "a folder with files", "move it away"),
    errno.ELOOP: ("a file or folder", "links that lead in a circle", "correct the links"),
    errno.ENAMETOOLONG: ("a shorter name", "one that is too long", "rename it"),
    errno.EINVAL: (
        "a name that the disk takes", "one that it refuses",
        'FAT, exFAT and SMB refuse : ? * " < > | and what is no Unicode: rename it, '
        f"{_ELSEWHERE}",
    ),
    errno.EMFILE: ("room for an open file", "none", "see ulimit -n, or close programs"),
    errno.ENFILE: ("room for an open file", "none", "close programs"),
    errno.ENOMEM: ("memory", "none left", "close programs"),
    errno.EBUSY: ("a file that nobody holds", "a busy one", "end what uses it"),
    errno.ETXTBSY: ("a file that nobody runs", "a running one", "end what uses it"),
    **dict.fromkeys(
        (
            errno.EIO, errno.ENXIO, errno.ENODEV, errno.ENOTCONN, errno.ESTALE, errno.EHOSTDOWN,
            errno.ETIMEDOUT, errno.ENOMEDIUM, errno.EREMOTEIO,
        ),
        _GONE,
    ),
}  # fmt: skip
_CAUSES[errno.EILSEQ] = _CAUSES[errno.EINVAL]
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# What keeps files from being made in a folder.
_IN_FOLDER = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def explain(error: OSError, place: str | os.PathLike[str]) -> str:
    """Return what went wrong as a sentence that names the file or folder.

    Args:
        error: what the system, or this suite, has raised.
        place: what was worked on, for an error that does not name a file: a full disk, as a rule.
    """
    if error.errno is None:  # raised by the suite or a library, in words of its own
        text = str(error) or type(error).__name__
        return text if str(place) in text else f"{Path(place)}: {text}"
    named = [
        os.fsdecode(n) for n in (error.filename, error.filename2) if isinstance(n, str | bytes)
    ]
    # A name within an open folder is no path.
    where = " -> ".join(named) if named and os.path.isabs(named[0]) else None
    if where is None:
        inside = f" ({', '.join(named)})" if named and named[0] != str(place) else ""
        where = f"{Path(place)}{inside}"
    elif len(named) == 1 and error.errno in _IN_FOLDER and not os.path.lexists(where):
        # What could not be made there, a temporary file as a rule, is nothing to look at.
        where = os.path.dirname(where)
    reason = error.strerror or os.strerror(error.errno)
    if error.errno not in _CAUSES:
        return f"{where}: {reason}"
    expected, found, remedy = _CAUSES[error.errno]
    return f"{where}: expected {expected}, found {found} ({reason}); {remedy}"


def is_about_writing(error: BaseException) -> bool:
    """Return whether an error says that a disk takes no more: full, quota, read-only."""
    return isinstance(error, OSError) and error.errno in _FULL
