"""The actor as an ONNX file: what it must be, and how onnxruntime opens and runs it.

Shared by the converter and the CPU backend, so that both see the same bits.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract import ACTION_OUTPUT, ACTION_SIZE, PROPRIO_INPUT, Contract
from .errors import ModelError, raise_all
from .model_file import read_model_bytes

Shape = tuple["int | str", ...]
Signature = dict[str, tuple[str, Shape]]


@dataclasses.dataclass(frozen=True)
class OnnxFacts:
    """One accepted actor.

    `data` holds the bytes that were inspected: use them, the file may be replaced meanwhile.
    `inputs` and `output` are shapes, all float32; `opset` is that of the default domain.
    """

    sha256: str
    inputs: dict[str, Shape]
    output: Shape
    opset: int
    data: bytes = dataclasses.field(repr=False)


def _node_tensors(nodes: Any) -> Iterator[Any]:
    """Yield every tensor stored in the attributes of nodes, subgraphs included."""
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                yield from _graph_tensors(graph)


def _graph_tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _signature(values: Any, type_name: Callable[[int], str]) -> Signature:
    """Return {name: (type, shape)} of graph inputs or outputs; free dimensions by their name."""
    return {
        value.name: (
            type_name(value.type.tensor_type.elem_type).lower(),
            tuple(
                dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or "?")
                for dim in value.type.tensor_type.shape.dim
            ),
        )
        for value in values
    }


def _describe(values: Signature) -> str:
    return ", ".join(f"{name} {dtype} {list(shape)}" for name, (dtype, shape) in values.items())


def inspect(
    path: Path, contract: Contract, read: Callable[[Path], bytes] = read_model_bytes
) -> OnnxFacts:
    """Read an ONNX file and refuse everything that is not an actor of this contract.

    An actor has exactly the inputs `bev` (1, 2, N, N) and `proprio` (1, 6), found by name, and a
    first output `action` (1, 2), all float32 with fixed shapes, and all its weights inside.

    Args:
        path: the file.
        contract: names and shapes of the inputs.
        read: reads the file; the default follows links wherever they lead.

    Raises:
        ModelError: unreadable or damaged, or not such an actor; lists expected and found.
    """
    data = read(path)
    try:
        import onnx
    except ImportError as error:
        raise ModelError("onnx is not installed: pip install onnx onnxruntime") from error
    try:
        model = onnx.load_model_from_string(data)
        if not model.graph.node:
            raise ValueError("it holds no graph")
        stored = [*_graph_tensors(model.graph)]
        for function in model.functions:
            stored += _node_tensors(function.node)
        external = [t.name for t in stored if t.data_location == onnx.TensorProto.EXTERNAL]
        if not external:
            onnx.checker.check_model(model)
        # Files of IR version 3 list the weights among the inputs.
        weights = {tensor.name for tensor in model.graph.initializer}
        type_name = onnx.TensorProto.DataType.Name
        inputs = _signature((v for v in model.graph.input if v.name not in weights), type_name)
        outputs = _signature(model.graph.output, type_name)
    except Exception as error:  # protobuf, checker and shape inference raise kinds of their own
        raise ModelError(f"{path}: not a valid ONNX file ({error})") from error
    if external:
        raise ModelError(
            f"{path}: expected all weights inside the file, found {len(external)} tensors stored "
            f"outside ({', '.join(external[:4])}); export again without external data"
        )
    expected_inputs: Signature = {
        name: ("float", shape) for name, shape in contract.input_shapes.items()
    }
    expected_output: Signature = {ACTION_OUTPUT: ("float", (1, ACTION_SIZE))}
    problems = []
    if inputs != expected_inputs:
        problems.append(f"inputs: expected {_describe(expected_inputs)}; found {_describe(inputs)}")
    if dict(list(outputs.items())[:1]) != expected_output:
        problems.append(
            f"first output: expected {_describe(expected_output)}; found {_describe(outputs)}"
        )
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if not opset:
        problems.append("opset: expected one of the default domain, found none")
    raise_all(ModelError, f"{path}: not an actor of this contract:", problems)
    return OnnxFacts(
        sha256=hashlib.sha256(data).hexdigest(),
        inputs={name: shape for name, (_, shape) in inputs.items()},
        output=outputs[ACTION_OUTPUT][1],
        opset=opset,
        data=data,
    )


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


def open_session(data: bytes, name: str = "the ONNX") -> Any:
    """Open an ONNX in onnxruntime, on one thread so that the same input gives the same bits.

    The network is small: a second thread saves 0.2 ms and takes a core from the sensors.

    Args:
        data: the file's content.
        name: what errors call it.

    Raises:
        ModelError: onnxruntime is missing or refuses the graph.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError("onnxruntime is not installed: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises kinds of its own, without a common base
        raise ModelError(f"{name}: onnxruntime cannot open it ({error})") from error


def run_session(
    session: Any, outputs: Sequence[str], inputs: Mapping[str, NDArray]
) -> list[NDArray]:
    """Return the named outputs of an open session for one frame.

    Raises:
        ModelError: onnxruntime fails while it runs.
    """
    try:
        return session.run(list(outputs), dict(inputs))
    except Exception as error:  # as above
        raise ModelError(f"onnxruntime cannot run the ONNX ({error})") from error
