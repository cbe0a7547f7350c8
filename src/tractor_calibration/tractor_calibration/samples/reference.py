"""What the ONNX itself answers on frames."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import ACTION_OUTPUT, BEV_INPUT, PROPRIO_INPUT, Contract, normalize
from tractor_core.errors import ModelError
from tractor_core.samples import Sample
from tractor_inference.model.onnx import session as onnx_session


def onnx_inputs(contract: Contract, frame: Sample) -> dict[str, NDArray[np.float32]]:
    """Return a raw frame as the inputs of the ONNX, proprioception normalised."""
    return {BEV_INPUT: frame.bev[None], PROPRIO_INPUT: normalize(contract, frame.proprio)[None]}


def reference_actions(
    onnx_data: bytes, contract: Contract, frames: Iterable[Sample]
) -> NDArray[np.float32]:
    """Return the (n, 2) actions of onnxruntime.

    Raises:
        ModelError: it cannot run the ONNX, or the ONNX itself answers NaN or Inf.
    """
    session = onnx_session.open_session(onnx_data)
    actions = np.concatenate(
        [
            onnx_session.run_session(session, [ACTION_OUTPUT], onnx_inputs(contract, frame))[0]
            for frame in frames
        ]
    )
    if not np.isfinite(actions).all():
        count = int(np.count_nonzero(~np.isfinite(actions).all(axis=1)))
        raise ModelError(
            f"the ONNX itself answers NaN or Inf on {count} of {len(actions)} frames; "
            "export the actor again"
        )
    return actions
