"""The inputs and outputs that an actor must have, and what it may say of itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tractor_core.contract import (
    ACTION_OUTPUT,
    ACTION_SIZE,
    Contract,
)
from tractor_core.errors import ModelError, raise_all

from . import normal_form

EXPORT_HINT = (
    'this export works: torch.onnx.export(actor.eval(), (bev, proprio), "actor.onnx", '
    'input_names=["bev", "proprio"], output_names=["action"], opset_version=17, dynamo=False); '
    "see docs/export.md"
)
# The key in metadata_props under which a trainer says how much noise it asks for.
EXPLORATION_SCALE = "exploration_scale"
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?(e-?[0-9]+)?", re.ASCII)
Shape = tuple["int | str", ...]
Signature = dict[str, tuple[str, Shape]]


def named(path: Path, function: Callable[[], Any]) -> Any:
    """Return what onnx returns; whatever it raises says that the file is not valid."""
    try:
        return function()
    except MemoryError:
        raise
    except Exception as error:  # protobuf, checker and shape inference raise kinds of their own
        raise ModelError(
            f"{path}: not a valid ONNX file ({error!s:.500}): expected an actor as "
            "torch.onnx.export writes it, whole; copy it again, or export it as docs/export.md says"
        ) from error


def _signature(values: Any) -> Signature:
    """Return {name: (type, shape)} of graph inputs or outputs; free dimensions by their name."""
    import onnx

    return {
        value.name: (
            onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower(),
            tuple(
                (dim.dim_param or "?") if normal_form.is_free(dim) else dim.dim_value
                for dim in value.type.tensor_type.shape.dim
            ),
        )
        for value in values
    }


def _describe(values: Signature) -> str:
    text = ", ".join(f"{name} {dtype} {list(shape)}" for name, (dtype, shape) in values.items())
    return f"{text:.500}"


def _fits(expected: Signature, found: Signature, free_axes: int) -> bool:
    """Say whether names, types and shapes are equal; so many first axes may be free."""

    def fits(wanted: Shape, shape: Shape) -> bool:
        return len(wanted) == len(shape) and all(
            size == want or (axis < free_axes and isinstance(size, str))
            for axis, (want, size) in enumerate(zip(wanted, shape))
        )

    return expected.keys() == found.keys() and all(
        found[name][0] == dtype and fits(shape, found[name][1])
        for name, (dtype, shape) in expected.items()
    )


def require_signature(path: Path, model: Any, contract: Contract) -> None:
    """Require the inputs and the first output of an actor; the batch axis may be free."""
    # Files of IR version 3 list the weights among the inputs.
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = named(path, lambda: _signature(v for v in model.graph.input if v.name not in weights))
    outputs = named(path, lambda: _signature(model.graph.output))
    expected_inputs: Signature = {
        name: ("float", shape) for name, shape in contract.input_shapes.items()
    }
    expected_output: Signature = {ACTION_OUTPUT: ("float", (1, ACTION_SIZE))}
    problems = []
    if not _fits(expected_inputs, inputs, 1):
        problems.append(f"inputs: expected {_describe(expected_inputs)}; found {_describe(inputs)}")
    # Exporters name what they do not know of an output, though the network fixes it.
    if not _fits(expected_output, dict(list(outputs.items())[:1]), 2):
        problems.append(
            f"first output: expected {_describe(expected_output)}; found {_describe(outputs)}"
        )
    if not normal_form.opset_of(model):
        problems.append("opset: expected one of the default domain, found none")
    if problems:
        problems.append(EXPORT_HINT)
    raise_all(ModelError, f"{path}: not an actor of this contract:", problems)


def exploration_scale(path: Path, model: Any) -> float | None:
    """Return the noise that an actor asks for, 0..1 of an action, or None where it names none.

    Raises:
        ModelError: it says something else.
    """
    found = [entry.value for entry in model.metadata_props if entry.key == EXPLORATION_SCALE]
    if not found:
        return None
    scale = float(found[0]) if len(found) == 1 and _NUMBER.fullmatch(found[0]) else -1.0
    if not 0.0 <= scale <= 1.0:
        raise ModelError(
            f"{path}: {EXPLORATION_SCALE} in metadata_props: expected a number from 0 to 1 such as "
            f"0.3, found {', '.join(map(repr, found)):.80}; write it as docs/export.md says, or "
            "leave it out"
        )
    return scale
