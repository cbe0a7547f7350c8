"""From one observation to one command: assemble, normalise, infer, check."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from . import probes, proprio
from .backends.base import Backend
from .contract import ACTION_SIZE, Contract, normalize
from .errors import ModelError
from .kinematics import Velocity, action_to_velocity
from .robot import Robot

# tanh ends at 1; INT8 rounding may step a little beyond.
ACTION_TOLERANCE = 0.02


@dataclasses.dataclass(frozen=True)
class Decision:
    """One step of the policy: velocity, action (2,) in [-1, 1], proprio (6,) raw float32."""

    velocity: Velocity
    action: NDArray[np.float32]
    proprio: NDArray[np.float32]


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
    """Drives a backend; its only state is the last action, which is part of the observation."""

    def __init__(self, contract: Contract, robot: Robot, backend: Backend) -> None:
        self.contract = contract
        self.robot = robot
        self.backend = backend
        self.clipped = dict.fromkeys(contract.proprio_names, 0)
        self.stop()

    def stop(self) -> None:
        """Note that the rover was stopped: the last action is zero."""
        self._previous_action = np.zeros(ACTION_SIZE, np.float32)

    def sent(self, decision: Decision) -> None:
        """Note that a decision was sent: its action is the last one for the next observation."""
        self._previous_action = decision.action

    def take_over(self, other: Policy) -> None:
        """Go on where another policy is: the rover's last action is its."""
        self._previous_action = other._previous_action

    def step(
        self,
        bev: NDArray[np.float32],
        lidar_min_m: float,
        gap_heading: float,
        linear_m_s: float,
        angular_rad_s: float,
    ) -> Decision:
        """Answer one observation; `sent` must follow when the answer reaches the rover.

        Args:
            bev: (2, cells, cells) float32 in [0, 1].
            lidar_min_m, gap_heading: from the scan, see `proprio`.
            linear_m_s, angular_rad_s: from the odometry.

        Raises:
            ModelError: the backend failed or its answer is no action.
            ContractError: a value is not finite.
        """
        raw = proprio.raw_vector(
            lidar_min_m, self._previous_action, linear_m_s, angular_rad_s, gap_heading
        )
        normalised = normalize(self.contract, raw)
        for i in np.flatnonzero(np.abs(normalised) >= self.contract.proprio_clip):
            self.clipped[self.contract.proprio_names[i]] += 1
        action = self.answer(bev, raw)
        return Decision(action_to_velocity(action, self.contract, self.robot), action, raw)

    def answer(self, bev: NDArray[np.float32], raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the action (2,) to a recorded observation; nothing is noted.

        Args:
            bev: (2, cells, cells) float32 in [0, 1].
            raw: (6,) float32 raw proprioception.

        Raises:
            ModelError: the backend failed or its answer is no action.
        """
        normalised = normalize(self.contract, raw)
        return checked_action(self.backend.infer(bev[None], normalised[None]))

    def warm_up(self) -> None:
        """Prove the backend on its golden probes, and infer once on an empty grid.

        The first real frame is then not slower than the others.

        Raises:
            ModelError: the backend failed, its answer is no action, or it disagrees with a probe.
        """
        probes.check(self.backend)
        self.step(np.zeros(self.contract.bev_shape, np.float32), proprio.LIDAR_MIN_CAP_M, 0, 0, 0)
        self.clipped = dict.fromkeys(self.contract.proprio_names, 0)
