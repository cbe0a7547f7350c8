"""The actor as an ONNX file: opened with limits, and rewritten.

Shared by the converter, the doctor and the CPU backend, so that what one takes all take.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from tractor_core.contract import PROPRIO_INPUT, Contract
from tractor_core.errors import ModelError

from . import limited
from .limited import Limits
from .onnx_inspection import EXPORT_HINT, OnnxFacts, examine

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
        sha256: what identifies the actor, see `onnx_external.digest`; others are refused.

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


def with_normaliser(data: bytes, contract: Contract) -> bytes:
    """Return an actor whose proprioception is raw: mean and std of the contract are inside it.

    The clip stays outside; raw values must lie within it.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_model_from_string(data)
    graph = model.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {tensor.name for tensor in graph.initializer}
    prefix = "contract_"
    while any(name.startswith(prefix) for name in taken):
        prefix += "_"
    constants = {"mean": contract.proprio_mean, "std": contract.proprio_std}
    for name, values in constants.items():
        array = np.array(values, np.float32)[None]
        graph.initializer.append(numpy_helper.from_array(array, prefix + name))
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == PROPRIO_INPUT:
                node.input[i] = f"{prefix}normalised"
    nodes = [
        helper.make_node("Sub", [PROPRIO_INPUT, f"{prefix}mean"], [f"{prefix}centred"]),
        helper.make_node("Div", [f"{prefix}centred", f"{prefix}std"], [f"{prefix}normalised"]),
    ]
    for node in reversed(nodes):
        graph.node.insert(0, node)
    return model.SerializeToString()
