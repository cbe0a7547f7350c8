"""What is known around the rover, and how fast it may go into it. Time is an argument."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from tractor_core.clearance import poses_along, room, seen_from, time_to_contact
from tractor_core.contract import CHANNELS, Contract
from tractor_core.kinematics import STOP, Velocity
from tractor_core.parameters import param
from tractor_core.robot import Robot
from tractor_core.sensors import Scan

# LiDARs of this class are off by so much, and half a cell of the grid is less.
NOISE_M = 0.02
# The edge that leads is looked at every so far, at so many moments until it stands.
EDGE_STEP_M, MOMENTS = 0.05, 8
TOUCH_M = 1e-6
# Where it brakes off its arc: so many steps, and the shares of a command that are tried.
BRAKING_STEPS, BRAKING_SHARES = 32, (1.0, 0.5, 0.25, 0.125)
# Slower is a stop, and nothing to divide by.
LEAST_M_S = 1e-6


@dataclasses.dataclass(frozen=True)
class StoppingParameters:
    """How the base stops, and how near it may come."""

    linear_deceleration: float = param(
        "How fast the base brakes, m/s^2; measure it.", 0.5, minimum=0.05, maximum=20.0
    )
    angular_deceleration: float = param(
        "How fast it stops turning, rad/s^2; measure it.", 3.0, minimum=0.1, maximum=100.0
    )
    reaction_s: float = param(
        "From a command until the base begins to follow it, s.", 0.15, minimum=0.0, maximum=2.0
    )
    obstacle_margin_m: float = param(
        "It stands so far before what is in its way, m; so that it can turn on the spot, at least "
        "by how far a corner swings out.", 0.08, minimum=0.0, maximum=2.0,
    )  # fmt: skip
    max_unseen_width_m: float = param(
        "It does not drive where the scan has a hole wider than this, m.",
        0.10, minimum=0.01, maximum=2.0,
    )  # fmt: skip
    rate_hz: float = param(
        "Rate at which commands are looked at again and zero is repeated, Hz.",
        20.0, minimum=5.0, maximum=200.0,
    )  # fmt: skip
    max_input_age_s: float = param(
        "An older scan stops the rover, an older grid is not used, s.",
        0.30, minimum=0.05, maximum=2.0,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Seen:
    """Points (n, 2) m in base_link, and when they were measured, s on the steady clock."""

    points: NDArray[np.float64]
    at_s: float

    def within(self, radius_m: float) -> NDArray[np.float64]:
        """Return the points so near to the middle of the rover."""
        x, y = self.points.T
        return self.points[x * x + y * y <= radius_m**2]


class Surroundings:
    """Limits a velocity so that the rover stands before what is in its way.

        surroundings.take_scan(scan, measured_s)
        velocity, reason = surroundings.limit(velocity, now_s)

    The rover goes on for the age of what was measured, for `reaction_s` and until the next
    decision, then brakes, along the same arc or, where it stops turning much sooner or later than
    driving, beside it. The velocity is scaled down, never turned, until it stands about
    `obstacle_margin_m` before the first contact. Where the scan says nothing, it does not drive.
    """

    def __init__(self, parameters: StoppingParameters, robot: Robot, contract: Contract) -> None:
        self._parameters, self._contract = parameters, contract
        self._scan: _Seen | None = None
        self._newest: Scan | None = None
        self._grid: _Seen | None = None
        self.set_extrinsics(robot)

    def set_extrinsics(self, robot: Robot) -> None:
        """Place the next scans with these extrinsics."""
        self._robot = robot
        # What passes nearer than the noise is in the way.
        self._wider = dataclasses.replace(
            robot, half_length_m=robot.half_length_m + NOISE_M,
            half_width_m=robot.half_width_m + NOISE_M,
        )  # fmt: skip
        self._ends = _ends(robot)
        self._corner_m = math.hypot(robot.half_length_m, robot.half_width_m)
        # No beam is known yet.
        self._bearings = self._gaps = np.zeros(0)

    def take_scan(self, scan: Scan, measured_s: float) -> None:
        """Use this scan from now on."""
        x, y, _ = scan.points(self._robot)
        beyond = ~self._robot.covers(x, y)
        self._scan = _Seen(np.stack([x[beyond], y[beyond]], axis=1), measured_s)
        self._newest = scan
        angles = scan.angles_rad[scan.known(self._robot)]
        directions = self._robot.lidar.rotation[:2, :2] @ [np.cos(angles), np.sin(angles)]
        self._bearings = np.sort(np.arctan2(directions[1], directions[0]))
        self._gaps = np.diff(self._bearings, append=self._bearings[:1] + 2.0 * math.pi)

    def take_grid(self, bev: NDArray[np.float32], measured_s: float) -> None:
        """Use the depth channel of this grid, (2, cells, cells), in base_link, while it is new."""
        points = self._contract.middles(bev[CHANNELS.index("depth")] > 0.0)
        self._grid = _Seen(points, measured_s)

    def limit(
        self, velocity: Velocity, now_s: float, into_unseen: bool = False
    ) -> tuple[Velocity, str | None]:
        """Return the velocity that is left of this one, and why it is zero.

        Args:
            velocity: m/s and rad/s, along an arc of the rover's motion.
            now_s: a steady clock.
            into_unseen: where the scan says nothing, somebody else looks.
        """
        own = self._parameters
        fastest_m_s = abs(velocity.linear) + abs(velocity.angular) * self._corner_m
        if fastest_m_s < LEAST_M_S:
            return STOP, None
        if self._scan is None:
            return STOP, "no scan yet"
        braking_s = max(
            abs(velocity.linear) / (2.0 * own.linear_deceleration),
            abs(velocity.angular) / (2.0 * own.angular_deceleration),
        )
        seen = [self._scan]
        if self._grid is not None and now_s - self._grid.at_s <= own.max_input_age_s:
            seen.append(self._grid)
        # The next decision may come a period later.
        reaction_s = own.reaction_s + 1.0 / own.rate_hz
        reaction_s += max(0.0, *(now_s - part.at_s for part in seen))
        reach_m = fastest_m_s * (reaction_s + braking_s) + own.obstacle_margin_m + NOISE_M
        points = np.concatenate([part.within(self._corner_m + reach_m) for part in seen])
        # The margin is one of driving up to something; what turns on the spot needs none.
        margin_s = own.obstacle_margin_m * abs(velocity.linear) / fastest_m_s**2
        left_s = self._contact_s(points, velocity) - margin_s
        scale = _scale(left_s, reaction_s, braking_s)
        if scale == 0.0:
            return STOP, "obstacle in the way of this command"
        for share in BRAKING_SHARES:
            limited = Velocity(velocity.linear * scale * share, velocity.angular * scale * share)
            if self._brakes_clear(points, limited, reaction_s):
                break
        else:
            return STOP, "obstacle beside the way on which this command would brake"
        unseen = None if into_unseen else self._unseen(limited, reaction_s + scale * braking_s)
        return (limited, None) if unseen is None else (STOP, unseen)

    def _contact_s(self, points: NDArray[np.float64], velocity: Velocity) -> float:
        """Return when the first of the points is touched, Inf when none is."""
        if not points.size:
            return math.inf
        contact_s = time_to_contact(points, self._wider, *velocity)
        near = contact_s == 0.0
        if near.any():
            # So near that it counts as touched: only what comes nearer does.
            x, y = points[near].T
            moves = np.stack([velocity.angular * y - velocity.linear, -velocity.angular * x])
            half = np.array([[self._robot.half_length_m], [self._robot.half_width_m]])
            outside = points[near].T - np.clip(points[near].T, -half, half)
            recedes = np.flatnonzero(near)[(outside * moves).sum(axis=0) >= 0.0]
            contact_s[recedes] = time_to_contact(points[recedes], self._robot, *velocity)
        return float(contact_s.min())

    def _brakes_clear(
        self, points: NDArray[np.float64], velocity: Velocity, reaction_s: float
    ) -> bool:
        """Return whether the rover stops clear of the points where it leaves its arc as it brakes.

        It leaves it where it stops turning much sooner than driving, or later: then its way is
        followed step by step.
        """
        own = self._parameters
        linear_s = abs(velocity.linear) / own.linear_deceleration
        angular_s = abs(velocity.angular) / own.angular_deceleration
        apart_s = abs(linear_s - angular_s)
        leaves_m = 0.5 * abs(velocity.linear) * apart_s
        if linear_s > angular_s:
            braking_m = 0.5 * abs(velocity.linear) * linear_s
            leaves_m = 0.5 * abs(velocity.angular) * apart_s * (braking_m + self._corner_m)
        if leaves_m <= NOISE_M or not min(linear_s, angular_s):
            return True
        step_s = max(linear_s, angular_s) / BRAKING_STEPS
        middle_s = step_s * (np.arange(BRAKING_STEPS) + 0.5)
        linear = velocity.linear * np.maximum(0.0, 1.0 - middle_s / linear_s)
        angular = velocity.angular * np.maximum(0.0, 1.0 - middle_s / angular_s)
        x, y, yaw = poses_along(*velocity, np.array([reaction_s]))
        turned = yaw + np.cumsum(angular) * step_s
        heading = turned - 0.5 * angular * step_s
        x = x + np.cumsum(linear * np.cos(heading)) * step_s
        y = y + np.cumsum(linear * np.sin(heading)) * step_s
        # What counts as touched now is judged where its contact is.
        beyond = points[room(points, self._wider) > 0.0]
        return bool((room(seen_from(beyond, x, y, turned), self._wider) > 0.0).all())

    def _unseen(self, velocity: Velocity, until_s: float) -> str | None:
        """Return where the scan has a hole in the way of this velocity, or None."""
        times_s = until_s * np.arange(1, MOMENTS + 1) / MOMENTS
        x, y, yaw = (values[:, None] for values in poses_along(*velocity, times_s))
        cos, sin = np.cos(yaw), np.sin(yaw)
        # The edge that leads; on the spot the front one, as many LiDARs do not look back.
        side = -1.0 if velocity.linear < 0.0 else 1.0
        leads = self._ends[:, 0] * side >= self._robot.half_length_m
        if not velocity.linear:
            # Of that its leading corner swings out over the side.
            leads &= self._ends[:, 1] * velocity.angular > 0.0
        ahead, left = self._ends[leads].T
        points = np.stack([cos * ahead - sin * left + x, sin * ahead + cos * left + y], axis=-1)
        x, y = points[room(points, self._robot) > TOUCH_M].T - self._robot.lidar.position[:2, None]
        bearings = np.arctan2(y, x)
        holes = self._hole_rad(bearings)
        wide = holes * np.hypot(x, y) > self._parameters.max_unseen_width_m
        if not wide.any():
            return None
        hint = self._newest.other_convention if self._newest else ""
        return (
            f"unknown: the scan has a hole of {math.degrees(holes[wide].max()):.0f} deg where this "
            f"command leads, around {math.degrees(bearings[wide][0]):.0f} deg"
            + (f"; {hint}" if hint else "")
        )

    def _hole_rad(self, bearings: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how wide the hole between known beams is, in which each bearing lies."""
        if not self._bearings.size:
            return np.full(len(bearings), 2.0 * math.pi)
        return self._gaps[np.searchsorted(self._bearings, bearings, side="right") - 1]


def _scale(left_s: float, reaction_s: float, braking_s: float) -> float:
    """Return the greatest share s of a velocity with s * (reaction_s + s * braking_s) <= left_s.

    All are times at full velocity: of the way that is left, and of those that the rover takes while
    it reacts and while it brakes.
    """
    if left_s <= 0.0:
        return 0.0
    if left_s >= reaction_s + braking_s:
        return 1.0
    # The root of a quadratic, in the form that loses no digits.
    return 2.0 * left_s / (reaction_s + math.sqrt(reaction_s**2 + 4.0 * braking_s * left_s))


def _ends(robot: Robot) -> NDArray[np.float64]:
    """Return points along the front and the rear edge of the footprint, (n, 2) m."""
    half_y = robot.half_width_m
    across = np.linspace(-half_y, half_y, 1 + max(1, math.ceil(2.0 * half_y / EDGE_STEP_M)))
    ends = (robot.half_length_m, -robot.half_length_m)
    return np.concatenate([np.stack([np.full_like(across, x), across], axis=1) for x in ends])
