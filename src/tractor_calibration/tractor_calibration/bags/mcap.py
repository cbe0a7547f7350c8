"""MCAP recordings, also damaged ones.

The format: https://mcap.dev/spec. A file is read in two steps: where its chunks are and from when
to when they go, then the messages in the order of recording. Of what is damaged the rest is read,
and what is lost is said.
"""

from __future__ import annotations

import heapq
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tractor_core import outside

from .storage import MAX_MESSAGE_BYTES, Allowance, Message, Note, TooMuchError, one_line

MAGIC = b"\x89MCAP0\r\n"
SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END, FOOTER = 0x03, 0x04, 0x05, 0x06, 0x0F, 0x02
STATISTICS = 0x0B
_FOOTER_BYTES = 9 + 20 + len(MAGIC)
# A chunk is unpacked whole; those that overlap in time are open together.
MAX_CHUNK_BYTES = MAX_MESSAGE_BYTES
MAX_OPEN_BYTES = 2 * MAX_CHUNK_BYTES
# Name and topic are at the beginning of their records.
_MOST_OF_TEXT = 4096
_PIECE_BYTES = 4096


class _Entry(NamedTuple):
    """A chunk, or a message outside of chunks: its earliest time, place and whole length."""

    start_ns: int
    position: int
    operation: int
    length: int


class McapFile:
    """One MCAP file.

    Attributes:
        counts: {(topic, type): messages}, as the file says it or as they are found.

    Raises:
        OSError, ValueError: it cannot be opened.
    """

    def __init__(self, path: Path, note: Note) -> None:
        self._path, self._note = path, note
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, tuple[str, str]] = {}
        self._entries: list[_Entry] = []
        self._first_ns: int | None = None
        self.counts: Counter[tuple[str, str]] = Counter()
        with outside.open_regular(path) as file:
            self._size = file.seek(0, 2)
            file.seek(0)
            if file.read(len(MAGIC)) != MAGIC:
                note(f"{path.name}: does not begin as an MCAP file")
                return
            self._allowance = Allowance(self._size)
            counted = self._read_summary(file)
            try:
                whole = self._find_entries(file)
                if whole and counted is not None and counted.keys() <= self._channels.keys():
                    for key, count in counted.items():
                        self.counts[self._channels[key]] += count
                    return
                for entry in self._entries:
                    self._read_entry(file, entry, None)
            except TooMuchError as error:
                note(f"{path.name}: {error}")

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """Yield the messages of these topics in the order of recording."""
        self._allowance = Allowance(self._size)
        ready: list[tuple[int, int, Message, list[int]]] = []
        open_bytes = number = 0
        with outside.open_regular(self._path) as file:
            try:
                for entry in sorted(self._entries, key=lambda entry: entry.start_ns):
                    while ready and ready[0][0] <= entry.start_ns:
                        _, _, message, holder = heapq.heappop(ready)
                        holder[1] -= 1
                        open_bytes -= 0 if holder[1] else holder[0]
                        yield message
                    if open_bytes > MAX_OPEN_BYTES - MAX_CHUNK_BYTES:
                        raise TooMuchError("too many of its chunks are of the same time")
                    found, size = self._read_entry(file, entry, topics)
                    holder = [size, len(found)]
                    open_bytes += size if found else 0
                    for message in found:
                        number += 1
                        heapq.heappush(ready, (message.recorded_ns, number, message, holder))
            except TooMuchError as error:
                self._note(f"{self._path.name}: {error}")
        while ready:
            yield heapq.heappop(ready)[2]

    def _where(self, position: int, at_ns: int) -> str:
        since_s = (at_ns - self._first_ns) * 1e-9 if self._first_ns and at_ns else 0.0
        return f"{self._path.name}: byte {position} of {self._size}, {since_s:.1f} s in"

    # Where everything is

    def _find_entries(self, file: BinaryIO) -> bool:
        """Find the chunks and lone messages; return whether the file ends as it should."""
        position, last_ns = len(MAGIC), 0
        while position < self._size:
            self._allowance.take(0, 1)
            file.seek(position)
            head = file.read(9)
            operation, length = struct.unpack("<BQ", head) if len(head) == 9 else (0, self._size)
            if operation in (DATA_END, FOOTER):
                return True
            whole = position + 9 + length <= self._size
            if operation == 0 and whole:
                self._note(
                    f"{self._where(position, last_ns)}: no record is there, what follows is lost"
                )
                return False
            problem = ""
            try:
                if operation == CHUNK:
                    start_ns, end_ns = struct.unpack("<QQ", file.read(16))
                elif operation == MESSAGE and whole:
                    _, _, start_ns = struct.unpack("<HIQ", file.read(14))
                    end_ns = start_ns
                elif operation in (SCHEMA, CHANNEL) and whole:
                    self._learn(operation, file.read(min(length, _MOST_OF_TEXT)))
            except (struct.error, ValueError) as error:
                problem = one_line(error)
            if problem:
                self._note(f"{self._where(position, last_ns)}: messages are lost ({problem})")
            elif operation == CHUNK or (operation == MESSAGE and whole):
                self._entries.append(_Entry(start_ns, position, operation, length))
                if self._first_ns is None:
                    self._first_ns = start_ns
                last_ns = max(last_ns, end_ns)
            if not whole:
                where = self._where(position, last_ns)
                self._note(f"{where}: the file is cut short, what came after is lost")
                return False
            position += 9 + length
        self._note(
            f"{self._where(position, last_ns)}: the file ends without its index, more may be lost"
        )
        return False

    def _read_summary(self, file: BinaryIO) -> dict[int, int] | None:
        """Learn schemas and channels where the file is whole; return {channel: messages}."""
        file.seek(max(0, self._size - _FOOTER_BYTES))
        footer = file.read()
        if footer[-len(MAGIC) :] != MAGIC or footer[:1] != bytes([FOOTER]):
            return None
        (position,) = struct.unpack_from("<Q", footer, 9)
        end = self._size - _FOOTER_BYTES
        counted = None
        try:
            while 0 < position < end:
                self._allowance.take(0, 1)
                file.seek(position)
                operation, length = struct.unpack("<BQ", file.read(9))
                if operation in (SCHEMA, CHANNEL):
                    self._learn(operation, file.read(min(length, _MOST_OF_TEXT)))
                elif operation == STATISTICS and length <= 46 + 10 * 2**16:
                    counts = file.read(length)[46:]
                    counted = dict(struct.iter_unpack("<HQ", counts))
                position += 9 + length
        except (struct.error, ValueError, TooMuchError):
            return None
        return counted

    def _learn(self, operation: int, body: bytes | memoryview) -> None:
        """Take a schema or channel; raises struct.error or ValueError when it is damaged."""
        if operation == SCHEMA:
            (key,) = struct.unpack_from("<H", body)
            self._schemas[key] = _string(body, 2)[0]
        else:
            key, schema = struct.unpack_from("<HH", body)
            self._channels[key] = _string(body, 4)[0], self._schemas.get(schema, "unknown type")

    # What is in it

    def _read_entry(
        self, file: BinaryIO, entry: _Entry, topics: Collection[str] | None
    ) -> tuple[list[Message], int]:
        """Return the messages of an entry and the bytes they hold; without topics count them."""
        file.seek(entry.position + 9)
        there = min(entry.length, self._size - entry.position - 9)
        if entry.operation == CHUNK:
            plain, problem = self._unpack(file, there, there == entry.length)
        elif there > MAX_CHUNK_BYTES:
            plain, problem = b"", f"{there} bytes are more than is read at once"
        else:
            plain, problem = struct.pack("<BQ", MESSAGE, there) + file.read(there), ""
        found, ended = self._records(memoryview(plain), topics)
        if there == entry.length and (problem or ended):
            where = self._where(entry.position, entry.start_ns)
            self._note(f"{where}: messages are lost ({problem or ended})")
        return sorted(found, key=lambda message: message.recorded_ns), len(plain)

    def _unpack(self, file: BinaryIO, length: int, whole: bool) -> tuple[bytes | bytearray, str]:
        """Return what can be unpacked of a chunk, and what is wrong with it."""
        try:
            head = file.read(min(length, _MOST_OF_TEXT))
            _, _, declared, checksum = struct.unpack_from("<QQQI", head)
            compression, start = _string(head, 28)
            (packed,) = struct.unpack_from("<Q", head, start)
        except (struct.error, ValueError) as error:
            return b"", one_line(error)
        if declared > MAX_CHUNK_BYTES:
            return b"", f"it declares {declared} bytes, more than {MAX_CHUNK_BYTES}"
        left = min(packed, length - start - 8)
        file.seek(start + 8 - len(head), 1)
        plain, problem = bytearray(), ""
        try:
            if compression == "":
                plain += file.read(min(left, declared))
            else:
                unpacker = outside.Unpacker(compression, declared)
                # In small pieces, so that what comes before a damaged block is kept.
                while left > 0 and not unpacker.ended and (piece := file.read(
                    min(left, _PIECE_BYTES))):  # fmt: skip
                    left -= len(piece)
                    for part in unpacker.add(piece):
                        plain += part
        except ValueError as error:
            problem = one_line(error)
        self._allowance.take(len(plain), 0)
        if whole and not problem and checksum and zlib.crc32(plain) != checksum:
            # Nobody knows which of its messages is wrong, and a wrong pixel looks like any other.
            return b"", "wrong checksum"
        return plain, problem

    def _records(
        self, plain: memoryview, topics: Collection[str] | None
    ) -> tuple[list[Message], str]:
        """Return the messages of a buffer of records, and what is wrong with it."""
        found: list[Message] = []
        problem = ""
        position = 0
        try:
            while position < len(plain):
                operation, length = struct.unpack_from("<BQ", plain, position)
                position += 9
                self._allowance.take(0, 1)
                if position + length > len(plain):
                    return found, problem or "it is cut short"
                if operation == MESSAGE:
                    body = plain[position : position + length]
                    key, _, recorded_ns = struct.unpack_from("<HIQ", body)
                    if key not in self._channels:
                        problem = f"channel {key} is not described"
                    elif topics is None:
                        self.counts[self._channels[key]] += 1
                    elif self._channels[key][0] in topics:
                        # A view of a small message would keep the whole chunk.
                        data = bytes(body[22:]) if length < _PIECE_BYTES else body[22:]
                        found.append(Message(*self._channels[key], recorded_ns, data))
                elif operation in (SCHEMA, CHANNEL):
                    self._learn(operation, plain[position : position + min(length, _MOST_OF_TEXT)])
                elif operation == 0:
                    return found, "no record is there"
                position += length
        except (struct.error, ValueError) as error:
            return found, one_line(error)
        return found, problem


def _string(body: bytes | memoryview, offset: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", body, offset)
    end = offset + 4 + length
    if end > len(body):
        raise ValueError("a text is cut short")
    return bytes(body[offset + 4 : end]).decode(), end
