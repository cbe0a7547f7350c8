"""Chunks of experience as a trainer keeps them: appended, in order, durable before acknowledged."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tractor_core.experience import MAX_FILE_BYTES
from tractor_core.files import replace_file, sync

log = logging.getLogger(__name__)

SEGMENT_BYTES = 64 * 1024 * 1024
_LENGTH = struct.Struct("<I")


class ChunkLog:
    """Files of chunks, one behind the other, each with its length before it.

    What was cut off when the power failed is put aside when it is opened. Beyond `max_bytes` the
    oldest file goes.

        log = ChunkLog(Path("replay"), 10**10)
        log.append([data])  # on disk when it returns
        for data in log: ...

    Raises:
        OSError: the folder cannot be read or written.
    """

    def __init__(self, folder: Path, max_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder, self._max_bytes, self._segment_bytes = folder, max_bytes, segment_bytes
        folder.mkdir(parents=True, exist_ok=True)
        if segments := self._segments():
            _repair(segments[-1])

    def append(self, chunks: Sequence[bytes]) -> None:
        """Add chunks; they survive a loss of power when this returns."""
        if not chunks:
            return
        segments = self._segments()
        last = segments[-1] if segments else self._new(0)
        if last.stat().st_size >= self._segment_bytes:
            last = self._new(int(last.stem) + 1)
        data = b"".join(_LENGTH.pack(len(chunk)) + chunk for chunk in chunks)
        # Unbuffered: what the disk did not take must not come later, behind other chunks.
        with last.open("ab", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), before)
                raise
        self._trim()

    def __iter__(self) -> Iterator[bytes]:
        """Yield every chunk, the oldest first."""
        return read(self._folder)

    @property
    def bytes(self) -> int:
        """How much it takes."""
        return sum(segment.stat().st_size for segment in self._segments())

    def _segments(self) -> list[Path]:
        return _segments(self._folder)

    def _new(self, number: int) -> Path:
        path = self._folder / f"{number:08d}.chunks"
        path.touch()
        sync(self._folder)
        return path

    def _trim(self) -> None:
        segments = self._segments()
        while len(segments) > 1 and sum(s.stat().st_size for s in segments) > self._max_bytes:
            segments.pop(0).unlink()


def read(folder: Path) -> Iterator[bytes]:
    """Yield the chunks of a log, which another may be writing, the oldest first."""
    for segment in _segments(folder):
        with segment.open("rb") as file:
            yield from (data for data, _ in _read(file))


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.chunks"))


def _read(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield whole chunks, and where each ends; ends where something else follows."""
    end = 0
    while len(head := file.read(_LENGTH.size)) == _LENGTH.size:
        (length,) = _LENGTH.unpack(head)
        if length > MAX_FILE_BYTES or len(data := file.read(length)) != length:
            return
        end += _LENGTH.size + length
        yield data, end


def _repair(segment: Path) -> None:
    """Put aside what was not written whole, and say so."""
    with segment.open("r+b") as file:
        whole = max((end for _, end in _read(file)), default=0)
        if whole == segment.stat().st_size:
            return
        file.seek(whole)
        aside = segment.with_suffix(".cut_off")
        replace_file(aside, file.read())
        file.truncate(whole)
        os.fsync(file.fileno())
    log.warning("%s: its end was not written whole; it is kept as %s", segment, aside.name)
