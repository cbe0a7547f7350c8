"""The last word before the base: fresh and limited, or zero."""

from __future__ import annotations

import dataclasses
import math

from tractor_core.kinematics import STOP, Velocity
from tractor_core.parameters import param
from tractor_core.robot import Robot

from .senders import Senders


@dataclasses.dataclass(frozen=True)
class GuardParameters:
    """How long a command counts; see the cmd_guard section of config/sac_rover.yaml."""

    enable_stamped_cmd_vel: bool = param("TwistStamped instead of Twist.", False)
    command_timeout_s: float = param(
        "Age at which a command becomes zero, s.", 0.30, minimum=0.05, maximum=2.0, live=True
    )
    rate_hz: float = param(
        "Rate at which the age is checked and zero repeated, Hz.", 20.0, minimum=5.0, maximum=200.0
    )


class Guard:
    """Limits commands and passes them on; stops when none is fresh, or two publishers send them."""

    def __init__(self, parameters: GuardParameters, robot: Robot) -> None:
        self.parameters = parameters
        self._robot = robot
        self._arrival_s: float | None = None
        self.senders = Senders()
        self.rejected = 0
        self.limited = 0
        self.reason: str | None = "no command received yet"

    def command(self, velocity: Velocity, now_s: float, number: int | None = None) -> Velocity:
        """Return the command to pass on; zero, and counted, when a value is not finite.

        Args:
            velocity: m/s and rad/s.
            now_s: a steady clock.
            number: of the message, counted by its publisher; None where it is unknown.
        """
        self.senders.heard(number, now_s)
        rivals = self.senders.at_once(now_s)
        if rivals > 1:
            self.rejected += 1
            self.reason = f"{rivals} publishers send commands at once"
            self._arrival_s = None
            return STOP
        if not (math.isfinite(velocity.linear) and math.isfinite(velocity.angular)):
            self.rejected += 1
            self.reason = f"command is not finite: {velocity.linear} m/s, {velocity.angular} rad/s"
            self._arrival_s = None
            return STOP
        self._arrival_s, self.reason = now_s, None
        v_max, w_max = self._robot.max_linear_speed, self._robot.max_angular_speed
        passed = Velocity(
            min(max(velocity.linear, -v_max), v_max), min(max(velocity.angular, -w_max), w_max)
        )
        self.limited += passed != velocity
        return passed

    def must_stop(self, now_s: float) -> bool:
        """Return True, and set `reason`, when no fresh command is there."""
        if self._arrival_s is not None:
            age_s, limit_s = now_s - self._arrival_s, self.parameters.command_timeout_s
            if age_s <= limit_s:
                return False
            self.reason = f"command {age_s:.2f} s old, limit {limit_s:.2f}"
        return True
