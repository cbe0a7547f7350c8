"""A stand-in without a model, to try the nodes and to test how they take faults."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import ACTION_SIZE, Contract

from .base import Backend

Script = Callable[[int], "NDArray[np.float32] | None"]


class FakeBackend(Backend):
    """Drives at 0.4 towards the widest gap: turn = 0.4 * gap_heading. It sees no obstacle.

    Args:
        contract: gives the meaning of the action.
        script: for tests; called with the number of the frame before it is answered. It may raise,
            block, or return an array that is answered instead, whatever its shape and values.
    """

    name = "fake"

    def __init__(self, contract: Contract, script: Script | None = None) -> None:
        super().__init__(contract)
        self._script = script
        self._frame = 0

    def _run(self, bev: NDArray[np.float32], proprio: NDArray[np.float32]) -> NDArray[np.float32]:
        frame, self._frame = self._frame, self._frame + 1
        if self._script is not None and (scripted := self._script(frame)) is not None:
            return scripted
        heading = self.contract.proprio_names.index("gap_heading")
        speed, turn = 0.4, 0.4 * np.clip(proprio[0, heading], -1.0, 1.0)
        if self.contract.action_space == "tracks":
            action = (speed - turn, speed + turn)
        else:
            action = (speed, turn)
        return np.array(action, np.float32).reshape(1, ACTION_SIZE)
