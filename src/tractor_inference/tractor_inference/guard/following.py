"""Does the base do what it is told? Time is an argument."""

from __future__ import annotations

import collections
from typing import NamedTuple

from tractor_core.kinematics import STOP, Velocity
from tractor_core.robot import Robot

# A base takes so long to follow, wait for its controller included.
WINDOW_S = 2.0
# Shares of the robot's greatest speed: less is told to no purpose, or is noise.
TOLD, MOVES = 0.15, 0.15
# Shares of what was told: less is no motion, or slip.
STANDS, SLIPS = 0.2, 0.5
# Share of the window in which it must be told to move, so that single zeros hide nothing.
MOSTLY = 0.8
# Messages within a window that tell something.
LEAST_MESSAGES = 5


class _Moment(NamedTuple):
    at_s: float
    told: Velocity
    moved: Velocity


class Following:
    """Compares what the base was told with its odometry, over the last two seconds.

        following.told(velocity)
        following.moved(twist, now_s)
        fault = following.fault(now_s)  # "stuck: ..."

    Args:
        robot: its greatest speeds.
    """

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self._told = STOP
        self._moments: collections.deque[_Moment] = collections.deque()
        self._stuck_since_s: float | None = None

    def told(self, velocity: Velocity) -> None:
        """Note what the base is told from now on."""
        self._told = velocity

    def moved(self, velocity: Velocity, now_s: float) -> None:
        """Note what the odometry says."""
        self._moments.append(_Moment(now_s, self._told, velocity))

    def fault(self, now_s: float) -> str | None:
        """Return how the base has not followed in the last two seconds, or None."""
        moments = self._moments
        while moments and now_s - moments[0].at_s > WINDOW_S:
            moments.popleft()
        if len(moments) < LEAST_MESSAGES or now_s - moments[0].at_s < 0.9 * WINDOW_S:
            self._stuck_since_s = None
            return None
        told = [self._share(moment.told) for moment in moments]
        moved = [self._share(moment.moved) for moment in moments]
        mean_told, mean_moved = sum(told) / len(told), sum(moved) / len(moved)
        told_to_move = sum(share >= TOLD for share in told) >= MOSTLY * len(told)
        stuck = told_to_move and mean_moved < STANDS * mean_told
        if not stuck:
            self._stuck_since_s = None
        elif self._stuck_since_s is None:
            self._stuck_since_s = moments[0].at_s
        said = f"told {_words(moments[-1].told)}, odometry says {_words(moments[-1].moved)}"
        if stuck:
            return f"stuck: {said}"
        if max(told) == 0.0 and min(moved) >= MOVES:
            return f"runaway: {said}"
        if told_to_move and mean_moved < SLIPS * mean_told:
            return f"slipping: {said}"
        return None

    def stuck_s(self, now_s: float) -> float:
        """Return for how long it has been stuck, as of the last look; 0 when it is not."""
        return 0.0 if self._stuck_since_s is None else now_s - self._stuck_since_s

    def forget(self) -> None:
        """Begin anew."""
        self._moments.clear()
        self._stuck_since_s = None

    def _share(self, velocity: Velocity) -> float:
        """Return how fast the faster track is, as a share of the greatest speed."""
        robot = self._robot
        return abs(velocity.linear) / robot.max_linear_speed + (
            abs(velocity.angular) / robot.max_angular_speed
        )


def _words(velocity: Velocity) -> str:
    return f"{velocity.linear:.2f} m/s and {velocity.angular:.2f} rad/s"
