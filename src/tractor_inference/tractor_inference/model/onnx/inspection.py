"""What an actor in an ONNX file must be, looked at and brought to its normal form.

`examine` opens what strangers made: it may take any time and memory and die. Call it in a child, as
`onnx.model.inspect` does. What it accepts has fixed shapes and no control flow, so that what one
frame takes, every frame takes; and it has answered frames here.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from tractor_core.contract import (
    ACTION_OUTPUT,
    ACTION_SIZE,
    Contract,
)
from tractor_core.errors import ModelError, raise_all

from ..file import ModelFolder, real_path, require_digest
from . import external, normal_form
from .proof import prove
from .refusals import refused
from .signature import EXPORT_HINT, exploration_scale, named, require_signature

# All tensors of an actor together, weights included; the reference actor's take 6.
MAX_TENSOR_MB = 256
# Newer versions of the file format only add what an actor does not need.
NEWEST_IR_VERSION = 10


@dataclasses.dataclass(frozen=True)
class OnnxFacts:
    """One accepted actor.

    `data` is the actor in its normal form; the file's own bytes where they were in it already. Use
    it, the file may be replaced meanwhile. `sha256` identifies the actor as it was given, see
    `external.digest`, and `size` is the bytes that it took, weights beside it included.
    `inputs` and `output` are shapes, all float32; `opset` is that of the default domain.
    `changes` say in words what was done to reach the normal form. `exploration_scale` is the noise
    that it asks for, 0..1, or None.
    """

    sha256: str
    size: int
    inputs: dict[str, tuple[int, ...]]
    output: tuple[int, ...]
    opset: int
    changes: tuple[str, ...]
    exploration_scale: float | None
    data: bytes = dataclasses.field(repr=False)


def examine(path: Path, contract: Contract, beneath: bool, sha256: str | None) -> OnnxFacts:
    """Read an ONNX file and bring it to its normal form; refuse what is no actor of this contract.

    For the arguments and errors see `onnx.model.inspect`.
    """
    try:
        import onnx
    except ImportError as error:
        raise ModelError("onnx is not installed: pip install onnx onnxruntime") from error
    with ModelFolder(path if beneath else real_path(path)) as folder:
        data = folder.read(folder.model)
        try:
            model = named(path, lambda: onnx.load_model_from_string(data))
        except ModelError:
            if sha256 is not None:  # that it was changed says more than that it is damaged
                require_digest(path, external.digest(data, {}), sha256)
            raise
        if not model.graph.node:
            raise ModelError(f"{path}: not a valid ONNX file (it holds no graph)")
        files = _merge(path, model, folder)
    identity = external.digest(data, files)
    if sha256 is not None:
        require_digest(path, identity, sha256)
    changes = []
    if files:
        changes.append(f"weights of {', '.join(sorted(files)[:4])} put inside")
    if model.ir_version > NEWEST_IR_VERSION:
        changes.append(f"IR version {model.ir_version} lowered to {NEWEST_IR_VERSION}")
        model.ir_version = NEWEST_IR_VERSION
    named(path, lambda: onnx.checker.check_model(model))
    require_signature(path, model, contract)
    scale = exploration_scale(path, model)
    given = model.SerializeToString() if changes else data
    try:
        normal, more = _normalise(model, contract)
        changes += more
        content = normal.SerializeToString() if changes else data
        prove(content, given, contract, bool(more))
    except ModelError as error:
        raise ModelError(f"{path}: cannot be taken: {error}\n  - {EXPORT_HINT}") from error
    return OnnxFacts(
        sha256=identity,
        size=len(data) + sum(map(len, files.values())),
        inputs=contract.input_shapes,
        output=(1, ACTION_SIZE),
        opset=normal_form.opset_of(normal),
        changes=tuple(changes),
        exploration_scale=scale,
        data=content,
    )


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
        return external.merge(model, read)
    except ModelError as error:
        raise ModelError(f"{path}: cannot be taken: {error}\n  - {EXPORT_HINT}") from error


def _normalise(model: Any, contract: Contract) -> tuple[Any, list[str]]:
    """Return the normal form of a model with the right inputs and output, and what was done.

    Raises:
        ModelError: it has none; says why.
    """
    changes = []
    inlined = normal_form.inline_functions(model)
    if inlined is not model:
        model = inlined
        changes.append("its functions expanded")
    if dropped := normal_form.keep_action(model):
        changes.append(f"left out: {', '.join(dropped[:4])}")
    problems = refused(model)
    raise_all(ModelError, "it cannot be bounded or converted:", problems)
    if normal_form.fix_batch(model, contract):
        changes.append("its free batch axis set to 1")
    types, unknown = _require_bounded(model)
    opset = normal_form.opset_of(model)
    lower = opset > normal_form.MAX_OPSET
    if lower:
        model = normal_form.expand_later_ops(model, types)
        types, unknown = _require_bounded(model)
    if unknown:
        changes.append("its shapes computed")
    while unknown and normal_form.fold_constants(model, types):
        types, unknown = _require_bounded(model)
    if unknown:
        raise ModelError(
            f"expected tensors of fixed shapes, found {len(unknown)} whose shape depends on the "
            f"inputs or is not known ({', '.join(f'{name:.80}' for name in unknown[:4])})"
        )
    found = normal_form.known_shape(types[ACTION_OUTPUT])
    if found != (1, ACTION_SIZE):
        raise ModelError(f"expected an action of (1, {ACTION_SIZE}), found {found}")
    if lower:
        normal_form.lower_opset(model)
        changes.append(f"opset {opset} lowered to {normal_form.MAX_OPSET}")
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
        shape = normal_form.known_shape(types.get(name))
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
