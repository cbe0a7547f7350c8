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
from tractor_core.robot import Robot
from tractor_core.sensors import Scan

HEADINGS_RAD = np.linspace(-math.pi, math.pi, 73)
ROTATE_ONLY_RAD = 0.8
TURN_GAIN = 1.6
STOP_M, SLOW_M = 0.04, 0.30
RESCUE_CLEARANCE_M = 0.05


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
        if self._clearances(points).min(initial=math.inf) < RESCUE_CLEARANCE_M:
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

    def _best_heading(self, points: NDArray[np.float64], last_turn: float) -> float:
        narrow = self._free_way(points, HEADINGS_RAD, self._radius_m)
        wide = self._free_way(points, HEADINGS_RAD, self._radius_m + 0.12)
        score = 0.6 * narrow + 0.4 * wide - self.turn_cost_m * np.abs(HEADINGS_RAD)
        if abs(last_turn) > 0.1:
            score += self.side_bonus_m * (HEADINGS_RAD * last_turn > 0.0)
        return float(HEADINGS_RAD[np.argmax(score)])

    def _free_way(
        self, points: NDArray[np.float64], headings: NDArray[np.float64], radius_m: float
    ) -> NDArray[np.float64]:
        """Return how far a disc of this radius can go straight in each heading, (n,) m."""
        cos, sin = np.cos(headings)[:, None], np.sin(headings)[:, None]
        ahead = cos * points[:, 0] + sin * points[:, 1]
        aside = np.abs(cos * points[:, 1] - sin * points[:, 0])
        # Where the front of the disc touches the point; a point beside the disc's centre is behind.
        depth = np.sqrt(np.maximum(radius_m**2 - aside**2, 0.0))
        way = np.where((aside < radius_m) & (ahead > 0.0), ahead - depth, self.horizon_m)
        return np.clip(way.min(axis=1, initial=self.horizon_m), 0.0, self.horizon_m)

    def _clearances(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance of each point (..., 2) to the footprint, m."""
        outside = np.abs(points) - (self.robot.half_length_m, self.robot.half_width_m)
        return np.hypot(*np.moveaxis(np.maximum(outside, 0.0), -1, 0))

    def _rescue(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the command whose short path ends with the most room and touches nothing."""
        levels = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
        best, best_score = np.zeros(2, np.float32), -math.inf
        for speed in levels:
            for turn in levels:
                action = _tracks(speed, turn)
                least, last = self._room_along(points, action)
                # Turning in place is preferred to reversing into what the camera cannot see.
                score = last + 2.0 * min(least, 0.0) + 0.01 * speed
                if least > 0.01 and score > best_score:
                    best, best_score = action, score
        return best

    def _room_along(
        self, points: NDArray[np.float64], action: NDArray[np.float32], seconds: float = 1.0
    ) -> tuple[float, float]:
        left, right = float(action[0]), float(action[1])
        linear = self.robot.max_linear_speed * (left + right) / 2
        angular = self.robot.max_angular_speed * (right - left) / 2
        times = np.linspace(0.125, 1.0, 8) * seconds
        yaw = angular * times
        if abs(angular) > 1e-6:
            x, y = linear / angular * np.sin(yaw), linear / angular * (1.0 - np.cos(yaw))
        else:
            x, y = linear * times, np.zeros_like(times)
        dx, dy = points[None, :, 0] - x[:, None], points[None, :, 1] - y[:, None]
        cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
        moved = np.stack([cos * dx + sin * dy, cos * dy - sin * dx], axis=-1)
        room = self._clearances(moved).min(axis=1)
        return float(room.min()), float(room[-1])


def _tracks(speed: float, turn: float) -> NDArray[np.float32]:
    """Return (left, right) for speed and turn in -1..1, scaled to keep the curvature."""
    tracks = np.array([speed - turn, speed + turn], np.float32)
    return tracks / max(1.0, float(np.abs(tracks).max()))
