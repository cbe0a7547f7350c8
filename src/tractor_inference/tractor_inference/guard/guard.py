"""The last word before the base: of an operator or the actor, fresh, limited, or zero."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable

from tractor_core.contract import Contract
from tractor_core.kinematics import STOP, Velocity
from tractor_core.parameters import param
from tractor_core.robot import Robot

from .following import Following
from .senders import Senders
from .surroundings import StoppingParameters, Surroundings

log = logging.getLogger(__name__)

ACTOR, OPERATOR = "the actor", "the operator"


@dataclasses.dataclass(frozen=True)
class GuardParameters(StoppingParameters):
    """Which commands count, and when; see the cmd_guard section of config/sac_rover.yaml."""

    enable_stamped_cmd_vel: bool = param("TwistStamped instead of Twist.", False)
    command_timeout_s: float = param(
        "Age at which a command of the actor becomes zero, s.", 0.30, minimum=0.05, maximum=2.0
    )
    teleop_timeout_s: float = param(
        "Age at which a command of the operator becomes zero, s.", 0.50, minimum=0.05, maximum=2.0
    )
    frozen_input_s: float = param(
        "What stays the same to the bit is as old as when it was new, and after so long refused "
        "by name, s; 0 for a sensor without noise.", 1.0, minimum=0.0, maximum=60.0,
    )  # fmt: skip
    stuck_stop_s: float = param(
        "When the odometry says that the base stands while it is told to move for so long, it is "
        "stopped until ~/release, s; 0 never.", 5.0, minimum=0.0, maximum=600.0,
    )  # fmt: skip
    obstacle_stop: bool = param("Stop the actor before what the scan and the grid show.", True)
    teleop_obstacle_stop: bool = param("The same for the operator.", True)


class _Source:
    """One input: what came last, and when, on the steady clock."""

    def __init__(self, name: str, timeout_s: float, keeps_clear: bool) -> None:
        self.name, self.timeout_s, self.keeps_clear = name, timeout_s, keeps_clear
        self.senders = Senders()
        self.velocity = STOP
        self.arrival_s: float | None = None
        self.problem: str | None = f"no command of {name} yet"

    def take(self, velocity: Velocity, now_s: float, number: int | None) -> bool:
        """Note a command; False when it cannot be used."""
        self.senders.heard(number, now_s)
        rivals = self.senders.at_once(now_s)
        self.problem = None
        if rivals > 1:
            self.problem = f"{rivals} publishers send commands of {self.name} at once"
        elif not (math.isfinite(velocity.linear) and math.isfinite(velocity.angular)):
            self.problem = (
                f"command of {self.name} is not finite: "
                f"{velocity.linear} m/s, {velocity.angular} rad/s"
            )
        self.velocity, self.arrival_s = velocity, now_s
        return self.problem is None

    def stale(self, now_s: float) -> str | None:
        """Return why there is no command of it now, or None."""
        if self.problem is not None or self.arrival_s is None:
            return self.problem
        age_s = now_s - self.arrival_s
        if age_s <= self.timeout_s:
            return None
        return f"command of {self.name} {age_s:.2f} s old, limit {self.timeout_s:.2f}"


class Guard:
    """Decides what the base is told: a stop, else the operator, else the actor.

        guard = Guard(parameters, robot, contract, inputs.problem)
        guard.surroundings.take_scan(scan, measured_s)
        guard.take_actor(velocity, now_s)
        velocity = guard.decide(now_s)  # why it is zero: guard.reason

    A stop is latched until `release`. An operator who has sent a command keeps the rover until
    `release` without a stop: when his commands end it stands, and only he can move it. He looks
    where the scan does not.

    Args:
        scan_problem: returns why the scan cannot be used at a time of the steady clock, or None.

    Attributes:
        following: whether the base does what it is told; `fault` is what `decide` found.
        reason: why the last decision was zero, None when it was not.
        source: who has the rover, ACTOR or OPERATOR.
        rejected: commands that could not be used.
        limited, slowed: decisions on a command beyond the robot's limits, or before an obstacle.
    """

    def __init__(
        self,
        parameters: GuardParameters,
        robot: Robot,
        contract: Contract,
        scan_problem: Callable[[float], str | None],
    ) -> None:
        self._robot, self._scan_problem = robot, scan_problem
        self.following = Following(robot)
        self.fault: str | None = None
        self._stuck_stop_s = parameters.stuck_stop_s
        self.surroundings = Surroundings(parameters, robot, contract)
        self._actor = _Source(ACTOR, parameters.command_timeout_s, parameters.obstacle_stop)
        self._operator = _Source(
            OPERATOR, parameters.teleop_timeout_s, parameters.teleop_obstacle_stop
        )
        self._stopped: str | None = None
        self._stuck = False
        self._operated = False
        self.rejected = self.limited = self.slowed = 0
        self.reason: str | None = self._actor.problem

    @property
    def source(self) -> str:
        """Who drives."""
        return (self._operator if self._operated else self._actor).name

    @property
    def driver(self) -> str:
        """Who gave the last decision, "policy" or "teleop", or why the base stands."""
        if self.reason is not None:
            return "stuck" if self._stuck else "stop"
        return "teleop" if self._operated else "policy"

    @property
    def held(self) -> str:
        """What keeps the rover from the actor until `release`, empty when nothing does."""
        return self._stopped or ("the operator had the rover" if self._operated else "")

    @property
    def senders(self) -> dict[str, Senders]:
        """Who sends commands, by topic."""
        return {
            "cmd_vel_raw": self._actor.senders, "cmd_vel_teleop": self._operator.senders,
        }  # fmt: skip

    def take_actor(self, velocity: Velocity, now_s: float, number: int | None = None) -> None:
        """Note a command of the actor.

        Args:
            velocity: m/s and rad/s.
            now_s: a steady clock.
            number: of the message, counted by its publisher; None where it is unknown.
        """
        self.rejected += not self._actor.take(velocity, now_s, number)

    def take_operator(self, velocity: Velocity, now_s: float, number: int | None = None) -> None:
        """Note a command of the operator, who has the rover from now on; see `take_actor`."""
        self.rejected += not self._operator.take(velocity, now_s, number)
        self._operated = True

    def stop(self, who: str) -> None:
        """Stand until `release`."""
        self.hold(f"stopped by {who}, until ~/release is called")

    def hold(self, why: str) -> None:
        """Stand until `release`, for a reason in words."""
        self._stopped = why
        log.warning(why)

    def release(self) -> str:
        """End a stop, or else give the rover back to the actor; return what held it, in words."""
        self.following.forget()
        if self._stopped is not None:
            held, self._stopped, self._stuck = self._stopped, None, False
            return held
        held, self._operated = self.held, False
        return held or "nothing"

    def _look_at_base(self, now_s: float) -> None:
        """Note in `fault` how the base does not follow; one that is stuck for long is stopped."""
        self.fault = self.following.fault(now_s)
        if 0.0 < self._stuck_stop_s <= self.following.stuck_s(now_s) and self._stopped is None:
            self.stop(f"the guard, {self.fault}")
            self._stuck = True

    def decide(self, now_s: float) -> Velocity:
        """Return what the base is told now, and say in `reason` why that is zero."""
        self._look_at_base(now_s)
        velocity, self.reason = self._decided(now_s)
        self.following.told(velocity)
        return velocity

    def _decided(self, now_s: float) -> tuple[Velocity, str | None]:
        if self._stopped is not None:
            return STOP, self._stopped
        source = self._operator if self._operated else self._actor
        problem = source.stale(now_s)
        if problem is not None:
            if source is self._operator:
                problem += "; call ~/release to let the actor drive"
            return STOP, problem
        v_max, w_max = self._robot.max_linear_speed, self._robot.max_angular_speed
        wanted = Velocity(
            min(max(source.velocity.linear, -v_max), v_max),
            min(max(source.velocity.angular, -w_max), w_max),
        )
        self.limited += wanted != source.velocity
        if not source.keeps_clear:
            return wanted, None
        problem = self._scan_problem(now_s)
        if problem is not None:
            return STOP, problem
        passed, problem = self.surroundings.limit(wanted, now_s, self._operated)
        self.slowed += passed != wanted
        return passed, problem
