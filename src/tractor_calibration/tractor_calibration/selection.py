"""Which frames calibrate and which validate.

INT8 error of such a network is range clipping: what matters is that the calibration frames reach
the extremes of every activation. So frames are chosen greedily by how far they extend the running
minimum and maximum of the network's own FP32 activations; about twenty frames then agree with the
ONNX as well as all of them do, with less memory and time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tractor_inference import onnx_model
from tractor_inference.contract import Contract
from tractor_inference.errors import ModelError
from tractor_inference.samples import Sample

from .validation import onnx_inputs

# Held-out frames come in runs spread over the recording, each a stretch of time. A run costs the
# pool its neighbours, so there are few, and none is short.
HELD_OUT_RUNS = 4
LEAST_RUN_FRAMES = 8


def hold_out(
    stamps_ns: Sequence[int | None], count: int, separation_s: float
) -> tuple[list[int], list[int]]:
    """Split frames in the order of time into a calibration pool and held-out runs.

    The recording is cut into equal parts; the end of each part is held out, and the frames next to
    a held-out run are left out of the pool while they are within `separation_s` of it.

    Args:
        stamps_ns: one stamp a frame, in the order of recording; None or 0 where it is unknown,
            there only the order separates.
        count: held-out frames wanted, at most the number of frames.
        separation_s: least time between a pool frame and a held-out neighbour.

    Returns:
        Indices of the pool and of the held-out frames, both ascending.
    """
    total = len(stamps_ns)
    if count == 0:
        return list(range(total)), []
    runs = max(1, min(HELD_OUT_RUNS, count // LEAST_RUN_FRAMES))
    ends = [total * (run + 1) // runs for run in range(runs)]
    lengths = [count * (run + 1) // runs - count * run // runs for run in range(runs)]
    held_out = [i for end, length in zip(ends, lengths) for i in range(end - length, end)]

    def near(a: int, b: int) -> bool:
        first, second = stamps_ns[a], stamps_ns[b]
        if not first or not second:
            return False
        return abs(first - second) < separation_s * 1e9

    excluded = set(held_out)
    for end, length in zip(ends, lengths):
        for edge, step in ((end - length, -1), (end - 1, 1)):
            neighbour = edge + step
            while 0 <= neighbour < total and near(edge, neighbour):
                excluded.add(neighbour)
                neighbour += step
    return [i for i in range(total) if i not in excluded], held_out


def activation_ranges(
    onnx_data: bytes, contract: Contract, frames: Iterable[Sample]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Run the ONNX with every float tensor as an extra output and return its extremes per frame.

    Frames are taken one at a time, so memory does not grow with their number.

    Returns:
        (n, tensors) finite minima and maxima; 0 for a tensor without elements.

    Raises:
        ModelError: onnxruntime cannot run the ONNX, or a tensor inside it holds NaN or Inf.
    """
    import onnx

    model = onnx.load_model_from_string(onnx_data)
    present = {output.name for output in model.graph.output}
    inner = [name for node in model.graph.node for name in node.output if name]
    model.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in inner if name not in present
    )
    session = onnx_model.open_session(model.SerializeToString())
    names = [output.name for output in session.get_outputs() if output.type == "tensor(float)"]
    lows, highs = [], []
    for frame in frames:
        inputs = onnx_inputs(contract, frame)
        tensors = [*inputs.values(), *onnx_model.run_session(session, names, inputs)]
        lows.append([float(tensor.min()) if tensor.size else 0.0 for tensor in tensors])
        highs.append([float(tensor.max()) if tensor.size else 0.0 for tensor in tensors])
    ranges = np.array(lows), np.array(highs)
    finite = np.isfinite(ranges).all(axis=(0, 1))
    if not finite.all():
        bad = [name for name, good in zip([*inputs, *names], finite) if not good]
        raise ModelError(
            f"the ONNX computes NaN or Inf inside, in {len(bad)} of {len(finite)} tensors "
            f"({', '.join(bad[:4])}), which INT8 cannot hold; export the actor again"
        )
    return ranges


def by_coverage(lows: NDArray[np.float64], highs: NDArray[np.float64], count: int) -> list[int]:
    """Choose up to `count` frames, each the one that extends the covered ranges most.

    A tensor's extension counts relative to its range over all frames. The choice ends when no frame
    extends any range: the toolkit's `normal` algorithm goes by extremes, so that more frames change
    little (measured: 0.01 dB between 21 frames and all 793 of one actor, 1.6 dB between 18 and 816
    of another: a tensor that only the toolkit has reaches a little farther). Ties go to the earlier
    frame, so the choice is deterministic.

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
