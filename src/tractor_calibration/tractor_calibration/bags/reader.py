"""Recorded drives: rosbag2 folders and files, sqlite3 and MCAP, compressed or not, also damaged.

Everything is read with bounds, see `outside` and `bag_storage`; what is lost is said.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from tractor_core import outside

from .mcap import McapFile
from .sqlite import SqliteFile
from .storage import MAX_MESSAGE_BYTES, Allowance, BagError, Message, Note, TooMuchError, one_line

SUFFIXES = (".mcap", ".db3")
# The recorder's compression: of whole files, which get this suffix, or of each message. The tool
# zstd gives the other one.
PACKED = (".zstd", ".zst")
# What else files are packed with is not read, but named: nobody shall believe that it is all.
_OTHERWISE_PACKED = (".lz4", ".gz", ".bz2", ".xz", ".zip")
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
METADATA = "metadata.yaml"
MAX_LOSSES = 200
# What values of other types than expected raise.
_UNFIT = (ValueError, KeyError, TypeError, IndexError)
_PIECE_BYTES = 64 * 1024


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
        _require_libraries()
        self.name = os.path.basename(os.path.realpath(path))
        if path.is_file():
            self.name = Path(_plain(self.name)).stem
        self.losses: list[str] = []
        self._recorded: Counter[str] = Counter()
        self._files = [_Storage(file, self.lose) for file in self._find(path)]
        self.counts: Counter[tuple[str, str]] = Counter()
        for file in self._files:
            self.counts.update(file.counts)
        if not self.counts:
            reasons = "".join(f"\n  - {loss}" for loss in self.losses)
            raise BagError(f"expected recorded messages, found none{reasons}", path)

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """Yield the messages of these topics in the order of recording."""
        read: Counter[str] = Counter()
        for file in self._files:
            for message in file.messages(topics):
                read[message.topic] += 1
                yield message
        for topic in sorted(topics):
            if (missing := self._recorded[topic] - read[topic]) > 0:
                self.lose(
                    f"{topic}: {missing} of the {self._recorded[topic]} messages that {METADATA} "
                    "counts"
                )

    def lose(self, what: str) -> None:
        """Note a loss, once."""
        if len(self.losses) < MAX_LOSSES and what not in self.losses:
            last = len(self.losses) == MAX_LOSSES - 1
            self.losses.append("and more, which is not listed" if last else what)

    def _find(self, path: Path) -> list[Path]:
        """Return the storage files of a bag in the order of recording."""
        if path.is_file() and _storage_suffix(path):
            return [path]
        expected = f"a rosbag2 folder, or a file that ends in {' or '.join(SUFFIXES)}"
        if not path.is_dir():
            found = "a file of another kind" if path.exists() else "nothing there"
            raise BagError(f"expected {expected}, found {found}", path)
        there = {f.name: f for f in sorted(path.iterdir(), key=_by_number) if _storage_suffix(f)}
        # A recorder that is killed while it compresses a file leaves both.
        there = {name: f for name, f in there.items() if _plain(name) not in {*there} - {name}}
        for other in sorted(path.iterdir(), key=_by_number):
            if other.suffix in _OTHERWISE_PACKED and other.stem.endswith(SUFFIXES):
                self.lose(f"{other.name}: packed in a way that is not read here; unpack it")
        named = self._metadata(path / METADATA)
        if not (named or there):
            inside = sorted(f.name for f in path.iterdir() if (f / METADATA).is_file())
            found = f"bags inside it, name them: {', '.join(inside)}" if inside else "none"
            reasons = "".join(f"\n  - {loss}" for loss in self.losses)
            raise BagError(f"expected {expected}, found {found}{reasons}", path)
        found_named = []
        for name in named:
            file = there.pop(name, None) or there.pop(_plain(name), None)
            if file is None:
                self.lose(f"{name}: named in {METADATA}, but not there")
            else:
                found_named.append(file)
        # A recorder that was killed may have opened a file after it wrote the metadata.
        return found_named + list(there.values())

    def _metadata(self, file: Path) -> list[str]:
        """Learn how many messages there were and return the names of the files, if it says so."""
        try:
            information = outside.yaml_value(outside.read_text(file))["rosbag2_bagfile_information"]
            names = [Path(name).name for name in information["relative_file_paths"]]
        except FileNotFoundError:
            self.lose(f"{METADATA}: missing, so nobody knows how many messages there were")
            return []
        except (OSError, *_UNFIT) as error:
            self.lose(f"{METADATA}: cannot be used ({_unfit(error)})")
            return []
        try:
            counts: Counter[str] = Counter()
            for entry in information["topics_with_message_count"]:
                topic, count = entry["topic_metadata"]["name"], entry["message_count"]
                if not (type(topic) is str and type(count) is int and count >= 0):
                    raise ValueError(f"topic {topic!r:.80} with {count!r:.80} messages")
                counts[topic] += count
            self._recorded = counts
        except _UNFIT as error:
            self.lose(f"{METADATA}: does not tell how many messages there were ({_unfit(error)})")
        return list(dict.fromkeys(names))


class _Storage:
    """One file of a bag, which the recorder may have compressed."""

    def __init__(self, path: Path, note: Note) -> None:
        self._path, self._note = path, note
        self.counts: Counter[tuple[str, str]] = Counter()
        with self._opened() as storage:
            if storage is not None:
                self.counts.update(storage.counts)

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """Yield the messages of these topics, those that the recorder compressed unpacked."""
        lost, problem = 0, ""
        with self._opened() as storage:
            if storage is None:
                return
            allowance = Allowance(self._path.stat().st_size)
            for message in storage.messages(topics):
                # CDR begins with a zero.
                if message.data[:4] != _ZSTD_MAGIC:
                    yield message
                    continue
                try:
                    unpacker = outside.Unpacker("zstd", min(MAX_MESSAGE_BYTES, allowance.bytes))
                    data = b"".join(unpacker.add(bytes(message.data)))
                    if not unpacker.ended:
                        raise ValueError("compressed data that are cut short")
                    allowance.take(len(data), 0)
                except (ValueError, TooMuchError) as error:
                    lost, problem = lost + 1, one_line(error)
                    continue
                yield message._replace(data=data)
        if lost:
            self._note(f"{self._path.name}: {lost} compressed messages are lost ({problem})")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[McapFile | SqliteFile | None]:
        """Open the file, of a compressed one an unpacked copy; None, and noted, if impossible."""
        with contextlib.ExitStack() as stack:
            storage: McapFile | SqliteFile | None = None
            try:
                path = self._path
                if path.suffix in PACKED:
                    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="harvest-"))
                    path = Path(folder, path.stem)
                    self._unpack(path)
                kind = McapFile if path.suffix == ".mcap" else SqliteFile
                storage = kind(path, self._note)
            except (OSError, ValueError) as error:
                self._note(f"{self._path.name}: cannot be read ({one_line(error)})")
            yield storage

    def _unpack(self, to: Path) -> None:
        """Unpack a file as far as it goes; OSError where there is no room for it."""
        with outside.open_regular(self._path) as packed, to.open("wb") as plain:
            limit = Allowance(packed.seek(0, 2)).bytes
            packed.seek(0)
            room = shutil.disk_usage(to.parent).free // 2
            unpacker = outside.Unpacker("zstd", min(limit, room))
            try:
                while piece := packed.read(_PIECE_BYTES):
                    for part in unpacker.add(piece):
                        plain.write(part)
                if not unpacker.ended:
                    raise ValueError("it is cut short")
            except ValueError as error:
                self._note(
                    f"{self._path.name}: damaged, read as far as it goes ({one_line(error)})"
                )


def _storage_suffix(path: Path) -> bool:
    return _plain(path.name).endswith(SUFFIXES)


def _plain(name: str) -> str:
    """Return a file's name without the suffix of its compression."""
    return next((name.removesuffix(end) for end in PACKED if name.endswith(end)), name)


def _unfit(error: BaseException) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else one_line(error)


def _require_libraries() -> None:
    try:
        import apsw  # noqa: F401
        import rosbags.typesys  # noqa: F401
    except ImportError as error:
        raise BagError(
            f"reading recordings needs the package rosbags, found none ({error}); "
            "pip install rosbags, or make setup"
        ) from error


def _by_number(file: Path) -> list[Any]:
    """Sort drive_10 after drive_2."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name)]
