"""The actor on the CPU with onnxruntime."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import ACTION_OUTPUT, BEV_INPUT, PROPRIO_INPUT, Contract

from ..onnx import model as onnx_model
from ..onnx import session as onnx_session
from .base import Backend

log = logging.getLogger(__name__)


class OnnxBackend(Backend):
    """Runs an .onnx actor on one thread.

    The file is read once: what was inspected is what runs, even when the file is replaced.
    """

    name = "onnx"

    def __init__(self, model: Path, contract: Contract) -> None:
        """Open a model.

        Raises:
            ModelError: onnx or onnxruntime is missing, or the file is not such an actor, or lies
                outside of the folder that the path lies in.
        """
        super().__init__(contract)
        facts = onnx_model.inspect(model, contract, beneath=True)
        if facts.changes:
            log.info("%s: %s", model, "; ".join(facts.changes))
        self.digest = facts.sha256
        self.exploration_scale = facts.exploration_scale
        self._session = onnx_session.open_session(facts.data, str(model))

    def _run(self, bev: NDArray[np.float32], proprio: NDArray[np.float32]) -> NDArray[np.float32]:
        inputs = {BEV_INPUT: bev, PROPRIO_INPUT: proprio}
        return onnx_session.run_session(self._session, [ACTION_OUTPUT], inputs)[0]

    def _release(self) -> None:
        del self._session
