"""The actor as an ONNX file, opened with limits.

Shared by the converter, the doctor and the CPU backend, so that what one takes all take.
"""

from __future__ import annotations

import logging
from pathlib import Path

from tractor_core.contract import Contract
from tractor_core.errors import ModelError

from .. import limited
from ..limited import Limits
from .inspection import OnnxFacts, examine
from .signature import EXPORT_HINT

log = logging.getLogger(__name__)

# An actor of a few megabytes takes under a second and 150 MB; a slow board a few seconds.
LIMITS = Limits(30.0, 1000.0)


def inspect(
    path: Path, contract: Contract, *, beneath: bool = False, sha256: str | None = None
) -> OnnxFacts:
    """Read an ONNX file and refuse everything that is not an actor of this contract.

    An actor has exactly the inputs `bev` (1, 2, N, N) and `proprio` (1, 6), found by name, and a
    first output `action` (1, 2), all float32; the batch axis may be free. What exporters leave
    otherwise is brought to one form and compared with the file as it was given: weights in files
    beside it, functions, other outputs, a newer opset. It is opened in a child with limits.

    Args:
        path: the file, or a link to one; weights lie beside the real file.
        contract: names and shapes of the inputs.
        beneath: whether the real file must lie in the path's folder or beneath it.
        sha256: what identifies the actor, see `onnx/external.digest`; others are refused.

    Raises:
        ModelError: unreadable or damaged, not such an actor, or beyond the limits; lists expected
            and found, and an export that works.
    """
    try:
        return limited.call(LIMITS, examine, path, contract, beneath, sha256)
    except limited.LimitError as error:
        raise ModelError(
            f"{path}: cannot be taken: expected an actor that opens within {LIMITS.seconds:g} s "
            f"and {LIMITS.megabytes:g} MB, found one that {error}\n  - {EXPORT_HINT}"
        ) from error
    except limited.ChildError as error:
        log.error("%s: what went wrong in the child that inspected it:\n%s", path, error)
        last = str(error).strip().splitlines()[-1]
        raise ModelError(f"{path}: cannot be inspected: {last:.500}; see the log") from error
