"""One world, driven with the guard or without it: metres, stops, and what was touched and why."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tractor_core.kinematics import STOP, Velocity, action_to_velocity
from tractor_core.observation import Observation
from tractor_inference.model import file as model_file
from tractor_inference.model.policy import Policy

from ..rollout import opened
from ..rover import MAX_ANGULAR_ACCEL_RAD_S2, MAX_LINEAR_ACCEL_M_S2
from ..senses import CONTROL_HZ, SCAN_EVERY_TICKS, Setup
from ..sensors import BodyPose
from ..simulation import Simulation
from ..world import TIGHT, Solid, Style, make_world
from .faults import FAULTS, Sensors
from .sight import MOVED, STOOD_M, Sight, touched_points, touches
from .software import Software, guard_parameters

TICK_S = 1.0 / CONTROL_HZ
# Of a camera of 30 Hz that much is enough: the guard counts how old an image is.
DEPTH_EVERY_TICKS = 3
# What the base takes from a command until it begins to follow: less than the guard's reaction_s.
DEAD_TICKS = 4
DEAD_S = DEAD_TICKS * TICK_S
# Every other world is a narrow room, the others are crowded.
CROWDED = Style((4.5, 7.0), obstacles=(10, 16), spawn_clearance_m=0.1)
STYLES = (TIGHT, CROWDED)
# A random actor holds a command for so long: both tracks at full speed, or one of them slower.
HELD_TICKS = (15, 120)
TRACKS = (
    (1, 1), (1, 1), (1, 1), (-1, -1), (-1, -1), (1, -1), (-1, 1), (1, 0.3), (0.3, 1), (-1, -0.3),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Task:
    """A drive to make: `model` None is the random actor, `fault` a name of FAULTS."""

    seed: int
    seconds: float
    params_file: str
    fault: str
    model: str | None = None
    guarded: bool = True


@dataclasses.dataclass(frozen=True)
class Contact:
    """What the rover ran into; `unseen`: why no sensor could see it, None if one could."""

    time_s: float
    x_m: float
    y_m: float
    unseen: str | None


@dataclasses.dataclass(frozen=True)
class Drive:
    """What came of a task.

    `stood` is the share of the time in which the guard let nothing pass, `visits` how often
    somebody stepped in.
    """

    task: Task
    distance_m: float
    contacts: tuple[Contact, ...]
    stops: int
    stood: float
    visits: int


class _Tick(NamedTuple):
    """How it was at the start of a tick; speeds are those of the tick before, over ground."""

    pose: BodyPose
    way_m: float
    turn_rad: float
    speed_m_s: float
    rate_rad_s: float
    walker: Solid | None
    scanned: bool
    imaged: bool
    camera_sees: bool


def drive(task: Task) -> Drive:
    """Drive one world at 30 Hz."""
    setup, own = Setup.load(task.params_file), guard_parameters(task.params_file)
    fault = FAULTS[task.fault]
    world = make_world(task.seed, STYLES[task.seed % len(STYLES)])
    simulation = Simulation(task.seed, setup.robot, world, fault.with_walker)
    fault_rng, driver_rng = (np.random.default_rng([task.seed, 4 + part]) for part in range(2))
    sensors = Sensors(simulation, fault, task.seconds, fault_rng)
    software = Software(setup, dataclasses.replace(own, obstacle_stop=task.guarded))
    act, watches = _driver(task, setup, driver_rng)
    watches = watches or task.guarded
    judge = Judge(simulation, setup)
    on_the_way = collections.deque([STOP] * DEAD_TICKS)
    ticks = max(1, round(task.seconds * CONTROL_HZ))
    stops = stood = 0
    stopped = True
    for tick in range(ticks):
        now_s = simulation.time_s
        scanned = tick % SCAN_EVERY_TICKS == task.seed % SCAN_EVERY_TICKS
        imaged = tick % DEPTH_EVERY_TICKS == 0
        judge.note(scanned, imaged, sensors.camera_sees)
        observation = None
        if watches:
            software.take_odometry(simulation.odom(), now_s)
            if scanned:
                sensors.measure_scan()
            for measured_s, scan in sensors.scans():
                software.take_scan(scan, measured_s, now_s)
            if imaged:
                observation = software.take_depth(sensors.depth(), now_s)
        velocity = act(tick, observation)
        if velocity is not None:
            software.guard.take_actor(velocity, now_s)
        on_the_way.append(software.decide(now_s))
        was, stopped = stopped, software.guard.reason is not None
        stops, stood = stops + (stopped and not was), stood + stopped
        simulation.step(*on_the_way.popleft(), TICK_S)
        judge.look()
    visits = 0 if simulation.walker is None else simulation.walker.visits
    contacts = tuple(judge.contacts)
    return Drive(task, simulation.distance_m, contacts, stops, stood / ticks, visits)


def _driver(
    task: Task, setup: Setup, rng: np.random.Generator
) -> tuple[Callable[[int, Observation | None], Velocity | None], bool]:
    """Return what gives the command of a tick, if any, and whether it needs the sensors."""
    if task.model is None:
        commands: list[Velocity] = []
        while len(commands) <= task.seconds * CONTROL_HZ:
            action = np.array(TRACKS[rng.integers(len(TRACKS))], np.float32)
            velocity = action_to_velocity(action, setup.contract, setup.robot)
            commands += [velocity] * int(rng.integers(*HELD_TICKS))
        return lambda tick, _: commands[tick], False
    backend = opened("auto", task.model, model_file.stamp(Path(task.model)), setup.contract)
    policy = Policy(setup.contract, setup.robot, backend)
    return lambda _, seen: None if seen is None else policy.step(seen).velocity, True


class Judge:
    """Remembers the drive, and says of each contact whether a sensor could see it in time."""

    def __init__(self, simulation: Simulation, setup: Setup) -> None:
        self._simulation, self._setup = simulation, setup
        self._ticks: list[_Tick] = []
        self._sight: Sight | None = None
        self.contacts: list[Contact] = []

    def note(self, scanned: bool, imaged: bool, camera_sees: bool) -> None:
        """Note how it is at the start of a tick."""
        pose, walker = self._simulation.pose, self._simulation.walker
        step_m = step_rad = way_m = turn_rad = 0.0
        if self._ticks:
            last = self._ticks[-1]
            step_m = math.hypot(pose.x_m - last.pose.x_m, pose.y_m - last.pose.y_m)
            step_rad = abs(math.remainder(pose.yaw_rad - last.pose.yaw_rad, 2.0 * math.pi))
            way_m, turn_rad = last.way_m + step_m, last.turn_rad + step_rad
        self._ticks.append(_Tick(
            pose, way_m, turn_rad, step_m / TICK_S, step_rad / TICK_S,
            None if walker is None else walker.solid, scanned, imaged, camera_sees,
        ))  # fmt: skip

    def look(self) -> None:
        """Judge what the step since then ran into."""
        self.contacts += [self._judged(solid) for solid in self._simulation.struck]

    def _judged(self, solid: Solid) -> Contact:
        simulation, setup = self._simulation, self._setup
        touched = touched_points(solid, simulation.pose, setup.robot)
        before = self._ticks[: self._last_chance() + 1]
        # What was measured last is what that decision went by.
        scan = next((tick for tick in reversed(before) if tick.scanned), before[0])
        image = next((tick for tick in reversed(before) if tick.imaged), before[0])
        then = scan.walker
        if (
            simulation.walker is not None and then is not None and solid is simulation.walker.solid
            and math.hypot(then.x_m - solid.x_m, then.y_m - solid.y_m) > STOOD_M
            and not touches(then, simulation.pose, setup.robot)
        ):  # fmt: skip
            unseen: str | None = MOVED
        else:
            if self._sight is None:
                self._sight = Sight(simulation.world, setup.robot, setup.builder, then)
            unseen = self._sight.unseen(
                solid, touched, scan.pose, image.pose, image.camera_sees, then
            )
        x_m, y_m = touched.mean(axis=0).tolist()
        return Contact(simulation.time_s, x_m, y_m, unseen)

    def _last_chance(self) -> int:
        """Return the last tick at which a stop would have ended short of where the rover is now.

        What was commanded before it is still executed, then the base brakes.
        """
        ticks = self._ticks
        way_m = ticks[-1].way_m
        turn_rad = ticks[-1].turn_rad
        for index in range(len(ticks) - 1, DEAD_TICKS, -1):
            tick = ticks[index]
            if (
                way_m - tick.way_m >= tick.speed_m_s**2 / (2.0 * MAX_LINEAR_ACCEL_M_S2)
                and turn_rad - tick.turn_rad
                >= tick.rate_rad_s**2 / (2.0 * MAX_ANGULAR_ACCEL_RAD_S2)
            ):  # fmt: skip
                return index - DEAD_TICKS
        return 0
