"""The folder in which experience waits to be sent, and is kept for a while when it was.

Chunks that wait lie in the folder itself, those that were taken over by a server in `sent/` below.
Whoever has the folder can learn from it. Recorder and link work on it at the same time: each file
is added, moved or removed whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from . import files
from .experience import SUFFIX

SENT = "sent"
KEPT_SHARE = 0.9


@dataclasses.dataclass(frozen=True)
class Dropped:
    """What was removed for want of room: files that a server has, and chunks that none has."""

    sent: int = 0
    waiting: int = 0


class Spool:
    """Chunks of experience as files, of a bounded size in all.

    Args:
        folder: made when something is added.
        max_bytes: of all chunks; beyond it the oldest go, those that were sent first.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self._sent, self.max_bytes = folder, folder / SENT, max_bytes
        # Of all chunks; what only moves to `sent` changes nothing. None: not looked yet.
        self._bytes: int | None = None

    def add(self, chunk_id: str, data: bytes) -> Path:
        """Write an encoded chunk, whole or not at all.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = files.add_file(self.folder, iter([f"{chunk_id}{SUFFIX}"]), data)
        if self._bytes is not None:
            self._bytes += len(data)
        return path

    def waiting(self) -> list[Path]:
        """Return the chunks that no server has, the oldest first."""
        return _chunks(self.folder)

    def sent(self) -> list[Path]:
        """Return the chunks that a server has, the oldest first."""
        return _chunks(self._sent)

    def mark_sent(self, path: Path) -> None:
        """Note that a server has a chunk; one that was removed meanwhile is none."""
        self._sent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.rename(self._sent / path.name)

    def send_again(self) -> int:
        """Let everything that was sent wait again, for a server that lost it; return how many."""
        count = 0
        for path in self.sent():
            with contextlib.suppress(FileNotFoundError):
                path.rename(self.folder / path.name)
                count += 1
        return count

    def trim(self) -> Dropped:
        """Remove the oldest beyond `max_bytes`, and a tenth more, so that it is seldom.

        Raises:
            OSError: the folder cannot be listed or written.
        """
        if self._bytes is not None and self._bytes <= self.max_bytes:
            return Dropped()
        sent, waiting = (list(_sized(paths)) for paths in (self.sent(), self.waiting()))
        self._bytes = sum(size for _, size in sent + waiting)
        if self._bytes <= self.max_bytes:
            return Dropped()
        removed = [0, 0]
        for kind, found in enumerate((sent, waiting)):
            for path, size in found:
                if self._bytes <= KEPT_SHARE * self.max_bytes:
                    break
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                    removed[kind] += 1
                self._bytes -= size
        return Dropped(*removed)

    def remove_unfinished(self) -> None:
        """Remove what a writer that was killed left.

        Raises:
            OSError: the folder cannot be listed or written.
        """
        files.remove_unfinished(self.folder, "")


def _chunks(folder: Path) -> list[Path]:
    """Return the chunks of a folder; their names begin with the time."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))


def _sized(paths: list[Path]) -> Iterator[tuple[Path, int]]:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            yield path, path.lstat().st_size
