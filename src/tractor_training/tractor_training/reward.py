"""What driving is worth: computed by the trainer from raw experience, from what a rover itself has.

Progress is the speed of the odometry, as far as the way ahead is free. The tracks may turn on the
spot, rock, or push against a wall: none of it pays, which tests hold.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
from numpy.typing import NDArray

from tractor_core import parameters
from tractor_core.clearance import room, seen_from, time_to_contact
from tractor_core.contract import CHANNELS, PROPRIO_NAMES, Contract
from tractor_core.experience import EXECUTED, Chunk, unpack_grids
from tractor_core.parameters import param
from tractor_core.robot import Robot

# The weights count for so long; ticks of another length count in proportion.
DECISION_S = 0.1
# Of what the camera saw is kept in mind so much, so far around the rover.
REMEMBERED_EVERY_S, REMEMBERED_M = 0.3, 1.5
LINEAR, ANGULAR = PROPRIO_NAMES.index("cur_lin"), PROPRIO_NAMES.index("cur_ang")
TERMS = ("progress", "clearance", "turning", "jerk", "contact")


@dataclasses.dataclass(frozen=True)
class RewardParameters:
    """Weights, for a tenth of a second each."""

    progress: float = param("Of full speed ahead into a free way.", 1.0, minimum=0.0, maximum=100.0)
    backward: float = param("Full speed backwards costs so much.", 1.0, minimum=0.0, maximum=100.0)
    free_way_m: float = param(
        "Progress counts whole where the way ahead is free for so far, m.",
        0.45, minimum=0.1, maximum=10.0,
    )  # fmt: skip
    blocked_way_m: float = param(
        "It counts nothing where it is free for less, m.", 0.05, minimum=0.0, maximum=5.0
    )
    clearance: float = param("Of touching something, in all.", 0.5, minimum=0.0, maximum=100.0)
    clearance_m: float = param(
        "Nearness costs from here on, with its square, m.", 0.25, minimum=0.01, maximum=5.0
    )
    turning: float = param("Of a radian a second.", 0.1, minimum=0.0, maximum=100.0)
    jerk: float = param("Of a change of an action by one.", 0.05, minimum=0.0, maximum=100.0)
    contact: float = param("Of a contact, which ends the episode.", 5.0, minimum=0.0, maximum=1e3)
    contact_m: float = param("So near is a contact, m.", 0.03, minimum=0.0, maximum=1.0)
    remembered_s: float = param(
        "So long an obstacle that has left the camera's view is kept in mind, s.",
        5.0, minimum=0.0, maximum=60.0,
    )  # fmt: skip

    def problems(self) -> list[str]:
        """Return what does not fit, one sentence each."""
        if self.blocked_way_m >= self.free_way_m:
            return [
                f"blocked_way_m: expected less than free_way_m, {self.free_way_m}, found "
                f"{self.blocked_way_m}"
            ]
        return []

    @property
    def digest(self) -> str:
        """sha256 (hex) of the weights: what a model was made to reach."""
        text = json.dumps(parameters.canonical(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Rewards:
    """What the steps of a chunk are worth.

    Attributes:
        terms: (n,) float32 each, by the names of TERMS; their sum is the reward.
        contact: (n,) bool; the episode ends with the first.
    """

    terms: dict[str, NDArray[np.float32]]
    contact: NDArray[np.bool_]

    @property
    def total(self) -> NDArray[np.float32]:
        """The rewards, (n,) float32."""
        return np.sum([*self.terms.values()], axis=0, dtype=np.float32)


class Judge:
    """Says what steps are worth, and remembers what the camera saw.

        judge = Judge(RewardParameters(), contract, robot)
        for chunk in chunks:  # of one session in their order
            rewards = judge.rewards(chunk).total

    A chunk that does not follow on the one before is judged without memory.
    """

    def __init__(self, parameters: RewardParameters, contract: Contract, robot: Robot) -> None:
        self._parameters, self._contract, self._robot = parameters, contract, robot
        self._follows: tuple[str, int, int] | None = None
        # (stamp in ns, points in odom), the oldest first.
        self._memory: list[tuple[int, NDArray[np.float64]]] = []

    def rewards(self, chunk: Chunk) -> Rewards:
        """Return what a chunk's steps are worth."""
        if (chunk.session, chunk.episode, chunk.first) != self._follows:
            self._memory = []
        self._follows = (chunk.session, chunk.episode, chunk.first + len(chunk))
        own, rows = self._parameters, chunk.rows
        near_m, way_m = self._surroundings(chunk)
        near_m, way_m = near_m[1:], way_m[1:]
        share = (np.diff(rows["stamp_ns"]) * 1e-9 / DECISION_S).astype(np.float64)
        after = rows["proprio"][1:].astype(np.float64)
        speed = after[:, LINEAR] / self._robot.max_linear_speed
        free = np.clip((way_m - own.blocked_way_m) / (own.free_way_m - own.blocked_way_m), 0.0, 1.0)
        close = np.maximum(0.0, own.clearance_m - near_m) / own.clearance_m
        before = rows["proprio"][:-1, EXECUTED]
        contact = near_m <= own.contact_m
        contact[-1] |= chunk.end == "contact"
        ahead = np.where(contact, 0.0, own.progress * np.maximum(speed, 0.0) * free)
        terms = {
            "progress": share * (ahead + own.backward * np.minimum(speed, 0.0)),
            "clearance": -share * own.clearance * close**2,
            "turning": -share * own.turning * np.abs(after[:, ANGULAR]),
            "jerk": -own.jerk * np.abs(chunk.executed - before).mean(axis=1),
            "contact": -own.contact * contact,
        }
        return Rewards({k: v.astype(np.float32) for k, v in terms.items()}, contact)

    def _surroundings(self, chunk: Chunk) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the clearance and the free way ahead at each observation, (n + 1,) m."""
        grids = unpack_grids(chunk.grids, self._contract)
        poses = chunk.rows["pose"].astype(np.float64)
        near_m, way_m = np.empty(len(grids)), np.empty(len(grids))
        for i, (grid, stamp_ns) in enumerate(zip(grids, chunk.rows["stamp_ns"])):
            seen = self._contract.middles(grid.any(axis=0))
            points = np.concatenate([seen, self._remembered(int(stamp_ns), poses[i])])
            near_m[i] = room(points, self._robot).min(initial=REMEMBERED_M)
            way_m[i] = time_to_contact(points, self._robot, 1.0, 0.0).min(initial=REMEMBERED_M)
            self._remember(grid[CHANNELS.index("depth")], int(stamp_ns), poses[i])
        return near_m, way_m

    def _remember(self, cells: NDArray, stamp_ns: int, pose: NDArray[np.float64]) -> None:
        # By the clock, so that it is the same whatever was judged before.
        every_ns = round(REMEMBERED_EVERY_S * 1e9)
        if self._memory and stamp_ns // every_ns == self._memory[-1][0] // every_ns:
            return
        points = self._contract.middles(cells)
        points = points[(points**2).sum(axis=1) <= REMEMBERED_M**2]
        cos, sin = np.cos(pose[2]), np.sin(pose[2])
        in_odom = points @ np.array([[cos, sin], [-sin, cos]]) + pose[:2]
        self._memory.append((stamp_ns, in_odom))

    def _remembered(self, stamp_ns: int, pose: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what was seen lately as it lies now, (n, 2) m in base_link."""
        oldest_ns = stamp_ns - round(self._parameters.remembered_s * 1e9)
        self._memory = [part for part in self._memory if part[0] >= oldest_ns]
        if not self._memory:
            return np.empty((0, 2))
        points = np.concatenate([points for _, points in self._memory])
        return seen_from(points, *pose[:, None])[0]
