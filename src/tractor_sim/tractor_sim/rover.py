"""A kinematic tracked rover: acceleration limits, track slip, a footprint that gets blocked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tractor_core.robot import Robot

from .world import Solid, SolidTable, World

MAX_LINEAR_ACCEL_M_S2 = 0.6
MAX_ANGULAR_ACCEL_RAD_S2 = 4.0
# Slip wanders around zero for each track: relative size and the time it remembers.
SLIP_STD = 0.04
SLIP_TIME_S = 0.5
ODOMETRY_NOISE = 0.01
# A contact is over when the rover is this far from what it hit; touching again is a new collision.
RELEASE_CLEARANCE_M = 0.05


@dataclass(frozen=True)
class Odometry:
    """What the wheel encoders report: pose in the odom frame (m, rad), speeds (m/s, rad/s)."""

    x_m: float
    y_m: float
    yaw_rad: float
    linear_m_s: float
    angular_rad_s: float


class Rover:
    """The true state of the rover in a world, advanced by `step`; it counts metres and collisions.

    Odometry starts at zero and sees the tracks, not the ground: slip and being blocked escape it.

    Args:
        moving: a solid beside those of the world, put elsewhere by `move`.

    Attributes:
        struck: what it ran into in the last step, and did not touch before.
    """

    def __init__(
        self, world: World, robot: Robot, rng: np.random.Generator, moving: Solid | None = None
    ) -> None:
        self._robot = robot
        self._rng = rng
        self._blocking = [s for s in world.solids if s.blocks(robot.height_m)]
        self._blocking += [] if moving is None else [moving]
        self._table = SolidTable(self._blocking)
        self._touching = np.zeros(len(self._blocking), dtype=bool)
        self.struck: list[Solid] = []
        self._slip = np.zeros(2)
        self._linear_m_s = 0.0
        self._angular_rad_s = 0.0
        self.x_m = world.spawn_x_m
        self.y_m = world.spawn_y_m
        self.yaw_rad = world.spawn_yaw_rad
        self.distance_m = 0.0
        self.collisions = 0
        self.odometry = Odometry(0.0, 0.0, 0.0, 0.0, 0.0)

    def step(self, linear_m_s: float, angular_rad_s: float, dt_s: float) -> None:
        """Drive for `dt_s` seconds towards the commanded speeds (m/s, rad/s; clipped to limits)."""
        robot = self._robot
        self._linear_m_s = _approach(
            self._linear_m_s,
            _clip(linear_m_s, robot.max_linear_speed),
            MAX_LINEAR_ACCEL_M_S2 * dt_s,
        )
        self._angular_rad_s = _approach(
            self._angular_rad_s,
            _clip(angular_rad_s, robot.max_angular_speed),
            MAX_ANGULAR_ACCEL_RAD_S2 * dt_s,
        )
        self._move(*self._slipped(dt_s), dt_s)
        self._measure(dt_s)

    def move(self, moving: Solid) -> None:
        """Put the moving solid where it is now."""
        self._blocking[-1] = moving
        self._table.move(len(self._blocking) - 1, moving.x_m, moving.y_m)

    def _slipped(self, dt_s: float) -> tuple[float, float]:
        """Return the speeds over ground: each track loses or gains an Ornstein-Uhlenbeck share."""
        keep = math.exp(-dt_s / SLIP_TIME_S)
        noise = self._rng.standard_normal(2) * SLIP_STD * math.sqrt(1.0 - keep * keep)
        self._slip = keep * self._slip + noise
        # Half the track gauge that makes full counter-rotation reach the angular limit.
        gauge_m = self._robot.max_linear_speed / self._robot.max_angular_speed
        left = (self._linear_m_s - gauge_m * self._angular_rad_s) * (1.0 + self._slip[0])
        right = (self._linear_m_s + gauge_m * self._angular_rad_s) * (1.0 + self._slip[1])
        return (left + right) / 2, (right - left) / (2 * gauge_m)

    def _move(self, linear_m_s: float, angular_rad_s: float, dt_s: float) -> None:
        heading_rad = self.yaw_rad + angular_rad_s * dt_s / 2
        step_m = linear_m_s * dt_s
        x_m = self.x_m + step_m * math.cos(heading_rad)
        y_m = self.y_m + step_m * math.sin(heading_rad)
        yaw_rad = _wrap(self.yaw_rad + angular_rad_s * dt_s)

        hit = self._overlaps(x_m, y_m, yaw_rad, 0.0)
        self.struck = [self._blocking[i] for i in np.flatnonzero(hit & ~self._touching)]
        if hit.any():
            if not self._overlaps(self.x_m, self.y_m, yaw_rad, 0.0).any():
                x_m, y_m, step_m = self.x_m, self.y_m, 0.0
            elif not self._overlaps(x_m, y_m, self.yaw_rad, 0.0).any():
                yaw_rad = self.yaw_rad
            else:
                x_m, y_m, yaw_rad, step_m = self.x_m, self.y_m, self.yaw_rad, 0.0
            self.collisions += bool(self.struck)
        if hit.any() or self._touching.any():
            near = self._overlaps(x_m, y_m, yaw_rad, RELEASE_CLEARANCE_M)
            self._touching = (self._touching | hit) & near
        self.x_m, self.y_m, self.yaw_rad = x_m, y_m, yaw_rad
        self.distance_m += abs(step_m)

    def _measure(self, dt_s: float) -> None:
        noise = 1.0 + ODOMETRY_NOISE * self._rng.standard_normal(2)
        linear_m_s = float(self._linear_m_s * noise[0])
        angular_rad_s = float(self._angular_rad_s * noise[1])
        last = self.odometry
        heading_rad = last.yaw_rad + angular_rad_s * dt_s / 2
        self.odometry = Odometry(
            last.x_m + linear_m_s * dt_s * math.cos(heading_rad),
            last.y_m + linear_m_s * dt_s * math.sin(heading_rad),
            _wrap(last.yaw_rad + angular_rad_s * dt_s),
            linear_m_s,
            angular_rad_s,
        )

    def _overlaps(self, x_m: float, y_m: float, yaw_rad: float, clearance_m: float) -> np.ndarray:
        return self._table.overlaps(
            x_m,
            y_m,
            yaw_rad,
            self._robot.half_length_m + clearance_m,
            self._robot.half_width_m + clearance_m,
        )


def _approach(value: float, target: float, step: float) -> float:
    return value + _clip(target - value, step)


def _clip(value: float, limit: float) -> float:
    return max(-limit, min(limit, value))


def _wrap(angle_rad: float) -> float:
    return math.remainder(angle_rad, 2 * math.pi)
