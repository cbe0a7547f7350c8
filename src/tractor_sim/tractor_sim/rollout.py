"""Closed-loop runs in the simulator: how far does a policy drive, and what does it hit?

`python -m tractor_sim rollout --model MODEL` measures an actor, `--expert` its teacher.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tractor_core import cli as commands
from tractor_core.errors import SensorError, TractorError
from tractor_core.kinematics import STOP, Velocity, action_to_velocity
from tractor_core.text import printable_message
from tractor_inference.model.backends import Backend, open_backend
from tractor_inference.model.policy import Policy

from .expert import Expert
from .senses import CONTROL_HZ, SCAN_EVERY_TICKS, Senses, Setup
from .simulation import Simulation

# Worlds that no training run has drawn: training seeds stay below.
FIRST_UNSEEN_SEED = 1_000_000

log = logging.getLogger(__name__)

Job = TypeVar("Job")
Result = TypeVar("Result")


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
        backend = open_backend(task.backend, Path(task.model), setup.contract)
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
        senses.executed(decision.action)
        return decision.velocity

    return act


def in_processes(
    work: Callable[[Job], Result], jobs: Iterable[Job], processes: int
) -> Iterator[Result]:
    """Yield the results of all jobs in order, worked off by so many fresh processes.

    Whatever ends it ends them too; an interrupt is for the caller alone to hear.
    """
    import multiprocessing
    import signal
    from concurrent.futures import ProcessPoolExecutor

    # Not fork: the parent may hold threads of torch or onnxruntime.
    context = multiprocessing.get_context("spawn")
    silence = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(processes, context, signal.signal, silence) as pool:
        try:
            with commands.uninterrupted():  # a worker that is half started would show a traceback
                results = [pool.submit(work, job) for job in jobs]
            for result in results:
                yield result.result()
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            raise


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Figures of many runs: metres of the mean and the least, runs without a collision, ticks."""

    runs: int
    seconds: float
    mean_m: float
    least_m: float
    free_runs: int
    collisions: int
    blind_ticks: int


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
    tasks = [
        Task(seed, seconds, params_file, model, backend)
        for seed in range(first_seed, first_seed + worlds)
    ]
    runs = []
    for result in in_processes(run, tasks, processes):
        log.info(
            "world %d: %.2f m, %d collisions, %d ticks without an observation",
            result.seed, result.distance_m, result.collisions, result.blind_ticks,
        )  # fmt: skip
        runs.append(result)
    distances_m = [result.distance_m for result in runs]
    return Verdict(
        runs=len(runs),
        seconds=seconds,
        mean_m=float(np.mean(distances_m)),
        least_m=min(distances_m),
        free_runs=sum(result.collisions == 0 for result in runs),
        collisions=sum(result.collisions for result in runs),
        blind_ticks=sum(result.blind_ticks for result in runs),
    )


@commands.printing
def main(argv: list[str] | None = None) -> int:
    """Measure a policy in closed loop.

    Exit status: 0 measured, 1 could not be, 2 wrong usage, 130 interrupted.
    """
    parser = argparse.ArgumentParser(prog="python -m tractor_sim rollout", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", help="actor to measure")
    which.add_argument("--expert", action="store_true", help="measure the teacher")
    parser.add_argument("--backend", default="auto", help="how to run the model")
    parser.add_argument("--worlds", type=int, default=40, help="number of worlds")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a run")
    parser.add_argument("--first-seed", type=int, default=FIRST_UNSEEN_SEED, help="first world")
    parser.add_argument("--processes", type=int, default=2, help="runs at the same time")
    parser.add_argument("--params", help="shared parameter file")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args(argv)
    if min(arguments.worlds, arguments.processes) < 1 or arguments.seconds <= 0:
        parser.error("--worlds, --processes and --seconds: expected more than 0")
    commands.set_up_log("%(message)s")
    try:
        verdict = judge(
            arguments.model,
            str(commands.params_file(arguments.params)),
            arguments.worlds,
            arguments.seconds,
            arguments.first_seed,
            arguments.processes,
            arguments.backend,
        )
    except TractorError as error:
        print(printable_message(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return commands.INTERRUPTED
    if arguments.json:
        print(json.dumps(dataclasses.asdict(verdict)))
    else:
        print(summary(verdict))
    return 0


def summary(verdict: Verdict) -> str:
    """Return the figures as one line."""
    return (
        f"{verdict.free_runs} of {verdict.runs} runs of {verdict.seconds:g} s without a collision, "
        f"{verdict.collisions} collisions, mean {verdict.mean_m:.2f} m, "
        f"least {verdict.least_m:.2f} m, {verdict.blind_ticks} ticks without an observation"
    )


if __name__ == "__main__":
    sys.exit(main())
