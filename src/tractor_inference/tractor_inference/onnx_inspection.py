"""What an actor in an ONNX file must be, looked at and brought to its normal form.

`examine` opens what strangers made: it may take any time and memory and die. Call it in a child, as
`onnx_model.inspect` does. What it accepts has fixed shapes and no control flow, so that what one
frame takes, every frame takes; and it has answered frames here.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import (
    ACTION_OUTPUT,
    ACTION_SIZE,
    ACTION_TOLERANCE,
    BEV_INPUT,
    PROPRIO_INPUT,
    Contract,
)
from tractor_core.errors import ModelError, raise_all

from . import onnx_external, onnx_normal_form, onnx_session
from .model_file import ModelFolder, real_path, require_digest

Shape = tuple["int | str", ...]
Signature = dict[str, tuple[str, Shape]]

# All tensors of an actor together, weights included; the reference actor's take 6.
MAX_TENSOR_MB = 256
# The watchdog ends a node whose model does not answer; nothing near this is an actor.
MAX_FRAME_S = 1.0
# How far the normal form's actions may be from those of the file as it was given.
SAME_ACTION = 1e-6
FRAMES = 8
# Newer versions of the file format only add what an actor does not need.
NEWEST_IR_VERSION = 10
EXPORT_HINT = (
    'this export works: torch.onnx.export(actor.eval(), (bev, proprio), "actor.onnx", '
    'input_names=["bev", "proprio"], output_names=["action"], opset_version=17, dynamo=False); '
    "see docs/export.md"
)


@dataclasses.dataclass(frozen=True)
class OnnxFacts:
    """One accepted actor.

    `data` is the actor in its normal form; the file's own bytes where they were in it already. Use
    it, the file may be replaced meanwhile. `sha256` identifies the actor as it was given, see
    `onnx_external.digest`, and `size` is the bytes that it took, weights beside it included.
    `inputs` and `output` are shapes, all float32; `opset` is that of the default domain.
    `changes` say in words what was done to reach the normal form.
    """

    sha256: str
    size: int
    inputs: dict[str, tuple[int, ...]]
    output: tuple[int, ...]
    opset: int
    changes: tuple[str, ...]
    data: bytes = dataclasses.field(repr=False)


def examine(path: Path, contract: Contract, beneath: bool, sha256: str | None) -> OnnxFacts:
    """Read an ONNX file and bring it to its normal form; refuse what is no actor of this contract.

    For the arguments and errors see `onnx_model.inspect`.
    """
    try:
        import onnx
    except ImportError as error:
        raise ModelError("onnx is not installed: pip install onnx onnxruntime") from error
    with ModelFolder(path if beneath else real_path(path)) as folder:
        data = folder.read(folder.model)
        try:
            model = _named(path, lambda: onnx.load_model_from_string(data))
        except ModelError:
            if sha256 is not None:  # that it was changed says more than that it is damaged
                require_digest(path, onnx_external.digest(data, {}), sha256)
            raise
        if not model.graph.node:
            raise ModelError(f"{path}: not a valid ONNX file (it holds no graph)")
        files = _merge(path, model, folder)
    identity = onnx_external.digest(data, files)
    if sha256 is not None:
        require_digest(path, identity, sha256)
    changes = []
    if files:
        changes.append(f"weights of {', '.join(sorted(files)[:4])} put inside")
    if model.ir_version > NEWEST_IR_VERSION:
        changes.append(f"IR version {model.ir_version} lowered to {NEWEST_IR_VERSION}")
        model.ir_version = NEWEST_IR_VERSION
    _named(path, lambda: onnx.checker.check_model(model))
    _require_signature(path, model, contract)
    given = model.SerializeToString() if changes else data
    try:
        normal, more = _normalise(model, contract)
        changes += more
        content = normal.SerializeToString() if changes else data
        _prove(content, given, contract, bool(more))
    except ModelError as error:
        raise ModelError(f"{path}: cannot be taken: {error}\n  - {EXPORT_HINT}") from error
    return OnnxFacts(
        sha256=identity,
        size=len(data) + sum(map(len, files.values())),
        inputs=contract.input_shapes,
        output=(1, ACTION_SIZE),
        opset=onnx_normal_form.opset_of(normal),
        changes=tuple(changes),
        data=content,
    )


def _named(path: Path, function: Callable[[], Any]) -> Any:
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


def _merge(path: Path, model: Any, folder: ModelFolder) -> dict[str, bytes]:
    def read(name: str) -> bytes:
        try:
            return folder.read(folder.model.parent / name)
        except ModelError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            raise ModelError(
                f"expected its weights in {name} beside it, where exporters write them, found no "
                "such file: copy both, or export with external_data=False"
            ) from error

    try:
        return onnx_external.merge(model, read)
    except ModelError as error:
        raise ModelError(f"{path}: cannot be taken: {error}\n  - {EXPORT_HINT}") from error


def _signature(values: Any) -> Signature:
    """Return {name: (type, shape)} of graph inputs or outputs; free dimensions by their name."""
    import onnx

    return {
        value.name: (
            onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower(),
            tuple(
                (dim.dim_param or "?") if onnx_normal_form.is_free(dim) else dim.dim_value
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


def _require_signature(path: Path, model: Any, contract: Contract) -> None:
    """Require the inputs and the first output of an actor; the batch axis may be free."""
    # Files of IR version 3 list the weights among the inputs.
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = _named(path, lambda: _signature(v for v in model.graph.input if v.name not in weights))
    outputs = _named(path, lambda: _signature(model.graph.output))
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
    if not onnx_normal_form.opset_of(model):
        problems.append("opset: expected one of the default domain, found none")
    if problems:
        problems.append(EXPORT_HINT)
    raise_all(ModelError, f"{path}: not an actor of this contract:", problems)


def _normalise(model: Any, contract: Contract) -> tuple[Any, list[str]]:
    """Return the normal form of a model with the right inputs and output, and what was done.

    Raises:
        ModelError: it has none; says why.
    """
    changes = []
    inlined = onnx_normal_form.inline_functions(model)
    if inlined is not model:
        model = inlined
        changes.append("its functions expanded")
    if dropped := onnx_normal_form.keep_action(model):
        changes.append(f"left out: {', '.join(dropped[:4])}")
    problems = onnx_normal_form.refused(model)
    raise_all(ModelError, "it cannot be bounded or converted:", problems)
    if onnx_normal_form.fix_batch(model, contract):
        changes.append("its free batch axis set to 1")
    types, unknown = _require_bounded(model)
    opset = onnx_normal_form.opset_of(model)
    lower = opset > onnx_normal_form.MAX_OPSET
    if lower:
        model = onnx_normal_form.expand_later_ops(model, types)
        types, unknown = _require_bounded(model)
    if unknown:
        changes.append("its shapes computed")
    while unknown and onnx_normal_form.fold_constants(model, types):
        types, unknown = _require_bounded(model)
    if unknown:
        raise ModelError(
            f"expected tensors of fixed shapes, found {len(unknown)} whose shape depends on the "
            f"inputs or is not known ({', '.join(f'{name:.80}' for name in unknown[:4])})"
        )
    found = onnx_normal_form.known_shape(types[ACTION_OUTPUT])
    if found != (1, ACTION_SIZE):
        raise ModelError(f"expected an action of (1, {ACTION_SIZE}), found {found}")
    if lower:
        onnx_normal_form.lower_opset(model)
        changes.append(f"opset {opset} lowered to {onnx_normal_form.MAX_OPSET}")
    return model, changes


def _require_bounded(model: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the type of every tensor, and the names of those whose shape is not known.

    Raises:
        ModelError: shapes contradict each other, or those that are known take too much memory.
    """
    import onnx
    from onnx import helper

    # What a file says of its shapes would be believed.
    unsaid = onnx.ModelProto()
    unsaid.CopyFrom(model)
    del unsaid.graph.value_info[:]
    for output in unsaid.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(
            unsaid, check_type=True, strict_mode=True, data_prop=True
        )
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise ModelError(f"its shapes do not fit ({error!s:.500})") from error
    graph = inferred.graph
    types = {v.name: v.type for v in (*graph.input, *graph.value_info, *graph.output)}
    sizes = {t.name: (tuple(t.dims), t.data_type) for t in graph.initializer}
    unknown = []
    for name in [v.name for v in graph.input] + [
        n for node in graph.node for n in node.output if n
    ]:
        shape = onnx_normal_form.known_shape(types.get(name))
        if shape is None:
            unknown.append(name)
        else:
            sizes[name] = (shape, types[name].tensor_type.elem_type)
    taken = {}
    for name, (dims, kind) in sizes.items():
        try:
            taken[name] = math.prod(dims) * helper.tensor_dtype_to_np_dtype(kind).itemsize
        except (KeyError, TypeError) as error:
            raise ModelError(f"{name:.80}: unknown type {kind}") from error
    if sum(taken.values()) > MAX_TENSOR_MB * 1e6:
        largest = max(taken, key=taken.__getitem__)
        raise ModelError(
            f"expected tensors of {MAX_TENSOR_MB} MB in all, found {sum(taken.values()) / 1e6:.3g} "
            f"MB; the largest is {largest:.80} {list(sizes[largest][0])}"
        )
    return types, unknown


def _frames(contract: Contract) -> list[dict[str, NDArray[np.float32]]]:
    """Return an empty frame, a full one, and others over all that the contract allows."""
    rng = np.random.default_rng(0)
    clip = contract.proprio_clip
    frames = []
    for number in range(FRAMES):
        share = [0.0, 1.0, 0.01, 0.05, 0.2][number % 5]
        bev = (rng.random((1, *contract.bev_shape)) < share).astype(np.float32)
        size = contract.input_shapes[PROPRIO_INPUT]
        proprio = rng.uniform(-clip, clip, size) if number else np.zeros(size)
        frames.append({BEV_INPUT: bev, PROPRIO_INPUT: proprio.astype(np.float32)})
    return frames


def _prove(content: bytes, given: bytes, contract: Contract, changed: bool) -> None:
    """Run the normal form, and where it was changed the original too, and compare their actions.

    Raises:
        ModelError: one does not run or takes too long, answers with what is no number or the same
            frame in two ways, or they differ.
    """
    frames = _frames(contract)
    session = onnx_session.open_session(content, "its normal form" if changed else "the file")
    took_s: list[float] = []
    answers: list[NDArray] = []
    for frame in frames * 2:
        started_s = time.perf_counter()
        answer = onnx_session.run_session(session, [ACTION_OUTPUT], frame)[0]
        took_s.append(time.perf_counter() - started_s)
        if answer.shape != (1, ACTION_SIZE):
            raise ModelError(f"expected an action of (1, {ACTION_SIZE}), found {answer.shape}")
        if not np.isfinite(answer).all():
            raise ModelError(f"expected finite actions, found {answer.tolist()}")
        if np.abs(answer).max() > 1.0 + ACTION_TOLERANCE:
            raise ModelError(
                f"expected actions in -1..1, found {answer.tolist()}; end the actor with tanh, or "
                "clip its answer"
            )
        if len(took_s) > 1 and min(took_s) > MAX_FRAME_S:
            raise ModelError(
                f"expected an answer within {MAX_FRAME_S:g} s, found one after {took_s[-1]:.1f} s"
            )
        answers.append(answer)
    for first, again in zip(answers, answers[FRAMES:]):
        if not np.array_equal(first, again):
            raise ModelError(
                f"expected the same action for the same frame, found {first.tolist()} and "
                f"{again.tolist()}; export in evaluation mode, without random numbers"
            )
    if not changed:
        return
    # Without optimisations, which may round otherwise where the same network is written otherwise.
    before, after = (
        onnx_session.open_session(data, name, optimise=False)
        for data, name in ((given, "the file"), (content, "its normal form"))
    )
    for frame in frames:
        expected, found = (
            onnx_session.run_session(s, [ACTION_OUTPUT], frame)[0] for s in (before, after)
        )
        if not np.allclose(found, expected, rtol=0.0, atol=SAME_ACTION, equal_nan=True):
            raise ModelError(
                f"expected the same actions from its normal form, within {SAME_ACTION:g}, found "
                f"{found.tolist()} for {expected.tolist()}"
            )
