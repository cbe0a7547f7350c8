"""Bring what today's exporters write to the one form that the toolkit and the backends take.

That form has all weights inside, fixed shapes, one output, ops of the default domain alone and an
opset that rknn-toolkit2 2.5.0 takes. Each step is a rewrite that keeps the meaning; the caller
proves the result against the original.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tractor_core.contract import ACTION_OUTPUT, ACTION_SIZE, Contract
from tractor_core.errors import ModelError

from .refusals import DEFAULT_DOMAINS, MAX_NODES
from .session import open_session, run_session

# rknn-toolkit2 2.5.0 refuses a higher one, after it has started.
MAX_OPSET = 19
# The version of the file format that came with it, and the first whose inputs list no weights.
IR_VERSION_OF_MAX_OPSET = 9
INITIALIZERS_ARE_NO_INPUTS = 4
# Elements of a tensor that is computed once and for all; shapes take a few.
MAX_FOLDED = 4096
# Domain of the definitions that stand in for ops of a later opset until they are expanded.
_LATER = "later"


def opset_of(model: Any) -> int:
    """Return the opset of the default domain, 0 where there is none."""
    return next((o.version for o in model.opset_import if o.domain in DEFAULT_DOMAINS), 0)


def inline_functions(model: Any) -> Any:
    """Return a model with its local functions expanded.

    Raises:
        ModelError: they expand to too much, call themselves, or cannot be expanded.
    """
    from onnx import inliner

    if not model.functions:
        return model
    functions = {(f.domain, f.name): f for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Any, within: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in _nested(nodes):
            key = (node.domain, node.op_type)
            if key in within:
                raise ModelError(f"function {node.op_type!r:.80} calls itself")
            if key in functions and key not in sizes:
                sizes[key] = size(functions[key].node, (*within, key))
            total += sizes.get(key, 1)
            if total > MAX_NODES:
                raise ModelError(f"expected at most {MAX_NODES} nodes, found functions of more")
        return total

    size(model.graph.node, ())
    try:
        inlined = inliner.inline_local_functions(model)
    except Exception as error:  # the inliner raises kinds of its own
        raise ModelError(f"functions that cannot be expanded ({error!s:.500})") from error
    if inlined.functions:
        names = ", ".join(sorted(f.name for f in inlined.functions)[:4])
        raise ModelError(f"functions that cannot be expanded: {names:.200}")
    return inlined


def _nested(nodes: Any) -> Iterator[Any]:
    """Yield nodes and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nested(graph.node)


def keep_action(model: Any) -> list[str]:
    """Drop all that the action does not need: other outputs, and nodes and weights for them.

    Returns:
        The names of the outputs that were dropped; of nodes where no output was.
    """
    graph = model.graph
    needed, kept = {ACTION_OUTPUT}, []
    for node in reversed(graph.node):  # they are in an order in which they can run
        if needed.isdisjoint(node.output):
            continue
        kept.append(node)
        for inner in _nested([node]):
            needed.update(inner.input)
    dropped = [output.name for output in graph.output if output.name != ACTION_OUTPUT]
    if not dropped and len(kept) == len(graph.node):
        return []
    idle = {t.name for t in graph.initializer} - needed
    dropped = dropped or [n.name or n.op_type for n in graph.node if n not in kept]
    _replace(graph.output, [output for output in graph.output if output.name == ACTION_OUTPUT])
    _replace(graph.node, kept[::-1])
    # Files of IR version 3 list the weights among the inputs.
    _replace(graph.input, [v for v in graph.input if v.name not in idle])
    _replace(graph.initializer, [t for t in graph.initializer if t.name not in idle])
    _replace(graph.value_info, [v for v in graph.value_info if v.name in needed])
    return dropped


def _replace(field: Any, values: list[Any]) -> None:
    copies = [type(value).FromString(value.SerializeToString()) for value in values]
    del field[:]
    field.extend(copies)


def fix_batch(model: Any, contract: Contract) -> bool:
    """Set the batch axis of inputs and output to 1 where it is free; say whether one was."""
    wanted = {**contract.input_shapes, ACTION_OUTPUT: (1, ACTION_SIZE)}
    free = False
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        for dim, size in zip(dims, wanted.get(value.name, ())):
            if is_free(dim):
                dim.dim_value = size
                free = True
    if free:
        # What was noted of tensors in between names the free axis; it is inferred anew.
        del model.graph.value_info[:]
    return free


def is_free(dim: Any) -> bool:
    """Return whether an axis has no size; some exporters write that as -1."""
    return not dim.HasField("dim_value") or dim.dim_value < 0


def known_shape(value: Any) -> tuple[int, ...] | None:
    """Return the shape of an onnx.TypeProto, None where it is not known whole."""
    if value is None or not value.tensor_type.HasField("shape"):
        return None
    dims = value.tensor_type.shape.dim
    shape = tuple(-1 if is_free(dim) else dim.dim_value for dim in dims)
    return None if min(shape, default=0) < 0 else shape


def fold_constants(model: Any, types: Mapping[str, Any]) -> bool:
    """Compute what depends on shapes and constants alone; say whether there was such.

    Exporters compute shapes in the graph, in ways that inference of shapes cannot follow.

    Args:
        model: changed.
        types: {name: onnx.TypeProto} of its tensors, as far as they are known.

    Raises:
        ModelError: onnxruntime cannot compute it.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    shapes = {name: known_shape(value) for name, value in types.items()}
    weights = [*graph.initializer]
    constant = {tensor.name for tensor in weights}
    values: dict[str, Any] = {}
    computed, left = [], []
    for node in graph.node:
        shape = shapes.get(node.input[0]) if node.input else None
        sizes = [shapes.get(name) for name in node.output if name]
        small = all(size is not None and math.prod(size) <= MAX_FOLDED for size in sizes)
        if node.op_type in ("Shape", "Size") and shape is not None:
            ends = {attribute.name: attribute.i for attribute in node.attribute}
            part = np.array(shape[ends.get("start", 0) : ends.get("end")], np.int64)
            values[node.output[0]] = part if node.op_type == "Shape" else np.prod(part)
        elif (
            small
            and node.op_type != "Dropout"  # random in training, which its inputs say
            and constant.issuperset(filter(None, node.input))
        ):
            computed.append(node)
        else:
            left.append(node)
            continue
        constant.update(filter(None, node.output))
    tensors = [numpy_helper.from_array(value, name) for name, value in values.items()]
    if computed:
        outputs = [name for node in computed for name in node.output if name]
        used = {name for node in computed for name in node.input}
        part = helper.make_model(
            helper.make_graph(
                computed,
                "constants",
                [],
                [helper.make_value_info(name, types[name]) for name in outputs],
                [tensor for tensor in (*weights, *tensors) if tensor.name in used],
            ),
            opset_imports=model.opset_import,
            ir_version=max(model.ir_version, INITIALIZERS_ARE_NO_INPUTS),
        )
        session = open_session(part.SerializeToString(), "its constants", optimise=False)
        answers = run_session(session, outputs, {})
        tensors += [numpy_helper.from_array(array, name) for array, name in zip(answers, outputs)]
    if not tensors:
        return False
    _replace(graph.node, left)
    graph.initializer.extend(tensors)
    if model.ir_version < INITIALIZERS_ARE_NO_INPUTS:
        model.ir_version = INITIALIZERS_ARE_NO_INPUTS
        _replace(graph.input, [v for v in graph.input if v.name not in constant])
    keep_action(model)
    return True


def expand_later_ops(model: Any, types: Mapping[str, Any]) -> Any:
    """Return a model without ops that the toolkit's opset lacks.

    Each is replaced by its definition in older ones, where ONNX has one.

    Args:
        model: of any opset; changed.
        types: {name: onnx.TypeProto} of its tensors.

    Raises:
        ModelError: an op has no such definition; names it.
    """
    import onnx

    opset = opset_of(model)
    for number, node in enumerate(model.graph.node):
        schema: Any = onnx.defs.get_schema(node.op_type, opset)
        # GroupNormalization got another meaning; the others that changed only take more types.
        other = node.op_type == "GroupNormalization" and schema.since_version > MAX_OPSET
        if onnx.defs.has(node.op_type, MAX_OPSET) and not other:
            continue
        definition = onnx.FunctionProto()
        if schema.has_function:
            definition.ParseFromString(schema.function_body.SerializeToString())
        elif schema.has_context_dependent_function:
            given = [types.get(n, onnx.TypeProto()).SerializeToString() for n in node.input]
            definition.ParseFromString(
                schema.get_context_dependent_function(node.SerializeToString(), given)
            )
        else:
            raise ModelError(f"{node.op_type} came after opset {MAX_OPSET}")
        definition.domain, definition.name = _LATER, f"{node.op_type}_{number}"
        _replace(definition.opset_import, [*model.opset_import])
        node.domain, node.op_type = definition.domain, definition.name
        model.functions.append(definition)
    if not model.functions:
        return model
    model.opset_import.append(onnx.helper.make_opsetid(_LATER, 1))
    model = inline_functions(model)
    _replace(model.opset_import, [o for o in model.opset_import if o.domain != _LATER])
    return model


def lower_opset(model: Any) -> None:
    """Declare the toolkit's opset for a model all of whose ops are in it.

    Between the two the ops that stayed only take more types, see `expand_later_ops`; what is
    otherwise does not pass the checker, or answers otherwise.
    """
    for opset in model.opset_import:
        if opset.domain in DEFAULT_DOMAINS:
            opset.version = MAX_OPSET
    model.ir_version = min(model.ir_version, IR_VERSION_OF_MAX_OPSET)
