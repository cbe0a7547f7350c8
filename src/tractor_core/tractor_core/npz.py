"""NumPy archives (.npz) of unknown origin, read within bounds and without pickle, see `outside`."""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Entries of an archive, of which most are unknown, and the header of one.
MAX_ENTRIES = 64
MAX_HEADER_BYTES = 1000
_HEADER = re.compile(
    r"\{(?:\s*(?:'descr'\s*:\s*'(?P<descr>[<>|=]?[biufU?]\d{0,6})'"
    r"|'fortran_order'\s*:\s*(?P<fortran>True|False)"
    r"|'shape'\s*:\s*\((?P<shape>[\d\s,]{0,200})\))\s*,?){3}\s*\}\s*"
)


def read_arrays(
    data: bytes, names: Collection[str], max_member: int, max_total: int
) -> dict[str, NDArray]:
    """Return arrays of a .npz file by name; members of other names are not looked at.

    Booleans, numbers and single texts, stored or deflated; never pickles. A text is one Python
    string in an array without dimensions.

    Args:
        data: the file, of a bounded size.
        names: members that are wanted, without `.npy`; those that are missing are left out.
        max_member, max_total: bytes that one array and all of them may have.

    Raises:
        ValueError: no such archive, a wanted member twice, or one that is not as described.
    """
    try:
        if data.count(b"PK\x01\x02") > MAX_ENTRIES:
            raise ValueError(f"expected at most {MAX_ENTRIES} members, found more")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _read_arrays(archive, names, max_member, max_total)
    except ValueError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, LookupError,
            NotImplementedError, OverflowError, TypeError, struct.error) as error:  # fmt: skip
        # RuntimeError: encrypted. The others: what zipfile makes of damaged records.
        raise ValueError(f"not a readable .npz file ({error})") from error


def _read_arrays(
    archive: zipfile.ZipFile, names: Collection[str], max_member: int, max_total: int
) -> dict[str, NDArray]:
    arrays: dict[str, NDArray] = {}
    left = max_total
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name not in names:
            continue
        if name in arrays:
            raise ValueError(f"{name}: expected one such member, found several")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # zipfile unpacks the other kinds without a bound, even to read a header.
            raise ValueError(
                f"{name}: expected stored or deflated data, found compression {info.compress_type}"
            )
        if info.file_size > min(max_member, left) + MAX_HEADER_BYTES:
            raise ValueError(f"{name}: declares {info.file_size} bytes")
        with archive.open(info) as file:
            try:
                arrays[name] = _npy_array(file, min(max_member, left))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        left -= arrays[name].nbytes
    return arrays


def _npy_array(file: Any, limit: int) -> NDArray:
    """Read one .npy member: https://numpy.org/doc/stable/reference/generated/numpy.lib.format."""
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY":
        raise ValueError("not a .npy member")
    width = 2 if magic[6] == 1 else 4
    size = int.from_bytes(file.read(width), "little")
    if size > MAX_HEADER_BYTES:
        raise ValueError(f"absurd header of {size} bytes")
    header = file.read(size).decode("latin1")
    match = _HEADER.fullmatch(header)
    if match is None or None in match.groups():
        if re.search(r"'descr'\s*:\s*'[<>|=]?O", header):
            raise ValueError("holds Python objects (pickle), which are never loaded")
        raise ValueError(f"expected an array of numbers or texts, found {header.strip()!r:.100}")
    dtype = np.dtype(match["descr"])
    shape = tuple(int(part) for part in match["shape"].split(",") if part.strip())
    declared = math.prod(shape) * dtype.itemsize
    if declared > limit or len(shape) > 8:
        raise ValueError(f"declares {declared} bytes in {len(shape)} dimensions")
    data = file.read(declared)
    if len(data) != declared or file.read(1):
        raise ValueError(f"expected {declared} bytes of data, found another number")
    if dtype.kind == "U":
        return _text_array(data, dtype, shape)
    array = np.frombuffer(data, dtype, math.prod(shape))
    array = array.reshape(shape, order="F" if match["fortran"] == "True" else "C")
    return array.astype(dtype.newbyteorder("="))


def _text_array(data: bytes, dtype: np.dtype, shape: tuple[int, ...]) -> NDArray:
    """Return one text; NumPy would make a string of code points that are none, and fail later."""
    if shape:
        raise ValueError(f"expected one text, found an array of shape {shape}")
    codec = "utf-32-be" if dtype.str[0] == ">" else "utf-32-le"
    return np.array(data.decode(codec).rstrip("\0"))
