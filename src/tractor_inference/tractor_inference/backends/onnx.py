"""The actor on the CPU with onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import onnx_model
from ..contract import ACTION_OUTPUT, BEV_INPUT, PROPRIO_INPUT, Contract
from ..errors import ModelError
from .base import Backend


class OnnxBackend(Backend):
    """Runs an .onnx actor on one thread.

    The file is read once: what was inspected is what runs, even when the file is replaced.
    """

    name = "onnx"

    def __init__(self, model: Path, contract: Contract) -> None:
        """Open a model.

        Raises:
            ModelError: onnx or onnxruntime is missing, or the file is not such an actor.
        """
        super().__init__(contract)
        facts = onnx_model.inspect(model, contract)
        self.digest = facts.sha256
        try:
            import onnxruntime
        except ImportError as error:
            raise ModelError("onnxruntime is not installed: pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        # The network is small: a second thread saves 0.2 ms and takes a core from the sensors.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                facts.data, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises kinds of its own, without a common base
            raise ModelError(f"{model}: onnxruntime cannot open it ({error})") from error

    def _run(self, bev: NDArray[np.float32], proprio: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            return self._session.run([ACTION_OUTPUT], {BEV_INPUT: bev, PROPRIO_INPUT: proprio})[0]
        except Exception as error:  # as above
            raise ModelError(f"backend onnx: onnxruntime failed ({error})") from error

    def _release(self) -> None:
        del self._session
