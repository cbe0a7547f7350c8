"""Bounded reading of what others wrote: bytes, JSON, YAML, compressed data.

Whatever a file says, each function here ends soon, takes little memory, and returns plain values or
raises ValueError or OSError, which the caller turns into its documented error. Bounds are those of
honest files with much to spare. NumPy archives are read by `npz`.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .errors import TractorError

# Manifests and parameter files have some kilobytes, a long recording's metadata a megabyte.
MAX_TEXT_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32
# YAML takes ten times as long as JSON.
MAX_NODES, MAX_YAML_NODES = 200_000, 60_000
# A whole number that fits no 64 bits is an error everywhere in the suite.
MAX_DIGITS = 20
MAX_NUMBER_TEXT = 100
_PIECE_BYTES = 256 * 1024

_KINDS = ((stat.S_ISLNK, "a link"), (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"))


# Files


def open_regular(path: str | Path, *, follow: bool = True) -> BinaryIO:
    """Open a file for reading; pipes, devices and folders are refused and never waited for.

    Args:
        path: the file.
        follow: False refuses a link.

    Raises:
        OSError, ValueError: there is none, it cannot be opened, or it is no regular file.
    """
    if not follow:
        _require_regular(os.lstat(path).st_mode)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    handle = os.open(path, flags)
    try:
        _require_regular(os.fstat(handle).st_mode)
        return open(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _require_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for fits, name in _KINDS if fits(mode)), "a special file")
        raise ValueError(f"expected a regular file, found {kind}")


def read_bytes(path: str | Path, limit: int = MAX_TEXT_BYTES, *, follow: bool = True) -> bytes:
    """Read a file of at most `limit` bytes, whole.

    Raises:
        OSError, ValueError: as `open_regular`, or it has more bytes.
    """
    with open_regular(path, follow=follow) as file:
        size = os.fstat(file.fileno()).st_size
        # A file that grows meanwhile, or one of /proc, has another size than it says.
        data = b"" if size > limit else file.read(limit + 1)
    if size > limit or len(data) > limit:
        raise ValueError(f"expected at most {limit} bytes, found {max(size, len(data))}")
    return data


def read_or_refuse(path: Path, limit: int, error: type[TractorError]) -> bytes:
    """Read a file of at most `limit` bytes, whole and no link; raises `error` with the path."""
    try:
        return read_bytes(path, limit, follow=False)
    except FileNotFoundError as found:
        raise error("no such file", path) from found
    except OSError as found:
        raise error(f"cannot be read: {found.strerror}", path) from found
    except ValueError as found:  # too large, or no regular file
        raise error(str(found), path) from found


def read_text(path: str | Path, limit: int = MAX_TEXT_BYTES) -> str:
    """Read a UTF-8 file of at most `limit` bytes; raises as `read_bytes`."""
    return read_bytes(path, limit).decode("utf-8")


# JSON


def json_value(text: str | bytes, limit: int = MAX_TEXT_BYTES) -> Any:
    """Return the value of a JSON text: finite numbers, no key twice in an object.

    Raises:
        ValueError: no JSON, or more of it than the bounds.
    """
    if len(text) > limit:
        raise ValueError(f"expected at most {limit} characters of JSON, found {len(text)}")
    try:
        value = json.loads(
            text,
            parse_int=_whole_number,
            parse_float=_finite,
            parse_constant=_finite,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise ValueError(f"nests deeper than {MAX_DEPTH} levels") from None
    _require_shallow(value)
    return value


def _whole_number(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS or not -(2**63) <= (value := int(digits)) < 2**64:
        raise ValueError(f"expected a number of 64 bits, found one of {len(digits)} digits")
    return value


def _finite(text: str) -> float:
    value = float(text) if len(text) <= MAX_NUMBER_TEXT else math.nan
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, found {text:.20}")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError(_twice(key for key, _ in pairs))
    return value


def _twice(keys: Iterable[str]) -> str:
    """Return the complaint about the most frequent key."""
    ((key, _),) = Counter(keys).most_common(1)
    return f"expected each key once, found {key!r:.80} several times"


def _require_shallow(value: Any) -> None:
    """Refuse what nests so deep that copying or printing it would fail, or is too much."""
    level, depth, nodes = [value], 0, 0
    while level:
        depth, nodes = depth + 1, nodes + len(level)
        if depth > MAX_DEPTH:
            raise ValueError(f"nests deeper than {MAX_DEPTH} levels")
        if nodes > MAX_NODES:
            raise ValueError(f"expected at most {MAX_NODES} values, found more")
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        level = inner


# YAML


def yaml_value(text: str, limit: int = MAX_TEXT_BYTES) -> Any:
    """Return the value of a YAML text: no aliases, which ROS refuses too, no key twice in a map.

    Raises:
        ValueError: no YAML, or more of it than the bounds.
    """
    import yaml

    if len(text) > limit:
        raise ValueError(f"expected at most {limit} characters of YAML, found {len(text)}")
    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        # Events come one by one, before anything nests or refers to itself.
        depth = 0
        for nodes, event in enumerate(yaml.parse(text, base)):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(
                    f"expected values, found the alias *{event.anchor:.40}; write the value itself"
                )
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ValueError(f"nests deeper than {MAX_DEPTH} levels")
            if nodes > MAX_YAML_NODES:
                raise ValueError(f"expected at most {MAX_YAML_NODES} values, found more")
        return yaml.load(text, _safe_loader(base))
    except yaml.YAMLError as error:
        # Whoever read the text names the file.
        words = str(error).replace('in "<unicode string>", ', "in ").split()
        raise ValueError(" ".join(words)) from error
    except (OverflowError, RecursionError, AttributeError, LookupError, TypeError) as error:
        # PyYAML's constructors on texts that a tag calls a number, a date or a set.
        raise ValueError(f"a value that does not fit its tag ({error})") from error


def _safe_loader(base: Any) -> Any:
    import yaml

    class Loader(base):
        """A safe loader that refuses a key that comes twice, and numbers that nothing can hold."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            keys = [key.value for key, _ in node.value if isinstance(getattr(key, "value", 0), str)]
            if len({*keys}) != len(keys):
                raise yaml.constructor.ConstructorError(None, None, _twice(keys), node.start_mark)
            return super().construct_mapping(node, deep)

        def number(self, node: Any) -> Any:
            is_whole = node.tag.endswith(":int")
            short = len(str(node.value)) <= MAX_NUMBER_TEXT
            value = None
            if short:
                value = self.construct_yaml_int(node) if is_whole else self.construct_yaml_float(
                    node
                )  # fmt: skip
            if value is None or (is_whole and not -(2**63) <= value < 2**64):
                raise yaml.constructor.ConstructorError(
                    None, None, f"expected a number of 64 bits, found {node.value:.20}",
                    node.start_mark,
                )  # fmt: skip
            return value

    for kind in ("int", "float"):
        Loader.add_constructor(f"tag:yaml.org,2002:{kind}", Loader.number)
    return Loader


# Compressed data


class Unpacker:
    """Decompresses zstd or lz4 frames piece by piece, to a bounded number of bytes.

    Args:
        kind: "zstd" or "lz4".
        limit: bytes that may come out.

    Raises:
        ValueError: another kind, or the library for it is not installed.
    """

    def __init__(self, kind: str, limit: int) -> None:
        self.left = limit
        try:
            if kind == "zstd":
                from backports import zstd

                self._inflater: Any = zstd.ZstdDecompressor()
            elif kind == "lz4":
                from lz4.frame import LZ4FrameDecompressor

                self._inflater = LZ4FrameDecompressor()
            else:
                raise ValueError(f"unknown compression {kind!r:.40}")
        except ImportError as error:
            raise ValueError(f"compressed with {kind}: {error}") from error

    @property
    def ended(self) -> bool:
        """Whether the frame is complete."""
        return self._inflater.eof

    @property
    def follows(self) -> bool:
        """Whether more came after the complete frame."""
        return bool(self._inflater.unused_data)

    def add(self, packed: bytes) -> Iterator[bytes]:
        """Yield what one more piece gives, in small pieces.

        Raises:
            ValueError: damaged, or more than the limit.
        """
        while True:
            try:
                plain = self._inflater.decompress(packed, min(_PIECE_BYTES, self.left + 1))
            except Exception as error:  # each library has its own
                raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
            self.left -= len(plain)
            if self.left < 0:
                raise ValueError("it unpacks to more than it says, or than is read")
            yield plain
            packed = b""
            if self.ended or self._inflater.needs_input:
                return
