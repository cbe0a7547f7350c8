"""Somebody who steps into the rover's way, stops there for a while, and walks off again."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from tractor_core.clearance import room
from tractor_core.robot import Robot

from .sensors import BodyPose
from .world import WALL_HEIGHT_M, Solid, SolidTable, World

RADIUS_M = 0.15
SPEED_M_S = (0.6, 1.2)
# He stops with so much room between him and the end of the rover that leads, about so far aside.
ROOM_M, ASIDE_M = (0.05, 0.8), 0.15
# He comes from the side, from so far away, and appears no nearer to the rover than this.
WAY_M, SLANT_RAD, LEAST_WAY_M = (0.7, 1.5), math.radians(30.0), 0.5
STANDS_S, AWAY_S = (2.0, 4.0), (0.5, 2.0)
# Where none of so many ways is free he tries again so much later.
TRIES, RETRY_S = 4, 0.3
# He does not walk into things, and not over the rover.
CLEARANCE_M, STEP_M = 0.01, 0.05


class Walker:
    """A cylinder that walks by itself; time is what `step` is given.

    Args:
        rng: draws when, where from, where to and how fast.

    Attributes:
        solid: where he is now; outside of the room when he is away.
        visits: how often he came.
    """

    def __init__(self, world: World, robot: Robot, rng: np.random.Generator) -> None:
        self._robot, self._rng = robot, rng
        self._table = SolidTable([s for s in world.solids if s.blocks(robot.height_m)])
        x_m, y_m = world.length_m + 2.0, world.width_m + 2.0
        self._away = np.array([x_m, y_m])
        self.solid = Solid("post", x_m, y_m, 0.0, RADIUS_M, RADIUS_M, 0.0, WALL_HEIGHT_M)
        self.visits = 0
        self._start = self._goal = self._away
        self._speed_m_s = 0.0
        self._comes = False
        self._wait_s = rng.uniform(*AWAY_S)

    def step(self, rover: BodyPose, linear_m_s: float, dt_s: float) -> None:
        """Walk for `dt_s` seconds.

        Args:
            rover: where it is.
            linear_m_s: how fast it drives; he steps before the end that leads.
        """
        at = np.array([self.solid.x_m, self.solid.y_m])
        way = self._goal - at
        left_m, step_m = float(np.hypot(*way)), self._speed_m_s * dt_s
        if left_m > 0.0:
            there = self._goal if left_m <= step_m else at + way * (step_m / left_m)
            if self._room_m(there, rover) > CLEARANCE_M:
                self._put(there)
            elif self._comes:
                self._goal = at  # the rover is there already
            return
        self._wait_s -= dt_s
        if self._wait_s > 0.0:
            return
        if self._comes:
            self._goal, self._comes = self._start, False
        elif (at == self._away).all():
            self._wait_s = RETRY_S
            for _ in range(TRIES):
                if self._come(rover, -1.0 if linear_m_s < 0.0 else 1.0):
                    break
        else:
            self._put(self._away)
            self._goal, self._wait_s = self._away, self._rng.uniform(*AWAY_S)

    def _come(self, rover: BodyPose, leads: float) -> bool:
        """Begin to walk in by a way that is drawn; False when it is not free."""
        rng = self._rng
        ahead_m = self._robot.half_length_m + RADIUS_M + rng.uniform(*ROOM_M)
        goal = rover.placed(np.array([leads * ahead_m, rng.uniform(-ASIDE_M, ASIDE_M), 0.0]))[:2]
        side = rng.choice([-1.0, 1.0])
        bearing = rover.yaw_rad + side * (math.pi / 2 + rng.uniform(-SLANT_RAD, SLANT_RAD))
        back = np.array([math.cos(bearing), math.sin(bearing)]) * rng.uniform(*WAY_M)
        steps = np.linspace(0.0, 1.0, 1 + math.ceil(float(np.hypot(*back)) / STEP_M))
        way = goal + steps[:, None] * back
        half_m = RADIUS_M + CLEARANCE_M
        if any(self._table.overlaps(x, y, 0.0, half_m, half_m).any() for x, y in way):
            return False
        if self._room_m(goal + back, rover) < LEAST_WAY_M:
            return False
        self.visits += 1
        self._start, self._goal, self._comes = goal + back, goal, True
        self._speed_m_s, self._wait_s = rng.uniform(*SPEED_M_S), rng.uniform(*STANDS_S)
        self._put(self._start)
        return True

    def _room_m(self, at: NDArray[np.float64], rover: BodyPose) -> float:
        """Return how far he would be from the rover's footprint."""
        seen = at - (rover.x_m, rover.y_m)
        cos, sin = math.cos(rover.yaw_rad), math.sin(rover.yaw_rad)
        turned = np.array([cos * seen[0] + sin * seen[1], cos * seen[1] - sin * seen[0]])
        return float(room(turned, self._robot)) - RADIUS_M

    def _put(self, at: NDArray[np.float64]) -> None:
        self.solid = dataclasses.replace(self.solid, x_m=float(at[0]), y_m=float(at[1]))
