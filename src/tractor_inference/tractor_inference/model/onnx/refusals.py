"""What a graph must not contain: control flow, random numbers, operators of strangers."""

from __future__ import annotations

import math
from typing import Any

# Functions are expanded up to so many nodes; an actor has a few dozen.
MAX_NODES = 20_000
# What may loop or branch, by the domain that is the default one.
CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
DEFAULT_DOMAINS = ("", "ai.onnx")
_RANDOM = (
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
)  # fmt: skip


def refused(model: Any) -> list[str]:
    """Return why a model can neither be bounded nor converted, by its nodes alone."""
    loops, strangers, dice = [], [], []
    true = _said_true(model)
    for node in model.graph.node:
        graphs = any(a.HasField("g") or a.graphs for a in node.attribute)
        if node.domain not in DEFAULT_DOMAINS:
            strangers.append(f"{node.domain}.{node.op_type}")
        elif graphs or node.op_type in CONTROL_FLOW:
            loops.append(f"{node.op_type} {node.name or next(iter(node.output), '')}".strip())
        elif node.op_type in _RANDOM:
            dice.append(node.op_type)
        elif node.op_type == "Dropout" and (node.input[2:] or [""])[0] in true:
            dice.append("Dropout in training")
    problems = []
    if loops:
        problems.append(
            f"control flow: expected none, found {len(loops)} ({_some(loops)}); an actor answers "
            "every frame the same way: export it in evaluation mode, without loops and branches"
        )
    if dice:
        problems.append(
            f"random numbers: expected none, found {len(dice)} ops ({_some(dice)}); an actor "
            "answers every frame the same way: export tanh of the mean, not a sample"
        )
    if strangers:
        problems.append(
            "ops: expected those of the default domain, found "
            f"{len(strangers)} others ({_some(strangers)})"
        )
    if model.graph.sparse_initializer:
        problems.append("weights: expected dense ones, found sparse initializers")
    if len(model.graph.node) > MAX_NODES:
        problems.append(f"nodes: expected at most {MAX_NODES}, found {len(model.graph.node)}")
    return problems


def _said_true(model: Any) -> set[str]:
    """Return the names of the constants that are a single True."""
    from onnx import TensorProto, numpy_helper

    tensors = [(t.name, t) for t in model.graph.initializer]
    tensors += [
        (node.output[0], attribute.t)
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    return {
        name
        for name, tensor in tensors
        if tensor.data_type == TensorProto.BOOL
        and math.prod(tensor.dims) == 1
        and numpy_helper.to_array(tensor).all()
    }


def _some(names: list[str]) -> str:
    distinct = list(dict.fromkeys(names))
    return ", ".join(f"{name:.80}" for name in distinct[:4]) + ", ..." * (len(distinct) > 4)
