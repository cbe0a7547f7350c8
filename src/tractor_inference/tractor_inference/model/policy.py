"""From one observation to one command: normalise, infer, check."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tractor_core import proprio
from tractor_core.contract import ACTION_SIZE, ACTION_TOLERANCE, Contract, normalize
from tractor_core.errors import ModelError
from tractor_core.kinematics import Velocity, action_to_velocity
from tractor_core.observation import Observation
from tractor_core.robot import Robot

from . import reference_vectors
from .backends.base import Backend


@dataclasses.dataclass(frozen=True)
class Decision:
    """The answer to one observation.

    `velocity` is the command, `action` (2,) float32 in [-1, 1] what it was made of, `clipped`
    names the features that lay beyond the contract's range, and `backend` answered.
    """

    velocity: Velocity
    action: NDArray[np.float32]
    clipped: tuple[str, ...]
    backend: Backend


def checked_action(output: object) -> NDArray[np.float32]:
    """Return a backend's output as an action (2,) in [-1, 1].

    Raises:
        ModelError: None, another shape, NaN or Inf, or beyond [-1, 1] by more than rounding.
    """
    if not isinstance(output, np.ndarray) or output.shape != (1, ACTION_SIZE):
        found = output.shape if isinstance(output, np.ndarray) else type(output).__name__
        raise ModelError(f"action: expected shape (1, {ACTION_SIZE}), found {found}")
    if not np.isfinite(output).all():
        raise ModelError(f"action: expected finite values, found {output.tolist()}")
    if np.abs(output).max() > 1.0 + ACTION_TOLERANCE:
        raise ModelError(f"action: expected values in -1..1, found {output.tolist()}")
    return np.clip(output[0], -1.0, 1.0).astype(np.float32)


class Policy:
    """Answers observations with a backend; it remembers nothing."""

    def __init__(self, contract: Contract, robot: Robot, backend: Backend) -> None:
        self.contract = contract
        self.robot = robot
        self.backend = backend

    def step(self, observation: Observation) -> Decision:
        """Answer one observation.

        Raises:
            ModelError: the backend failed or its answer is no action.
            ContractError: a value is not finite.
        """
        normalised = normalize(self.contract, observation.proprio)
        beyond = np.flatnonzero(np.abs(normalised) >= self.contract.proprio_clip)
        action = self.answer(observation.bev, observation.proprio)
        return Decision(
            action_to_velocity(action, self.contract, self.robot),
            action,
            tuple(self.contract.proprio_names[i] for i in beyond),
            self.backend,
        )

    def answer(self, bev: NDArray[np.float32], raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the action (2,) to a recorded observation.

        Args:
            bev: (2, cells, cells) float32 in [0, 1].
            raw: (6,) float32 raw proprioception.

        Raises:
            ModelError: the backend failed or its answer is no action.
        """
        normalised = normalize(self.contract, raw)
        return checked_action(self.backend.infer(bev[None], normalised[None]))

    def warm_up(self) -> None:
        """Check the backend by its reference vectors, and infer once on an empty grid.

        The first real frame is then not slower than the others.

        Raises:
            ModelError: the backend failed, its answer is no action, or it disagrees with one.
        """
        reference_vectors.check(self.backend)
        raw = proprio.raw_vector(proprio.LIDAR_MIN_CAP_M, np.zeros(ACTION_SIZE), 0.0, 0.0, 0.0)
        self.answer(np.zeros(self.contract.bev_shape, np.float32), raw)
