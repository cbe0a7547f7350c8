"""From the actor's action to a velocity command."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .contract import Contract
from .robot import Robot


class Velocity(NamedTuple):
    """Body velocity: linear m/s forward, angular rad/s counter-clockwise (REP-103)."""

    linear: float
    angular: float


STOP = Velocity(0.0, 0.0)


def action_to_velocity(action: NDArray[np.floating], contract: Contract, robot: Robot) -> Velocity:
    """Turn an action into a velocity.

    Args:
        action: (2,) in [-1, 1]; (left, right) for `tracks`, (linear, angular) for `twist`.

    Returns:
        For tracks v = max_linear_speed * (l + r) / 2 and w = max_angular_speed * (r - l) / 2.
    """
    first, second = float(action[0]), float(action[1])
    if contract.action_space == "tracks":
        return Velocity(
            robot.max_linear_speed * (first + second) / 2.0,
            robot.max_angular_speed * (second - first) / 2.0,
        )
    return Velocity(robot.max_linear_speed * first, robot.max_angular_speed * second)


def velocity_to_action(velocity: Velocity, contract: Contract, robot: Robot) -> NDArray[np.float32]:
    """Turn a velocity into the action that makes it, the inverse of `action_to_velocity`.

    Returns:
        (2,) float32, clipped to [-1, 1]: a velocity beyond the tracks' limits saturates them.
    """
    linear = velocity.linear / robot.max_linear_speed
    angular = velocity.angular / robot.max_angular_speed
    if contract.action_space == "tracks":
        action = (linear - angular, linear + angular)
    else:
        action = (linear, angular)
    return np.clip(np.array(action, np.float32), -1.0, 1.0)
