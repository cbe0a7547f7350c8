"""Recorded drives: rosbag2 folders and files, sqlite3 and MCAP, also damaged ones.

A healthy file is read by the rosbags library. Where that gives up - a file cut short, a record that
does not decode - the rest is read record by record, and what is lost is said.
"""

from __future__ import annotations

import re
import sqlite3
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from tractor_inference.errors import TractorError

SUFFIXES = (".mcap", ".db3")
METADATA = "metadata.yaml"
# The format of MCAP: https://mcap.dev/spec
MAGIC = b"\x89MCAP0\r\n"
SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END, FOOTER = 0x03, 0x04, 0x05, 0x06, 0x0F, 0x02
# Recorders write chunks of about a megabyte; a damaged length must not fill the memory.
MAX_CHUNK_BYTES = 512 * 1024 * 1024
# How far behind the last readable row of an SQLite table others are looked for, in growing steps.
PROBED_ROWS = 1_000_000

Note = Callable[[str], None]


class BagError(TractorError):
    """A recording cannot be read at all, or does not hold what a drive needs."""


class Message(NamedTuple):
    """One recorded message: serialised as CDR, with the time it was recorded, ns."""

    topic: str
    kind: str
    recorded_ns: int
    data: bytes


class Bag:
    """One recorded drive.

    Attributes:
        name: of the folder or file.
        counts: {(topic, type): messages}, as far as it can be told.
        losses: what could not be read, one sentence each; grows while messages are read.

    Raises:
        BagError: there is no bag, or nothing of it can be read; says what was looked for.
    """

    def __init__(self, path: Path) -> None:
        _require_rosbags()
        self.name = path.resolve().stem if path.is_file() else path.resolve().name
        self.losses: list[str] = []
        self._recorded: dict[str, int] = {}
        self._files = [_Storage(file, self._lose) for file in self._find(path)]
        self.counts: Counter[tuple[str, str]] = Counter()
        for file in self._files:
            self.counts.update(file.counts)
        if not self.counts:
            reasons = "".join(f"\n  - {loss}" for loss in self.losses)
            raise BagError(f"{path}: expected recorded messages, found none{reasons}")

    def messages(self, topics: set[str]) -> Iterator[Message]:
        """Yield the messages of these topics in the order of recording."""
        read: Counter[str] = Counter()
        for file in self._files:
            for message in file.messages(topics):
                read[message.topic] += 1
                yield message
        for topic in sorted(topics):
            if (missing := self._recorded.get(topic, 0) - read[topic]) > 0:
                self._lose(
                    f"{topic}: {missing} of the {self._recorded[topic]} messages that {METADATA} "
                    "counts"
                )

    def _lose(self, what: str) -> None:
        if what not in self.losses:
            self.losses.append(what)

    def _find(self, path: Path) -> list[Path]:
        """Return the storage files of a bag in the order of recording."""
        if path.is_file() and path.suffix in SUFFIXES:
            return [path]
        if not path.is_dir():
            found = "a file of another kind" if path.exists() else "nothing there"
            raise BagError(
                f"{path}: expected a rosbag2 folder, or a file that ends in "
                f"{' or '.join(SUFFIXES)}, found {found}"
            )
        there = sorted((f for f in path.iterdir() if f.suffix in SUFFIXES), key=_by_number)
        information = self._metadata(path / METADATA)
        if information is None:
            if not there:
                inside = sorted(f.name for f in path.iterdir() if (f / METADATA).is_file())
                found = f"bags inside it, name them: {', '.join(inside)}" if inside else "neither"
                raise BagError(
                    f"{path}: expected a rosbag2 folder with {METADATA} or files that end in "
                    f"{' or '.join(SUFFIXES)}, found {found}"
                )
            return there
        for entry in information.get("topics_with_message_count", []):
            topic = entry["topic_metadata"]["name"]
            self._recorded[topic] = self._recorded.get(topic, 0) + entry["message_count"]
        if information.get("compression_mode"):
            return [path]
        named = [path / Path(name).name for name in information["relative_file_paths"]]
        for file in named:
            if not file.is_file():
                self._lose(f"{file.name}: named in {METADATA}, but not there")
        # A recorder that was killed may have opened a file after it wrote the metadata.
        return [file for file in named if file.is_file()] + [f for f in there if f not in named]

    def _metadata(self, file: Path) -> dict[str, Any] | None:
        """Return what the bag says about itself, or None and a loss where it says nothing."""
        import yaml

        try:
            information = yaml.safe_load(file.read_text(encoding="utf-8"))
            information = information["rosbag2_bagfile_information"]
            [entry["topic_metadata"]["name"] for entry in information["topics_with_message_count"]]
            [Path(name) for name in information["relative_file_paths"]]
            return information
        except FileNotFoundError:
            self._lose(f"{METADATA}: missing, so nobody knows how many messages there were")
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            self._lose(f"{METADATA}: cannot be used ({_one_line(error)})")
        return None


class _Storage:
    """One file of a bag, or a compressed bag as a whole."""

    def __init__(self, path: Path, note: Note) -> None:
        self._path, self._note = path, note
        self._damaged = False
        self.counts: Counter[tuple[str, str]] = Counter()
        try:
            if _write_ahead_log(path):
                raise BagError("the recorder was killed; its last messages are in a file beside it")
            with _reader(path) as reader:
                for c in reader.connections:
                    if not (type(c.topic) is str and type(c.msgtype) is str):
                        raise ValueError(f"a topic is called {c.topic!r}, {c.msgtype!r}")
                    self.counts[c.topic, c.msgtype] += c.msgcount
        except Exception as error:  # rosbags and its libraries raise anything on damaged files
            self._damaged = True
            note(f"{path.name}: damaged, read as far as it goes ({_one_line(error)})")
            self.counts.clear()
            for message in _salvage(path, note):
                self.counts[message.topic, message.kind] += 1

    def messages(self, topics: set[str]) -> Iterator[Message]:
        """Yield the messages of these topics, with the rest of a file that turns out damaged."""
        last_ns = -1
        delivered: set[str] = set()
        if not self._damaged:
            try:
                with _reader(self._path) as reader:
                    if chosen := [c for c in reader.connections if c.topic in topics]:
                        for c, recorded_ns, data in reader.messages(chosen):
                            if not (type(recorded_ns) is int and type(data) is bytes):
                                raise ValueError(f"a message is of the time {recorded_ns!r}")
                            if recorded_ns != last_ns:
                                last_ns, delivered = recorded_ns, set()
                            delivered.add(c.topic)
                            yield Message(c.topic, c.msgtype, recorded_ns, data)
                return
            except Exception as error:  # as above
                self._note(f"{self._path.name}: damaged ({_one_line(error)})")
        for message in _salvage(self._path, self._note):
            known = message.recorded_ns == last_ns and message.topic in delivered
            if message.topic in topics and message.recorded_ns >= last_ns and not known:
                yield message


def _reader(path: Path) -> Any:
    from rosbags.rosbag2 import Reader

    return Reader(path)


def _require_rosbags() -> None:
    try:
        import rosbags.rosbag2  # noqa: F401
    except ImportError as error:
        raise BagError(
            f"reading recordings needs the package rosbags, found none ({error}); "
            "pip install rosbags, or make setup"
        ) from error


def _by_number(file: Path) -> list[Any]:
    """Sort drive_10 after drive_2."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name)]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _salvage(path: Path, note: Note) -> Iterator[Message]:
    """Yield every message of a damaged file that can be read, in the order of recording."""
    try:
        if path.suffix == ".mcap":
            yield from _salvage_mcap(path, note)
        elif path.suffix == ".db3":
            yield from _salvage_sqlite(path, note)
    except (OSError, sqlite3.Error) as error:
        note(f"{path.name}: cannot be read ({_one_line(error)})")


# MCAP


class _McapRecords:
    """Makes messages of MCAP records; learns schemas and channels on the way."""

    def __init__(self) -> None:
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, tuple[str, str]] = {}

    def take(self, operation: int, body: bytes) -> Message | None:
        """Take one record; raises struct.error or ValueError when it is damaged."""
        if operation == SCHEMA:
            (key,) = struct.unpack_from("<H", body)
            self._schemas[key] = _string(body, 2)[0]
        elif operation == CHANNEL:
            key, schema = struct.unpack_from("<HH", body)
            self._channels[key] = _string(body, 4)[0], self._schemas.get(schema, "unknown type")
        elif operation == MESSAGE:
            key, _, recorded_ns = struct.unpack_from("<HIQ", body)
            if key not in self._channels:
                raise ValueError(f"channel {key} is not described")
            return Message(*self._channels[key], recorded_ns, bytes(body[22:]))
        return None

    def read(self, buffer: bytes) -> tuple[list[Message], str]:
        """Return the messages of a buffer of records, and why reading ended early if it did."""
        found: list[Message] = []
        position = 0
        try:
            while position < len(buffer):
                operation, length = struct.unpack_from("<BQ", buffer, position)
                position += 9
                if position + length > len(buffer):
                    return found, "it is cut short"
                if message := self.take(operation, buffer[position : position + length]):
                    found.append(message)
                position += length
        except (struct.error, ValueError) as error:
            return found, _one_line(error)
        return found, ""


def _string(body: bytes, offset: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", body, offset)
    end = offset + 4 + length
    if end > len(body):
        raise ValueError("a text is cut short")
    return body[offset + 4 : end].decode(), end


def _salvage_mcap(path: Path, note: Note) -> Iterator[Message]:
    records = _McapRecords()
    size = path.stat().st_size
    first_ns = last_ns = 0

    def where(position: int) -> str:
        return f"{path.name}: byte {position} of {size}, {(last_ns - first_ns) * 1e-9:.1f} s in"

    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            note(f"{path.name}: does not begin as an MCAP file")
            return
        records.read(_summary(path))
        position = len(MAGIC)
        while position < size:
            file.seek(position)
            head = file.read(9)
            operation, length = struct.unpack("<BQ", head) if len(head) == 9 else (0, size)
            if operation in (DATA_END, FOOTER):
                return
            whole = position + 9 + length <= size
            found: list[Message] = []
            problem = ""
            if operation == CHUNK:
                body = file.read(min(length, size - position, MAX_CHUNK_BYTES))
                found, problem = _chunk(records, body, whole)
            elif whole and operation in (SCHEMA, CHANNEL, MESSAGE) and length <= MAX_CHUNK_BYTES:
                found, problem = records.read(head + file.read(length))
            for message in sorted(found, key=lambda m: m.recorded_ns):
                first_ns = first_ns or message.recorded_ns
                last_ns = max(last_ns, message.recorded_ns)
                yield message
            if not whole:
                note(f"{where(position)}: the file is cut short, what came after is lost")
                return
            if problem:
                note(f"{where(position)}: messages are lost ({problem})")
            position += 9 + length
        note(f"{where(position)}: the file ends without its index, more may be lost")


def _chunk(records: _McapRecords, body: bytes, whole: bool) -> tuple[list[Message], str]:
    """Return the messages of a chunk, and what is wrong with it."""
    try:
        _, _, declared, checksum = struct.unpack_from("<QQQI", body)
        compression, start = _string(body, 28)
        (length,) = struct.unpack_from("<Q", body, start)
    except (struct.error, ValueError) as error:
        return [], _one_line(error)
    packed = body[start + 8 : start + 8 + length]
    plain, problem = _unpack(packed, compression, min(declared, MAX_CHUNK_BYTES))
    if whole and not problem and checksum and zlib.crc32(plain) != checksum:
        # Nobody knows which of its messages is wrong, and a wrong pixel looks like any other.
        return [], "wrong checksum"
    found, ended = records.read(plain)
    return found, problem or ended


def _unpack(packed: bytes, compression: str, limit: int) -> tuple[bytes, str]:
    """Return what can be decompressed, at most `limit` bytes, and what is wrong."""
    if compression == "":
        return packed, ""
    try:
        if compression == "zstd":
            from backports import zstd

            inflater: Any = zstd.ZstdDecompressor()
        elif compression == "lz4":
            from lz4.frame import LZ4FrameDecompressor

            inflater = LZ4FrameDecompressor()
        else:
            return b"", f"unknown compression {compression!r}"
    except ImportError as error:
        return b"", f"compressed with {compression}: {error}"
    plain = bytearray()
    # In small pieces, so that what comes before a damaged block is kept.
    for start in range(0, len(packed), 4096):
        try:
            plain += inflater.decompress(packed[start : start + 4096], limit - len(plain))
        except Exception as error:  # each library has its own
            return bytes(plain), _one_line(error)
        if inflater.eof or len(plain) >= limit:
            break
    return bytes(plain), ""


def _summary(path: Path) -> bytes:
    """Return the summary section, which repeats schemas and channels, where the file is whole."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 37))
        footer = file.read()
        if footer[-8:] != MAGIC or footer[:1] != bytes([FOOTER]):
            return b""
        (start,) = struct.unpack_from("<Q", footer, 9)
        if not 0 < start < size - 37 or size - start > MAX_CHUNK_BYTES:
            return b""
        file.seek(start)
        return file.read(size - 37 - start)


# SQLite


def _write_ahead_log(path: Path) -> bool:
    """Return whether a recorder that was killed left messages in a log beside a database."""
    log = path.with_name(path.name + "-wal")
    return path.suffix == ".db3" and log.is_file() and log.stat().st_size > 0


def _salvage_sqlite(path: Path, note: Note) -> Iterator[Message]:
    mode = "mode=ro" if _write_ahead_log(path) else "immutable=1"
    # SQLite makes an index of the log beside it, which is not the recording's.
    index = path.with_name(path.name + "-shm")
    indexed = index.exists()
    database = sqlite3.connect(f"file:{quote(str(path.resolve()))}?{mode}", uri=True)
    try:
        # Lets SQLite read a file that is shorter than its header says.
        database.execute("PRAGMA writable_schema=ON")
        topics = {
            key: (name, kind)
            for key, name, kind in database.execute("SELECT id, name, type FROM topics")
            if type(name) is str and type(kind) is str
        }
        query = "SELECT id, topic_id, timestamp, data FROM messages WHERE id > ? ORDER BY id"
        last, failed, lost, problem = 0, 0, 0, "a damaged row"
        first_ns = last_ns = 0
        while failed < PROBED_ROWS:
            try:
                for key, topic, recorded_ns, data in database.execute(query, (last + failed,)):
                    if key <= last:
                        raise sqlite3.DatabaseError("rows lead in a circle")
                    lost += key - last - 1 if failed else 0
                    last, failed = key, 0
                    # A damaged row may hold values of any type.
                    if topic in topics and type(recorded_ns) is int and type(data) is bytes:
                        first_ns, last_ns = first_ns or recorded_ns, recorded_ns
                        yield Message(*topics[topic], recorded_ns, data)
                    else:
                        lost += 1
                break
            except sqlite3.DatabaseError as error:
                problem = _one_line(error)
                failed += 1 + failed // 100
        where = f"row {last}, {(last_ns - first_ns) * 1e-9:.1f} s in"
        if lost:
            note(f"{path.name}: {lost} rows before row {last} are lost ({problem})")
        if failed:
            note(f"{path.name}: the rows after {where}, are lost ({problem})")
    finally:
        database.close()
        if not indexed:
            index.unlink(missing_ok=True)
