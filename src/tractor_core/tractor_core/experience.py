"""Experience: what the rover saw, was told and did, step by step, in chunks of about a second.

A chunk holds n steps between n + 1 observations, so that it can be learnt from by itself. Its file:

| bytes | |
|---|---|
| 4 | `RVXP` |
| 2, 4 | version, and the length of the header, unsigned |
| | header: JSON with the fields of `Chunk` that are no arrays |
| | a zstd frame |
| 4 | CRC-32 of all before |

Numbers are little endian. In the frame is a table of bytes, a row for each observation: a ROW, then
the grid's cells as bits, channel by channel. Each byte is XOR that of the row before; columns that
are zero throughout are left out, a bit for each byte of a row says which are there, and these
follow one after the other. Of a simulated drive at 30 Hz a step takes about 100 bytes.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import outside
from .contract import ACTION_SIZE, LAST_ACTION, PROPRIO_NAMES, Contract
from .errors import ContractError, ExperienceError, Problem
from .samples import proprio_range_problems

MAGIC, VERSION = b"RVXP", 1
SUFFIX = ".rvxp"
# Ten seconds at 30 Hz; a grid that changes in every cell all the time takes this much.
MAX_STEPS, MAX_FILE_BYTES, MAX_HEADER_BYTES = 300, 4 * 1024 * 1024, 4096
# What a chunk is compressed with: level 9 takes three times as long for one byte in a hundred.
ZSTD_LEVEL = 6
# Two observations of one episode are not farther apart, s.
MAX_GAP_S = 1.0
MAX_COUNT = 2**53

# Who gave a command that was executed; their places are what is stored.
DRIVERS = ("policy", "exploring", "teleop", "stop")
# Why an episode ends behind the last observation; empty where the next chunk goes on with it. The
# first two are outcomes (terminated), the others only end the recording (truncated).
ENDS = ("", "contact", "stuck", "stop", "operator", "gap", "model", "session end")
TERMINAL = ("contact", "stuck")

ROW = np.dtype([
    ("stamp_ns", "<i8"), ("proprio", "<f4", len(PROPRIO_NAMES)), ("pose", "<f4", 3),
    ("answer", "<f4", ACTION_SIZE), ("requested", "<f4", ACTION_SIZE), ("driver", "u1"),
])  # fmt: skip
ACTIONS = ("answer", "requested")
# Where `proprio` has the action that was executed before it.
EXECUTED = slice(PROPRIO_NAMES.index(LAST_ACTION[0]), PROPRIO_NAMES.index(LAST_ACTION[-1]) + 1)

_FIXED = struct.Struct("<4sHI")
_CRC = struct.Struct("<I")
_SESSION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DIGEST_OR_NONE = re.compile(r"(?:[0-9a-f]{64})?")


@dataclasses.dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive steps of one episode.

    Attributes:
        session: a run of the recorder: its start and a random number.
        episode: number of the episode in the session.
        first: number of the first step in the session; those of a dropped chunk are missing.
        model: sha256 of the model that answered; empty where that has no file.
        contract: digest of the contract that it was observed by.
        end: why the episode ends here, one of ENDS.
        rows: (n + 1,) of ROW: stamp in ns; proprio raw; pose of odometry x, y in m, yaw in rad;
            the actions that the model answered, and that were asked for with exploration; `driver`
            is the place in DRIVERS of who gave the command that was executed then. Raw: nothing is
            normalised, and no reward is in it. The last row is an observation only, its actions
            are zero.
        grids: (n + 1, bytes) uint8, the grids' cells (2, cells, cells) as bits, see `pack_grid`.
    """

    session: str
    episode: int
    first: int
    model: str
    contract: str
    end: str
    rows: NDArray
    grids: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.rows) - 1

    @property
    def executed(self) -> NDArray[np.float32]:
        """The actions that the base was told, (n, 2): each observation has the one before it."""
        return self.rows["proprio"][1:, EXECUTED]

    @property
    def id(self) -> str:
        """See `chunk_id`."""
        return chunk_id(self.session, self.first)

    @property
    def terminated(self) -> bool:
        """Whether the episode ends here by what happened, and not because it was left off."""
        return self.end in TERMINAL


def pack_grid(bev: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a grid's cells as bits, (bytes,) uint8.

    Raises:
        ExperienceError: it holds other values than 0 and 1.
    """
    cells = bev.astype(bool)
    if not np.array_equal(cells, bev):
        raise ExperienceError("bev: expected cells of 0 and 1, found other values")
    return np.packbits(cells)


def unpack_grids(grids: NDArray[np.uint8], contract: Contract) -> NDArray[np.uint8]:
    """Return grids (n, 2, cells, cells) uint8 of zeros and ones."""
    shape = contract.bev_shape
    bits = np.unpackbits(grids, axis=1, count=math.prod(shape))
    return bits.reshape(-1, *shape)


def encode(chunk: Chunk) -> bytes:
    """Return a chunk as the bytes of its file."""
    from backports import zstd

    rows = np.ascontiguousarray(chunk.rows).view(np.uint8).reshape(len(chunk.rows), -1)
    table = np.concatenate([rows, chunk.grids], axis=1)
    table[1:] ^= table[:-1]
    there = table.any(axis=0)
    content = np.packbits(there).tobytes() + table[:, there].T.tobytes()
    header = _header(chunk)
    data = _FIXED.pack(MAGIC, VERSION, len(header)) + header + zstd.compress(content, ZSTD_LEVEL)
    return data + _CRC.pack(zlib.crc32(data))


def _header(chunk: Chunk) -> bytes:
    fields = {field.name: getattr(chunk, field.name) for field in dataclasses.fields(chunk)}
    del fields["rows"], fields["grids"]
    return json.dumps(fields | {"steps": len(chunk)}, separators=(",", ":")).encode()


def read(path: Path, contract: Contract) -> Chunk:
    """Read and check one file; a link is refused.

    Raises:
        ExperienceError: with the file and everything that is wrong.
    """
    data = outside.read_or_refuse(path, MAX_FILE_BYTES, ExperienceError)
    try:
        return parse(data, contract)
    except ExperienceError as error:
        raise ExperienceError(error.reason, path) from error


def parse(data: bytes, contract: Contract) -> Chunk:
    """Check the bytes of a file, which anybody may have made, and return the chunk in them.

    Raises:
        ExperienceError: they cannot be learnt from under this contract.
    """
    try:
        header, packed = _parts(data)
        chunk = _table(header, packed, contract)
    except (ValueError, ContractError) as error:
        raise ExperienceError(str(error)) from error
    if problems := _problems(chunk, contract):
        raise ExperienceError("; ".join(map(str, problems)))
    return chunk


class Description(NamedTuple):
    """What a chunk says of itself: its id, how many steps it has, the sha256 of the model."""

    id: str
    steps: int
    model: str


def describe(data: bytes) -> Description:
    """Return what a chunk says of itself; its observations are not looked at.

    Raises:
        ExperienceError: it is no whole chunk.
    """
    try:
        header, _ = _parts(data)
    except ValueError as error:
        raise ExperienceError(str(error)) from error
    identity = chunk_id(header["session"], header["first"])
    return Description(identity, header["steps"], header["model"])


def chunk_id(session: str, first: int) -> str:
    """Return what no other chunk is called; ids of a session sort in time."""
    return f"{session}_{first:09d}"


def _parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header, checked, and the compressed rest."""
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"expected at most {MAX_FILE_BYTES} bytes, found {len(data)}")
    if len(data) < _FIXED.size + _CRC.size:
        raise ValueError(f"expected a chunk of experience, found {len(data)} bytes")
    magic, version, length = _FIXED.unpack_from(data)
    if magic != MAGIC:
        raise ValueError(f"expected a chunk of experience, found a file that begins with {magic!r}")
    if version != VERSION:
        raise ValueError(f"expected version {VERSION} of the format, found {version}")
    rest = data[: -_CRC.size]
    if _CRC.unpack(data[-_CRC.size :]) != (zlib.crc32(rest),):
        raise ValueError("damaged or cut off: its CRC-32 is another")
    if length > min(MAX_HEADER_BYTES, len(rest) - _FIXED.size):
        raise ValueError(f"expected a header of at most {MAX_HEADER_BYTES} bytes, found {length}")
    end = _FIXED.size + length
    header = outside.json_value(rest[_FIXED.size : end], MAX_HEADER_BYTES)
    if not isinstance(header, dict) or set(header) != set(_HEADER):
        raise ValueError(f"expected a header with {', '.join(_HEADER)}")
    for name, fits in _HEADER.items():
        if not fits(header[name]):
            raise ValueError(f"{name}: not a value of it: {json.dumps(header[name]):.80}")
    return header, rest[end:]


def _table(header: dict[str, Any], packed: bytes, contract: Contract) -> Chunk:
    """Unpack the observations and make a chunk of them."""
    contract.require_same(header["contract"], "chunk")
    count, grid_bytes = header.pop("steps") + 1, math.ceil(math.prod(contract.bev_shape) / 8)
    width = ROW.itemsize + grid_bytes
    mask_bytes = math.ceil(width / 8)
    unpacker = outside.Unpacker("zstd", mask_bytes + width * count)
    content = b"".join(unpacker.add(packed))
    there = np.unpackbits(np.frombuffer(content[:mask_bytes], np.uint8))
    columns = int(np.count_nonzero(there))
    if (
        not unpacker.ended
        or unpacker.follows
        or len(there) != 8 * mask_bytes
        or there[width:].any()
        or len(content) != mask_bytes + columns * count
    ):
        raise ValueError(f"expected {count} observations of {width} bytes, found others")
    table = np.zeros((count, width), np.uint8)
    cells = np.frombuffer(content, np.uint8, offset=mask_bytes).reshape(columns, count)
    table[:, there[:width].astype(bool)] = np.bitwise_xor.accumulate(cells.T, axis=0)
    rows = np.ascontiguousarray(table[:, : ROW.itemsize]).view(ROW)[:, 0]
    return Chunk(**header, rows=rows, grids=np.ascontiguousarray(table[:, ROW.itemsize :]))


def _problems(chunk: Chunk, contract: Contract) -> list[Problem]:
    """Return what no rover can have seen or done."""
    rows, steps = chunk.rows, chunk.rows[:-1]
    problems = [
        Problem(f"{name}: expected finite values", "NaN or Inf")
        for name in ("proprio", "pose", *ACTIONS)
        if not np.isfinite(rows[name]).all()
    ]
    if problems:
        return problems
    for extreme in (rows["proprio"].min(axis=0), rows["proprio"].max(axis=0)):
        problems += proprio_range_problems(extreme, contract)
    problems += (
        Problem(f"{name}: expected -1..1", f"{np.abs(steps[name]).max():.4g}")
        for name in ACTIONS
        if np.abs(steps[name]).max() > 1.0
    )
    apart_s = np.diff(rows["stamp_ns"].astype(np.float64)) * 1e-9
    if not (apart_s.min() > 0.0 and apart_s.max() <= MAX_GAP_S):
        found = f"{apart_s.min():.3f} to {apart_s.max():.3f} s"
        problems.append(Problem(f"stamps: expected steps of at most {MAX_GAP_S:g} s", found))
    if rows["stamp_ns"].min() < 0:
        problems.append(Problem("stamps: expected times since 1970", "one before"))
    if steps["driver"].max() >= len(DRIVERS):
        problems.append(Problem(f"driver: expected 0..{len(DRIVERS) - 1}", "more"))
    return problems


def _is_count(value: object, limit: int = MAX_COUNT) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= limit


def _is_text(pattern: re.Pattern) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


_HEADER: dict[str, Callable[[Any], bool]] = {
    "session": _is_text(_SESSION),
    "episode": _is_count,
    "first": _is_count,
    "model": _is_text(_DIGEST_OR_NONE),
    "contract": _is_text(_DIGEST),
    "end": lambda value: isinstance(value, str) and value in ENDS,
    "steps": lambda value: _is_count(value, MAX_STEPS) and value > 0,
}
