"""Reference vectors: frames whose answers a conversion recorded, asked again by who opens it.

They catch what no digest can: a transposed layout, a runtime of another version, a bad board.
"""

from __future__ import annotations

import base64
import binascii
import zlib

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import ACTION_SIZE, Contract, normalize
from tractor_core.errors import ContractError, ModelError
from tractor_core.samples import Sample

from .backends.base import Backend
from .manifest import ProbeRecord


def pack(frame: Sample, built: NDArray[np.floating], onnx: NDArray[np.floating]) -> ProbeRecord:
    """Return a frame and its actions (2,) for a manifest.

    The grid is base64 of zlib of its float32 bytes, little endian, C order.
    """
    data = np.ascontiguousarray(frame.bev, "<f4").tobytes()
    return ProbeRecord(
        base64.b64encode(zlib.compress(data, 9)).decode(),
        *(tuple(float(x) for x in values) for values in (frame.proprio, built, onnx)),
    )


def unpack(record: ProbeRecord, contract: Contract) -> Sample:
    """Return the frame of a reference vector.

    Raises:
        ModelError: it is not a frame of the contract.
    """
    size = 4 * int(np.prod(contract.bev_shape))
    try:
        # Bounded: a few bytes may unpack to gigabytes.
        data = zlib.decompressobj().decompress(
            base64.b64decode(record.bev, validate=True), size + 1
        )
    except (binascii.Error, ValueError, zlib.error) as error:
        raise ModelError(f"its grid cannot be unpacked: {error}") from error
    if len(data) != size:
        raise ModelError(f"expected a grid of {size} bytes, found another size")
    if len(record.proprio) != contract.proprio_size or len(record.built) != ACTION_SIZE:
        raise ModelError(
            f"expected {contract.proprio_size} values of proprioception and {ACTION_SIZE} of the "
            f"action, found {len(record.proprio)} and {len(record.built)}"
        )
    grid = np.frombuffer(data, "<f4").astype(np.float32).reshape(contract.bev_shape)
    return Sample(grid, np.array(record.proprio, np.float32))


def check(backend: Backend) -> float:
    """Ask a backend its reference vectors and return the largest deviation; 0 without any.

    Raises:
        ModelError: an answer is farther from the simulator's than the manifest allows, or one of
            them cannot be used.
    """
    record, contract = backend.probes, backend.contract
    if record is None:
        return 0.0
    largest = 0.0
    for number, probe in enumerate(record.frames, 1):
        name = f"reference vector {number} of {len(record.frames)}"
        try:
            frame = unpack(probe, contract)
            answer = backend.infer(frame.bev[None], normalize(contract, frame.proprio)[None])
        except (ModelError, ContractError) as error:
            raise ModelError(f"{name}: {error}") from error
        expected = np.array(probe.built)
        found = np.asarray(answer, np.float64).reshape(-1)
        deviation = np.abs(found - expected).max() if found.shape == expected.shape else np.inf
        # A comparison that NaN fails.
        if not deviation <= record.tolerance:
            raise ModelError(
                f"{name}: expected the action {np.round(expected, 4).tolist()} that the simulator "
                f"gave at conversion, within {record.tolerance:g}, found "
                f"{np.round(found, 4).tolist()} from backend {backend.name}; the runtime does not "
                "compute what was validated: compare its version with the toolkit's in the "
                "manifest, then convert the ONNX actor again"
            )
        largest = max(largest, float(deviation))
    return largest
