"""The teacher: follow the gap on a scan that also sees low obstacles and overhangs.

It knows more than the rover's sensors do and serves to make and to judge a policy, never to drive a
real rover.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from tractor_core.bev.geometry import scan_points
from tractor_core.clearance import free_way, room, room_along
from tractor_core.robot import Robot
from tractor_core.sensors import Scan

HEADINGS_RAD = np.linspace(-math.pi, math.pi, 73)
ROTATE_ONLY_RAD = 0.8
TURN_GAIN = 1.6
STOP_M, SLOW_M = 0.04, 0.30
RESCUE_CLEARANCE_M = 0.05
# The path of a command that frees the rover.
PATH_S = np.linspace(0.125, 1.0, 8)


@dataclasses.dataclass(frozen=True)
class Expert:
    """Drives towards the best free direction; memoryless but for the side it turned to last.

    Args:
        robot: footprint, limits and LiDAR pose.
        margin_m: room kept beside the rover's circumscribed circle; generous, because who imitates
            it forgets what has left the camera's view.
        horizon_m: free way beyond this is worth nothing, as the grid of the actor ends there.
        turn_cost_m: metres of free way that one radian of turning must gain.
        side_bonus_m: metres granted to the side of the last turn, so that ties do not alternate.
    """

    robot: Robot
    margin_m: float = 0.12
    horizon_m: float = 1.7
    turn_cost_m: float = 0.35
    side_bonus_m: float = 0.35

    def act(self, privileged: Scan, last_turn: float) -> NDArray[np.float32]:
        """Return the track commands (left, right), (2,) float32 in [-1, 1].

        Args:
            privileged: exact scan of everything that would hit the rover.
            last_turn: (right - left) / 2 of the last action, -1..1.
        """
        points = scan_points(privileged, self.robot)[:, :2]
        points = points[np.abs(points).max(axis=1) < self.horizon_m + 1.0]
        if room(points, self.robot).min(initial=math.inf) < RESCUE_CLEARANCE_M:
            return self._rescue(points)
        heading = self._best_heading(points, last_turn)
        turn = float(np.clip(TURN_GAIN * heading, -1.0, 1.0))
        ahead_m = float(self._free_way(points, np.zeros(1), self._radius_m)[0])
        speed = max(0.0, 1.0 - abs(heading) / ROTATE_ONLY_RAD)
        speed *= float(np.clip((ahead_m - STOP_M) / SLOW_M, 0.0, 1.0))
        return _tracks(speed, turn)

    @property
    def _radius_m(self) -> float:
        return math.hypot(self.robot.half_length_m, self.robot.half_width_m) + self.margin_m

    def _free_way(
        self, points: NDArray[np.float64], headings_rad: NDArray[np.float64], radius_m: float
    ) -> NDArray[np.float64]:
        return free_way(points, headings_rad, radius_m, self.horizon_m)

    def _best_heading(self, points: NDArray[np.float64], last_turn: float) -> float:
        narrow = self._free_way(points, HEADINGS_RAD, self._radius_m)
        wide = self._free_way(points, HEADINGS_RAD, self._radius_m + 0.12)
        score = 0.6 * narrow + 0.4 * wide - self.turn_cost_m * np.abs(HEADINGS_RAD)
        if abs(last_turn) > 0.1:
            score += self.side_bonus_m * (HEADINGS_RAD * last_turn > 0.0)
        return float(HEADINGS_RAD[np.argmax(score)])

    def _rescue(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the command whose short path ends with the most room and touches nothing."""
        levels = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
        best, best_score = np.zeros(2, np.float32), -math.inf
        for speed in levels:
            for turn in levels:
                action = _tracks(speed, turn)
                room_m = self._room_along(points, action)
                least, last = room_m.min(), room_m[-1]
                # Turning in place is preferred to reversing into what the camera cannot see.
                score = last + 2.0 * min(least, 0.0) + 0.01 * speed
                if least > 0.01 and score > best_score:
                    best, best_score = action, score
        return best

    def _room_along(
        self, points: NDArray[np.float64], action: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        left, right = float(action[0]), float(action[1])
        linear = self.robot.max_linear_speed * (left + right) / 2
        angular = self.robot.max_angular_speed * (right - left) / 2
        return room_along(points, self.robot, linear, angular, PATH_S)


def _tracks(speed: float, turn: float) -> NDArray[np.float32]:
    """Return (left, right) for speed and turn in -1..1, scaled to keep the curvature."""
    tracks = np.array([speed - turn, speed + turn], np.float32)
    return tracks / max(1.0, float(np.abs(tracks).max()))
