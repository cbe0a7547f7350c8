"""How onnxruntime opens and runs an actor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from tractor_core.errors import ModelError


def open_session(data: bytes, name: str = "the ONNX", optimise: bool = True) -> Any:
    """Open an ONNX in onnxruntime, on one thread so that the same input gives the same bits.

    The network is small: a second thread saves 0.2 ms and takes a core from the sensors.

    Args:
        data: the file's content.
        name: what errors call it.
        optimise: whether onnxruntime may rewrite the graph.

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
    # What it logs as an error it raises as well.
    options.log_severity_level = 4
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
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
