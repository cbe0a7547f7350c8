"""Closed-loop runs in the simulator: how far does a policy drive, and what does it hit?

`--model MODEL` measures an actor, `--expert` its teacher, and `--compare A B` two of them in the
same worlds. A run of 60 s takes about half a minute of one core. Of one it prints for instance
  39 of 40 runs of 60 s without a collision, 1 collisions, mean 9.01 m, least 5.87 m in world ...
and of two a table with the means of both and the 95 % interval of their difference over the worlds:
where 0 lies within it, chance may have made the difference. --json has each world's figures too.

Exit codes:
  0  measured
  1  could not be measured, or the picture not be written
  2  wrong usage
  130  interrupted
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tractor_core import cli as commands
from tractor_core.contract import Contract
from tractor_core.errors import SensorError
from tractor_core.kinematics import STOP, Velocity, action_to_velocity
from tractor_core.text import printable
from tractor_inference.model import file as model_file
from tractor_inference.model.backends import Backend, open_backend
from tractor_inference.model.policy import Policy

from . import comparison
from .expert import Expert
from .senses import CONTROL_HZ, SCAN_EVERY_TICKS, Senses, Setup
from .simulation import Simulation
from .workers import ENDS, ended_by, in_processes

# Worlds that no training run has drawn: training seeds stay below.
FIRST_UNSEEN_SEED = 1_000_000
# How --compare names the teacher.
EXPERT = "expert"
MAX_SECONDS = 86400.0

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Run:
    """What one closed-loop run reached; `trajectory` is (ticks, 4): x_m, y_m, yaw_rad, t_s.

    `blind_ticks` are those on which there was no observation, so that the rover was stopped.
    """

    seed: int
    distance_m: float
    collisions: int
    blind_ticks: int
    trajectory: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Task:
    """One run to make: `model` None lets the expert drive."""

    seed: int
    seconds: float
    params_file: str
    model: str | None = None
    backend: str = "auto"


def run(task: Task) -> Run:
    """Drive one world at 30 Hz with the full depth image and return what came of it."""
    setup = Setup.load(task.params_file)
    simulation = Simulation(task.seed, setup.robot)
    act: Callable[[], Velocity | None]
    if task.model is None:
        act = _expert(simulation, setup)
    else:
        stamp = model_file.stamp(Path(task.model))
        backend = opened(task.backend, task.model, stamp, setup.contract)
        act = _actor(simulation, setup, task.seed % SCAN_EVERY_TICKS, backend)
    trajectory, blind_ticks = [], 0
    for _ in range(round(task.seconds * CONTROL_HZ)):
        velocity = act()
        blind_ticks += velocity is None
        simulation.step(*(velocity or STOP), 1.0 / CONTROL_HZ)
        trajectory.append((*simulation.pose, simulation.time_s))
    return Run(
        task.seed, simulation.distance_m, simulation.collisions, blind_ticks, np.array(trajectory)
    )


@functools.lru_cache(maxsize=2)
def opened(kind: str, model: str, stamp: model_file.Stamp, contract: Contract) -> Backend:
    """Open a model once for all worlds of a process: the toolkit's simulator takes seconds."""
    return open_backend(kind, Path(model), contract)


def _expert(simulation: Simulation, setup: Setup) -> Callable[[], Velocity]:
    expert = Expert(setup.robot)
    action = np.zeros(2, np.float32)

    def act() -> Velocity:
        nonlocal action
        action = expert.act(simulation.privileged_scan(), float(action[1] - action[0]) / 2)
        return action_to_velocity(action, setup.contract, setup.robot)

    return act


def _actor(
    simulation: Simulation, setup: Setup, phase: int, backend: Backend
) -> Callable[[], Velocity | None]:
    """Return what gives the command of each tick, None where the rover stops for want of one."""
    senses = Senses(simulation, setup, phase)
    policy = Policy(setup.contract, setup.robot, backend)

    def act() -> Velocity | None:
        senses.tick()
        try:
            decision = policy.step(senses.observe())
        except SensorError as error:
            log.debug("t = %.2f s: %s", simulation.time_s, error)
            senses.stop()
            return None
        senses.executed(decision.velocity)
        return decision.velocity

    return act


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Figures of many runs: metres of the mean and the least, runs without a collision, ticks.

    `least_world` is the seed of the world in which it drove least.
    """

    runs: int
    seconds: float
    mean_m: float
    least_m: float
    least_world: int
    free_runs: int
    collisions: int
    blind_ticks: int

    @classmethod
    def of(cls, runs: Sequence[Run], seconds: float) -> Verdict:
        """Return the figures of runs of so many seconds."""
        least = min(runs, key=lambda run: run.distance_m)
        return cls(
            runs=len(runs),
            seconds=seconds,
            mean_m=float(np.mean([run.distance_m for run in runs])),
            least_m=least.distance_m,
            least_world=least.seed,
            free_runs=sum(run.collisions == 0 for run in runs),
            collisions=sum(run.collisions for run in runs),
            blind_ticks=sum(run.blind_ticks for run in runs),
        )


def judge(
    model: str | None,
    params_file: str,
    worlds: int = 40,
    seconds: float = 60.0,
    first_seed: int = FIRST_UNSEEN_SEED,
    processes: int = 2,
    backend: str = "auto",
) -> Verdict:
    """Drive so many worlds with a model, or with the expert when it is None."""
    seeds = range(first_seed, first_seed + worlds)
    tasks = [Task(seed, seconds, params_file, model, backend) for seed in seeds]
    return Verdict.of(drive(tasks, processes), seconds)


def drive(tasks: Sequence[Task], processes: int) -> list[Run]:
    """Make the runs, so many at the same time."""
    runs = []
    for task, result in zip(tasks, in_processes(run, tasks, processes)):
        log.info(
            "world %d, %s: %.2f m, %d collisions, %d ticks without an observation",
            result.seed, task.model or EXPERT, result.distance_m, result.collisions,
            result.blind_ticks,
        )  # fmt: skip
        runs.append(result)
    return runs


def add_options(parser: argparse.ArgumentParser, worlds: int, seconds: float) -> None:
    """Let a command be told which worlds to drive, for how long, in how many processes."""
    for name, kind, default, text in (
        ("--worlds", int, worlds, "how many (default: {})"),
        ("--seconds", float, seconds, "length of a run (default: {:g})"),
        ("--first-seed", int, FIRST_UNSEEN_SEED,
         "first world (default: {}; training draws none from there on)"),
        ("--processes", int, 2, "runs at the same time (default: {})"),
    ):  # fmt: skip
        parser.add_argument(name, type=kind, default=default, help=text.format(default))


def seeds_of(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> range:
    """Return the seeds of the worlds; what `add_options` was given wrong is wrong usage."""
    if min(arguments.worlds, arguments.processes) < 1 or not 0 < arguments.seconds <= MAX_SECONDS:
        parser.error(
            "--worlds, --processes and --seconds: expected more than 0, and at most "
            f"{MAX_SECONDS:g} s"
        )
    if arguments.first_seed < 0:
        parser.error(f"--first-seed: expected 0 or more, found {arguments.first_seed}")
    return range(arguments.first_seed, arguments.first_seed + arguments.worlds)


def all_there(models: Sequence[str | None]) -> bool:
    """Return whether each model is a file, and say on standard error which is none."""
    for model in models:
        if model is not None and not Path(model).is_file():
            print(f"{printable(model)}: expected a model, found no such file", file=sys.stderr)
            return False
    return True


@commands.printing
def main(argv: list[str] | None = None) -> int:
    """Measure a policy in closed loop and return the exit code."""
    parser = commands.make_parser("rollout", __doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", help="actor to measure")
    which.add_argument("--expert", action="store_true", help="measure the teacher")
    which.add_argument(
        "--compare", nargs=2, metavar=("A", "B"),
        help=f"compare two in the same worlds: models, or {EXPERT!r}",
    )  # fmt: skip
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="with --compare: a picture")
    parser.add_argument(
        "--backend", default="auto",
        help="how to run the model (default: auto, by its suffix and the machine)",
    )  # fmt: skip
    add_options(parser, worlds=40, seconds=60.0)
    arguments = parser.parse_args(argv)
    if arguments.plot is not None:
        if not arguments.compare:
            parser.error("--plot: is drawn of a comparison, with --compare")
        commands.require_output(parser, "--plot", arguments.plot, ".png", ".svg")
    seeds = seeds_of(parser, arguments)
    commands.set_up_log("%(message)s")
    drivers: list[str | None] = [arguments.model]
    if arguments.compare:
        drivers = [None if name == EXPERT else name for name in arguments.compare]
    if not all_there(drivers):
        return 1
    try:
        params_file = str(commands.params_file(arguments.params))
        tasks = [
            Task(seed, arguments.seconds, params_file, driver, arguments.backend)
            for driver in drivers
            for seed in seeds
        ]
        runs = drive(tasks, arguments.processes)
        if arguments.compare:
            return _compared(arguments, runs)
    except ENDS as error:
        return ended_by(error, arguments.plot or Path())
    verdict = Verdict.of(runs, arguments.seconds)
    if arguments.json:
        drives = [[run.seed, run.distance_m, run.collisions] for run in runs]
        print(json.dumps(dataclasses.asdict(verdict) | {"drives": drives}))
    else:
        print(summary(verdict))
    return 0


def _compared(arguments: argparse.Namespace, runs: Sequence[Run]) -> int:
    """Print the comparison of the first half of the runs with the second, and draw it."""
    names = [printable(Path(name).name) for name in arguments.compare]
    if names[0] == names[1]:
        names = [printable(name) for name in arguments.compare]
    first, second = names
    half = len(runs) // 2
    found = comparison.compare((first, second), runs[:half], runs[half:])
    print(json.dumps(found.as_json()) if arguments.json else comparison.table(found), flush=True)
    if arguments.plot is not None:
        comparison.plot(found, arguments.plot)
        if not arguments.json:
            print(f"written: {printable(arguments.plot)}")
    return 0


def summary(verdict: Verdict) -> str:
    """Return the figures as one line."""
    return (
        f"{verdict.free_runs} of {verdict.runs} runs of {verdict.seconds:g} s without a collision, "
        f"{verdict.collisions} collisions, mean {verdict.mean_m:.2f} m, "
        f"least {verdict.least_m:.2f} m in world {verdict.least_world}, "
        f"{verdict.blind_ticks} ticks without an observation"
    )


if __name__ == "__main__":
    sys.exit(main())
