"""The loop of learning in one command: drive, learn, judge, convert, drive with what was learnt.

Starts a nats-server with the training server, simulated rovers without ROS that send experience
faster than real time, and one rover of real ROS nodes that explores, sends its own, and takes each
model that passes the gate in INT8 while it drives. Learning begins with random heads behind the
encoder of the reference actor, which was learnt by imitation. At the end the best model and the
random one are judged in worlds that nothing else used, and summary.json and report.html written.

Exit codes: 0 done, 1 a step failed (the message says which, and where its log is), 2 usage,
130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import json
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tractor_core import contract as contract_module
from tractor_core import outside, paths
from tractor_core.files import replace_file
from tractor_core.text import printable
from tractor_training.candidates import CANDIDATES
from tractor_training.learning import MODELS
from tractor_training.serve import RUN_FOLDER
from tractor_training.server import LATEST

from .. import stages
from ..domain import set_ros_environment
from ..processes import Processes, StepError
from . import report
from .monitor import Monitor
from .tally import Tally

MARKER, SETUP = ".made_by_learn", "make training"
PARTS = (
    "server_data", "rovers", "experience", "calibration_data", "models", "logs", "training.yaml",
    "summary.json", "report.html",
)  # fmt: skip
# Of evaluation: neither training, nor the gate, nor the demo draw them.
JUDGED_FROM = 1_000_000
WORLD = 2_000_107
# Of a judgement.
FIGURES = ("mean_m", "free_runs", "runs", "collisions")
# The rover's nodes come before all else.
BACKGROUND = 19
START_LIMIT_S, END_LIMIT_S, SWAP_LIMIT_S, LOOK_S = 120.0, 180.0, 300.0, 2.0


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run: minutes of learning, then so many worlds for the best and the random actor.

    A candidate is judged after `every` decisions, in `gate_worlds` of `gate_seconds` each.
    """

    output: Path
    params: Path
    minutes: float
    seed: int
    worlds: int
    first_worlds: int
    every: int
    gate_worlds: int
    gate_seconds: float

    @property
    def logs(self) -> Path:
        """The folder of the logs."""
        return self.output / "logs"

    @property
    def run(self) -> Path:
        """The folder of what the training server learns."""
        return self.output / "server_data" / RUN_FOLDER

    @property
    def drives(self) -> Path:
        """The model that the rover of ROS nodes drives with."""
        return self.output / "models" / "remote_trained.rknn"


def _configuration(options: Options, port: int) -> str:
    """Return what differs from config/training.yaml: it is to be done in minutes, on two cores."""
    return (
        f"server: {{nats_port: {port}, tensorboard_port: 0, checkpoint_s: 15.0}}\n"
        "start: {keep_heads: false}\n"
        f"learner: {{seed: {options.seed}}}\n"
        f"gate: {{every_decisions: {options.every}, worlds: {options.gate_worlds}, "
        f"seconds: {options.gate_seconds}}}\n"
    )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def run(options: Options) -> None:
    """Run the whole loop."""
    step = functools.partial(stages.step, output=options.output, installs=SETUP)
    started_s = time.monotonic()
    contract_module.load(options.params)
    stages.empty(options.output, MARKER, PARTS, "make learn")
    for part in ("models", "logs"):
        (options.output / part).mkdir()
    with contextlib.ExitStack() as stack:
        with step("1/5 starting the training server, and a rover with a random actor"):
            set_ros_environment()
            monitor = stack.enter_context(contextlib.closing(Monitor()))
            processes = stack.enter_context(
                contextlib.closing(Processes(options.params, options.logs))
            )
            address = _start_server(options, processes)
            first = options.output / "models" / "random_heads.onnx"
            first.write_bytes((options.run / LATEST).read_bytes())
            _convert_first(options, first)
            _start_rover(options, processes, monitor, address)
        with step(f"2/5 learning for {options.minutes:g} minutes"):
            processes.start_behind(
                "rovers", BACKGROUND, "-m", "tractor_training", "rovers", "--nats", address,
                "--model", str(options.run / LATEST), "--spool",
                str(options.output / "rovers"), "--params", str(options.params),
            )  # fmt: skip
            learning_s = _learn(options, processes, monitor)
            processes.stop("rovers")
        with step("3/5 waiting until the rover drives with the last model that passed"):
            _settle(options, processes)
            missed = monitor.missed
            # It stands from here on; what it experienced still goes to the learner.
            processes.stop("sim")
            tally = _deliver(options, processes)
        processes.stop()
    with step(f"4/5 judging in {options.worlds} worlds that nothing else used"):
        best = options.run / MODELS / f"{tally.names[-1]}.onnx"
        last = judge(options, best, options.worlds)
        begin = judge(options, first, options.first_worlds)
    with step("5/5 writing the report"):
        summary = report.summarise(
            options.output, options.run, tally, learning_s, missed, time.monotonic() - started_s,
            {"first": begin, "last": last, "imitation": imitation(options)},
        )  # fmt: skip
        page = report.render(summary)
        replace_file(options.output / "summary.json", json.dumps(summary, indent=2) + "\n")
        replace_file(options.output / "report.html", page)
    print(report.table(summary))
    output = printable(options.output)
    print(f"report: {output}/report.html   figures: {output}/summary.json")


def _start_server(options: Options, processes: Processes) -> str:
    """Start the training server; return its address once it has an actor."""
    port = _free_port()
    replace_file(options.output / "training.yaml", _configuration(options, port))
    processes.start_behind(
        "trainer", BACKGROUND, "-m", "tractor_training", "serve", "--config",
        str(options.output / "training.yaml"), "--folder", str(options.run.parent),
        "--params", str(options.params),
    )  # fmt: skip
    end_s = time.monotonic() + START_LIMIT_S
    while not (options.run / LATEST).exists():
        processes.check()
        if time.monotonic() > end_s:
            raise StepError(f"the training server is not ready; {processes['trainer'].tail()}")
        time.sleep(0.1)
    return f"nats://127.0.0.1:{port}"


def _convert_first(options: Options, actor: Path) -> None:
    """Give the rover something to begin with: there are no samples yet, so it is FP16."""
    command = ["-m", "tractor_calibration", "convert", str(actor), "--params", str(options.params)]
    with contextlib.closing(Processes(options.params, options.logs)) as processes:
        processes.answer("convert", *command, "--json")


def _start_rover(options: Options, processes: Processes, monitor: Monitor, address: str) -> None:
    """Start the rover of real nodes in a simulated world, and wait until it drives."""
    folders = {
        "experience_dir": str(options.output / "experience"),
        "calibration_dir": str(options.output / "calibration_data"),
    }
    processes.start_node("bev_builder", "tractor_inference.nodes.bev_builder_node")
    processes.start_node(
        "sac_actor", "tractor_inference.nodes.sac_actor_node", backend="rknn_sim",
        model=str(options.drives), watch_model=True, explore=True, enable_stamped_cmd_vel=True,
        **folders,
    )  # fmt: skip
    # Nobody is there to release a rover that is stuck.
    processes.start_node(
        "cmd_guard", "tractor_inference.nodes.cmd_guard_node", enable_stamped_cmd_vel=True,
        stuck_stop_s=0.0,
    )  # fmt: skip
    processes.start_node(
        "rover_link", "tractor_link.nodes.rover_link_node", address=address, rover="ros_rover",
        models_dir=str(options.output / "models"), params_file=str(options.params),
        accept_warnings=True, **folders,
    )  # fmt: skip
    processes.start_node(
        "sim", "tractor_sim.nodes.sim_node", world_seed=WORLD, enable_stamped_cmd_vel=True
    )
    end_s = time.monotonic() + START_LIMIT_S
    while not monitor.drove:
        processes.check()
        if time.monotonic() > end_s:
            raise StepError(f"the rover does not drive; {processes['sac_actor'].tail()}")
        time.sleep(0.1)


def _learn(options: Options, processes: Processes, monitor: Monitor) -> float:
    """Wait while it learns, with a word every half minute; return for how long, s."""
    begun_s = told_s = time.monotonic()
    while (passed_s := time.monotonic() - begun_s) < 60.0 * options.minutes:
        processes.check()
        if time.monotonic() - told_s >= 30.0:
            told_s = time.monotonic()
            judged = report.candidates(options.run)
            best = max((c for c in judged if c["passed"]), key=lambda c: c["time"], default=None)
            reached = f"{best['name']}: {best['mean_m']:.1f} m" if best else "none passed yet"
            print(
                f"  {passed_s / 60:.1f} min, {len(judged)} candidates, {reached}, "
                f"{monitor.missed} ticks missed",
                flush=True,
            )
        time.sleep(0.5)
    return time.monotonic() - begun_s


def _settle(options: Options, processes: Processes) -> None:
    """Wait until the rover drives with the last model that passed.

    Raises:
        StepError: none passed, or it does not drive with it in time.
    """
    end_s = time.monotonic() + SWAP_LIMIT_S
    while not (tally := Tally.of(options.output, options.run)).drives_last:
        processes.check()
        if time.monotonic() > end_s:
            if not tally.names:
                raise StepError(
                    f"no candidate passed in {options.minutes:g} minutes; each is in "
                    f"{options.run / CANDIDATES}"
                )
            raise StepError(
                f"the rover does not drive with {tally.names[-1]}; {processes['rover_link'].tail()}"
            )
        time.sleep(LOOK_S)


def _deliver(options: Options, processes: Processes) -> Tally:
    """Wait until the learner has all that was experienced; return what it came to."""
    end_s = time.monotonic() + END_LIMIT_S
    while (tally := Tally.of(options.output, options.run)).lost and time.monotonic() < end_s:
        processes.check()
        time.sleep(LOOK_S)
    return tally


def judge(options: Options, model: Path, worlds: int) -> dict[str, Any]:
    """Drive an actor through the worlds of the evaluation; return its figures."""
    command = [
        "-m", "tractor_sim", "rollout", "--model", str(model), "--worlds", str(worlds),
        "--first-seed", str(JUDGED_FROM), "--params", str(options.params), "--json",
    ]  # fmt: skip
    with contextlib.closing(Processes(options.params, options.logs)) as processes:
        found = outside.json_value(processes.answer("rollout", *command))
    return {name: found[name] for name in FIGURES}


def imitation(options: Options) -> dict[str, Any]:
    """Return what the reference actor reaches there: kept, or measured where it is another."""
    actor = stages.REFERENCE_ACTOR
    kept = json.loads(Path(__file__).with_name("imitation.json").read_text())
    if (
        kept["sha256"] == hashlib.sha256(actor.read_bytes()).hexdigest()
        and kept["runs"] == options.worlds
        and kept["contract"] == contract_module.load(options.params).digest
    ):
        return {name: kept[name] for name in FIGURES}
    print("  the reference actor is another: it is measured anew")
    return judge(options, actor, options.worlds)


def _options(argv: Sequence[str] | None) -> Options:
    summary, details = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        prog="learn", description=summary, epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("learn_output"), metavar="DIR")
    parser.add_argument("--params", type=Path, metavar="YAML", help="shared parameter file")
    parser.add_argument("--minutes", type=float, default=11.0, help="of learning (default: 11)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and draws (default: 0)")
    parser.add_argument("--worlds", type=int, default=40, help="for the best (default: 40)")
    parser.add_argument("--first-worlds", type=int, default=12, help="for the random one")
    parser.add_argument("--every", type=int, default=5000, help="decisions between candidates")
    parser.add_argument("--gate-worlds", type=int, default=8, help="that each is judged in")
    parser.add_argument("--gate-seconds", type=float, default=30.0, help="in each of them")
    args = parser.parse_args(argv)
    if args.minutes <= 0 or min(args.worlds, args.first_worlds) < 1 or args.seed < 0:
        parser.error("--minutes and worlds: expected more than 0; --seed: 0 or more")
    params = args.params or paths.default_params_file()
    print(f"parameters: {params}", file=sys.stderr)
    return Options(
        args.output.absolute(), params, args.minutes, args.seed, args.worlds, args.first_worlds,
        args.every, args.gate_worlds, args.gate_seconds,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return stages.run("learn", lambda: run(_options(argv)))


if __name__ == "__main__":
    sys.exit(main())
