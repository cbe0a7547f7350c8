"""What an actor answers: in time, finite, within -1..1, and the same in its normal form."""

from __future__ import annotations

import time

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
from tractor_core.errors import ModelError

from . import session as onnx_session

# The watchdog ends a node whose model does not answer; nothing near this is an actor.
MAX_FRAME_S = 1.0
# How far the normal form's actions may be from those of the file as it was given.
SAME_ACTION = 1e-6
FRAMES = 8


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


def prove(content: bytes, given: bytes, contract: Contract, changed: bool) -> None:
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
