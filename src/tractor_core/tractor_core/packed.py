"""Samples kept in little memory: a grid of zeros and ones takes a bit a cell."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from .samples import Sample

_NO_GRID = np.empty((0, 0, 0), np.float32)
# Fast; other grids than those of zeros and ones are rare.
_LEVEL = 1


@dataclasses.dataclass(frozen=True)
class _Packed:
    """A sample without its grid, and the grid's shape and bytes; `bits` says how to unpack them."""

    rest: Sample
    shape: tuple[int, ...]
    bits: bool
    grid: bytes


class PackedSamples(Sequence[Sample]):
    """Samples that are unpacked one at a time as they are asked for, bit for bit as they were.

    A grid of 2 x 128 x 128 takes 4 kB instead of 131 kB; one with other values than 0 and 1 is
    compressed, and takes what its content needs.
    """

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._packed = [_pack(sample) for sample in samples]

    def append(self, sample: Sample) -> None:
        """Add one more."""
        self._packed.append(_pack(sample))

    @classmethod
    def join(cls, parts: Iterable[PackedSamples]) -> PackedSamples:
        """Return the samples of all parts in order; nothing is copied."""
        joined = cls()
        joined._packed = [one for part in parts for one in part._packed]
        return joined

    def pick(self, indices: Iterable[int]) -> PackedSamples:
        """Return some of the samples, in the order of the indices; nothing is copied."""
        picked = PackedSamples()
        picked._packed = [self._packed[i] for i in indices]
        return picked

    @property
    def sha256(self) -> tuple[str, ...]:
        """Digests of the files that the samples were read from."""
        return tuple(packed.rest.sha256 for packed in self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> PackedSamples: ...
    def __getitem__(self, index: int | slice) -> Sample | PackedSamples:
        if isinstance(index, slice):
            return self.pick(range(*index.indices(len(self))))
        return _unpack(self._packed[index])


def _pack(sample: Sample) -> _Packed:
    data, cells = sample.bev.tobytes(), sample.bev.astype(bool)
    # A negative zero equals zero, and is other bytes.
    bits = cells.astype(np.float32).tobytes() == data
    grid = np.packbits(cells).tobytes() if bits else zlib.compress(data, _LEVEL)
    # The arrays of a file may be views that would keep all of it.
    rest = dataclasses.replace(sample, bev=_NO_GRID, proprio=sample.proprio.copy())
    return _Packed(rest, sample.bev.shape, bits, grid)


def _unpack(packed: _Packed) -> Sample:
    bev: NDArray[np.float32]
    if packed.bits:
        size = int(np.prod(packed.shape))
        bev = np.unpackbits(np.frombuffer(packed.grid, np.uint8), count=size).astype(np.float32)
    else:
        bev = np.frombuffer(bytearray(zlib.decompress(packed.grid)), np.float32)
    return dataclasses.replace(packed.rest, bev=bev.reshape(packed.shape))
