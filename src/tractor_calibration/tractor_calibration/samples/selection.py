"""Which frames of a pool calibrate: those that cover the network's activations.

INT8 error of such a network is range clipping: what matters is that the calibration frames reach
the extremes of every activation. So frames are chosen greedily by how far they extend the running
minimum and maximum of the network's own FP32 activations; about twenty frames then agree with the
ONNX as well as all of them do, with less memory and time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import ACTION_OUTPUT, Contract
from tractor_core.errors import ModelError
from tractor_core.samples import Sample
from tractor_inference.model import rknn_toolkit
from tractor_inference.model.onnx import session as onnx_session

from .reference import onnx_inputs

# How onnxruntime names the types of tensors that INT8 replaces.
_FLOATS = ("tensor(float16)", "tensor(float)", "tensor(double)")


@dataclasses.dataclass(frozen=True)
class _SplitSum:
    """A fully connected layer that the toolkit computes in parts; weights (inputs, outputs)."""

    source: str
    transposed: bool
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    parts: list[slice]

    def tensors(self, values: NDArray[np.floating]) -> Iterator[NDArray[np.float32]]:
        """Yield each part of the layer's input and its sum; the bias goes with the first."""
        bias, values = self.bias, values.astype(np.float32)
        if self.transposed:
            values = values.T
        for part in self.parts:
            yield values[..., part]
            yield values[..., part] @ self.weights[part] + bias
            bias = np.zeros_like(bias)


def _split_sums(graph: Any, target: str) -> list[_SplitSum]:
    """Return the fully connected layers of an ONNX that the toolkit splits for a target."""
    from onnx import helper, numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    sums = []
    for node in graph.node:
        if node.op_type not in ("Gemm", "MatMul") or node.input[1] not in constants:
            continue
        weights = numpy_helper.to_array(constants[node.input[1]]).astype(np.float32)
        settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if settings.get("transB"):
            weights = weights.T
        weights = weights * np.float32(settings.get("alpha", 1.0))
        bias = np.zeros(weights.shape[-1], weights.dtype)
        if len(node.input) > 2 and node.input[2] in constants:
            bias = numpy_helper.to_array(constants[node.input[2]]).astype(np.float32)
            bias = bias * np.float32(settings.get("beta", 1.0))
        parts = rknn_toolkit.parts_of_sum(weights.shape[0], target)
        if weights.ndim == 2 and len(parts) > 1:
            transposed = bool(settings.get("transA"))
            sums.append(_SplitSum(node.input[0], transposed, weights, bias, parts))
    return sums


class Activations(NamedTuple):
    """What the network computes on frames.

    `lows` and `highs` are (n, tensors), finite; 0 for a tensor without elements. `actions` are
    (n, 2) float32.
    """

    lows: NDArray[np.float64]
    highs: NDArray[np.float64]
    actions: NDArray[np.float32]


def activations(
    onnx_data: bytes, contract: Contract, frames: Iterable[Sample], target: str
) -> Activations:
    """Run the ONNX with every float tensor as an extra output; return its extremes and actions.

    The parts of sums that the toolkit splits for the target are tensors as well. Frames are taken
    one at a time, so memory does not grow with their number.

    Raises:
        ModelError: onnxruntime cannot run the ONNX, or a tensor inside it holds NaN or Inf.
    """
    import onnx

    model = onnx.load_model_from_string(onnx_data)
    split_sums = _split_sums(model.graph, target)
    present = {output.name for output in model.graph.output}
    inner = [name for node in model.graph.node for name in node.output if name]
    model.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in inner if name not in present
    )
    session = onnx_session.open_session(model.SerializeToString())
    outputs = [output.name for output in session.get_outputs() if output.type in _FLOATS]
    lows, highs, actions = [], [], []
    for frame in frames:
        inputs = onnx_inputs(contract, frame)
        values = inputs | dict(zip(outputs, onnx_session.run_session(session, outputs, inputs)))
        actions.append(values[ACTION_OUTPUT][0])
        tensors = list(values.values())
        for layer in split_sums:
            if layer.source in values:  # a sum of integers or constants is not quantised
                tensors += layer.tensors(values[layer.source])
        lows.append([float(tensor.min()) if tensor.size else 0.0 for tensor in tensors])
        highs.append([float(tensor.max()) if tensor.size else 0.0 for tensor in tensors])
    ranges = np.array(lows), np.array(highs)
    finite = np.isfinite(ranges).all(axis=(0, 1))
    if not finite.all():
        bad = [name for name, good in zip(values, finite) if not good]
        raise ModelError(
            f"the ONNX computes NaN or Inf inside, in {len(bad)} of {len(values)} tensors "
            f"({', '.join(bad[:4])}), which INT8 cannot hold; export the actor again"
        )
    return Activations(*ranges, np.array(actions, np.float32))


def by_coverage(lows: NDArray[np.float64], highs: NDArray[np.float64], count: int) -> list[int]:
    """Choose up to `count` frames, each the one that extends the covered ranges most.

    A tensor's extension counts relative to its range over all frames. The choice ends when no frame
    extends any range: the toolkit's `normal` algorithm goes by extremes, so that more frames would
    give the same model. Ties go to the earlier frame, so the choice is deterministic.

    Args:
        lows, highs: (n, tensors) finite extremes per frame, n at least 1.
        count: frames wanted at most, at least 1.

    Returns:
        Indices in the order of choice.
    """
    span = highs.max(axis=0) - lows.min(axis=0)
    scale = np.where(span > 0.0, span, 1.0)
    best = int(np.argmax(((highs - lows) / scale).sum(axis=1)))
    low, high = lows[best], highs[best]
    chosen = [best]
    while len(chosen) < count:
        gain = np.maximum(low - lows, 0.0) + np.maximum(highs - high, 0.0)
        score = (gain / scale).sum(axis=1)
        best = int(np.argmax(score))
        if score[best] <= 0.0:
            break
        chosen.append(best)
        low, high = np.minimum(low, lows[best]), np.maximum(high, highs[best])
    return chosen
