"""The whole loop in one command: drive, sample, convert, drive again in INT8, compare.

Starts the simulated rover (or recorded sensors) and the suite's nodes as processes of their own,
drives with the ONNX actor until enough calibration samples are kept, converts the actor to INT8
with them, drives the same worlds with the INT8 model in the toolkit's simulator, and writes
summary.json and report.html.

Exit codes: 0 done, 1 a step failed (the message says which, and where its log is), 2 usage,
130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tractor_core import contract as contract_module
from tractor_core import outside, paths, samples
from tractor_core.cli import take_any_text
from tractor_core.errors import TractorError
from tractor_core.files import replace_file
from tractor_core.system_error import explain
from tractor_core.text import printable, printable_message

from . import demo_report
from .demo_report import Drive

REFERENCE_ACTOR = Path("models") / "sac_actor_reference.onnx"
# Any seeds do; none from here on are those that the reference actor was made or judged with.
FIRST_SEED = 2_000_001
WORLDS, MOST_WORLDS = 3, 11
MARKER = ".made_by_demo"
# As in the launch files: nothing may outlive the demo, however the demo ends.
STOP_WITH_DEMO = ("setpriv", "--pdeathsig", "INT")
# The ROS domains whose ports Linux keeps free, and the last one that has ports at all.
DOMAINS, LAST_DOMAIN = range(1, 102), 232
DOMAIN_DRAWS = 5
# Nodes of one machine find each other within a fraction of it.
LISTEN_S = 1.0
# Both drives take the same time; with fewer moving commands, in proportion, one was disturbed.
LEAST_SHARE = 0.5
# The toolkit's simulator builds its model anew before the actor is ready.
START_LIMIT_S = 120.0
STOP_LIMIT_S = 10.0
MAX_RESULT_BYTES = 64 * 1024 * 1024
PARTS = ("calibration_data", "models", "runs", "logs", "summary.json", "report.html")


class DemoError(TractorError):
    """A step of the demo failed."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run: simulated worlds of so many seconds each, or a folder of recordings."""

    output: Path
    params: Path
    actor: Path
    recordings: Path | None
    seconds: float
    wanted_samples: int


@dataclasses.dataclass(frozen=True)
class Scene:
    """A simulated world that writes its result and ends, or the recordings without end."""

    node: str
    parameters: dict[str, Any]
    note: str
    result_file: Path | None


class Processes:
    """Nodes and commands as processes of their own; each logs to a file and ends by SIGINT."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._running: dict[str, tuple[subprocess.Popen, Path]] = {}

    def start(self, name: str, *arguments: str, stdout: int | None = None) -> subprocess.Popen:
        """Start Python with these arguments; without `stdout` all output goes to the log."""
        folder = log_folder(self._options)
        log = folder / f"{len(os.listdir(folder)):02}_{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*STOP_WITH_DEMO, sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file if stdout is None else stdout,
                stderr=file,
            )
        self._running[name] = (process, log)
        return process

    def start_node(self, name: str, module: str, **parameters: Any) -> subprocess.Popen:
        """Start a node with the shared parameter file and overrides of its own parameters."""
        arguments = ["-m", module, "--ros-args"]
        arguments += ["--params-file", str(self._options.params.resolve())]
        for key, value in parameters.items():
            arguments += ["-p", f"{name}:{key}:={json.dumps(value)}"]
        return self.start(name, *arguments)

    def check(self, may_end: str = "") -> None:
        """Raise DemoError with the end of its log when one failed, or ended that should run."""
        for name, (process, log) in self._running.items():
            status = process.poll()
            if status is not None and (status != 0 or name != may_end):
                raise DemoError(f"{name} ended with status {status}; {tail(log)}")

    def log(self, name: str) -> Path:
        """Return the log of a running process."""
        return self._running[name][1]

    def tail(self, name: str) -> str:
        """Return the end of the log of a running process for an error message."""
        return tail(self.log(name))

    def stop(self, *names: str) -> None:
        """End the named nodes, or all, and wait for them."""
        chosen = {name: self._running.pop(name) for name in names or tuple(self._running)}
        for process, _ in chosen.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for name, (process, log) in chosen.items():
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                print(
                    f"{name} did not end within {STOP_LIMIT_S:.0f} s and was killed; {tail(log)}",
                    file=sys.stderr,
                )

    def close(self) -> None:
        """End all."""
        self.stop()


def log_folder(options: Options) -> Path:
    """Return the folder of the logs."""
    return options.output / "logs"


def tail(log: Path, lines: int = 15) -> str:
    """Return the end of a log for an error message."""
    last = log.read_text(errors="replace").splitlines()[-lines:]
    return "\n  ".join([f"the end of {log}:", *last])


class Monitor:
    """Listens to commands and diagnostics in a thread, as a base and an operator would."""

    def __init__(self) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from geometry_msgs.msg import TwistStamped
        from lifecycle_msgs.srv import GetState
        from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
        from rclpy.signals import SignalHandlerOptions

        self._rclpy, self._get_state = rclpy, GetState
        # Signals are the demo's: rclpy's own handlers would only end the monitor.
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("demo_monitor")
        self._node.create_subscription(TwistStamped, "cmd_vel", self._on_command, 10)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.latencies_ms: list[float] = []
        self.states: dict[str, str] = {}
        self.drift = ""
        self._clients: dict[str, Any] = {}
        executor = SingleThreadedExecutor()
        executor.add_node(self._node)

        def spin() -> None:
            with contextlib.suppress(ExternalShutdownException):
                executor.spin()

        self._thread = threading.Thread(target=spin, daemon=True)
        self._thread.start()

    def _on_command(self, message: Any) -> None:
        now_ns = time.time_ns()
        if message.twist.linear.x or message.twist.angular.z:
            stamp = message.header.stamp
            self.latencies_ms.append((now_ns - stamp.sec * 10**9 - stamp.nanosec) * 1e-6)

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            self.states[status.name] = status.message
            # The actor goes on saying it for as long as it holds; the last word counts.
            self.drift = next((v.value for v in status.values if v.key == "drift"), self.drift)

    def actor_state(self) -> str:
        """Return what the actor last said of itself, for an error message."""
        return f"the actor's last diagnostics: {self.states.get('sac_actor', 'none')}"

    def life_cycle_state(self, node: str) -> str:
        """Ask a managed node for its state, such as `active`; empty when none comes within 1 s."""
        if node not in self._clients:
            self._clients[node] = self._node.create_client(self._get_state, f"{node}/get_state")
        if not self._clients[node].wait_for_service(1.0):
            return ""
        answered = threading.Event()
        future = self._clients[node].call_async(self._get_state.Request())
        future.add_done_callback(lambda _: answered.set())
        return future.result().current_state.label if answered.wait(1.0) else ""

    def close(self) -> None:
        """Stop listening."""
        self._rclpy.try_shutdown()
        self._thread.join()


class Progress:
    """A progress bar on a terminal, a line per quarter elsewhere."""

    def __init__(self, total: int, unit: str) -> None:
        self._total, self._unit = total, unit
        self._quarter = -1
        self._text = ""

    def show(self, done: int, note: str) -> None:
        """Draw the state when it changed."""
        done = min(done, self._total)
        filled = 30 * done // self._total
        text = f"  [{'#' * filled}{'.' * (30 - filled)}] {done}/{self._total} {self._unit}, {note}"
        if sys.stdout.isatty() and text != self._text:
            # A line that fills the last column would wrap, and be repeated instead of redrawn.
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{text[:width]:<{width}}", end="", flush=True)
        elif not sys.stdout.isatty() and 4 * done // self._total != self._quarter:
            self._quarter = 4 * done // self._total
            print(text, flush=True)
        self._text = text

    def close(self) -> None:
        """Leave the last state on its line."""
        if sys.stdout.isatty() and self._text:
            print()


def others_in(domain: int) -> list[str]:
    """Return the nodes and topics that others have in a ROS domain, as heard within LISTEN_S."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
    own = f"demo_{os.getpid()}"
    node = rclpy.create_node(own, context=context, enable_rosout=False)
    try:
        found: set[str] = set()
        end_s = time.monotonic() + LISTEN_S
        while not found and time.monotonic() < end_s:
            time.sleep(0.05)
            # Hidden nodes, such as the one of the ros2 command, only listen.
            names = [n for n in node.get_node_names() if n != own and not n.startswith("_")]
            topics = {name for name, _ in node.get_topic_names_and_types()}
            found = {*names, *topics - {"/rosout", "/parameter_events"}}
        return sorted(found)
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def set_ros_environment() -> None:
    """Set loopback only, the transport profile, and a ROS domain in which nothing else runs.

    Raises:
        DemoError: something runs in the domain of ROS_DOMAIN_ID, or in all that were drawn.
    """
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(paths.config_file("fastdds.xml")))
    if asked := os.environ.get("ROS_DOMAIN_ID"):
        if not asked.isdecimal() or int(asked) > LAST_DOMAIN:
            raise DemoError(f"ROS_DOMAIN_ID: expected 0..{LAST_DOMAIN}, found {asked!r}")
        if found := others_in(int(asked)):
            raise DemoError(
                f"ROS_DOMAIN_ID={asked}: expected a domain in which nothing else runs, found "
                f"{', '.join(found[:5])}; set another, or unset it and a free one is drawn"
            )
    else:
        drawn = random.SystemRandom().sample(DOMAINS, DOMAIN_DRAWS)
        free = next((domain for domain in drawn if not others_in(domain)), None)
        if free is None:
            raise DemoError(
                f"expected a ROS domain in which nothing else runs, found none of {drawn}; end "
                "what runs ROS on this machine, or name a free one by ROS_DOMAIN_ID"
            )
        os.environ["ROS_DOMAIN_ID"] = str(free)
    print(f"  ROS domain {os.environ['ROS_DOMAIN_ID']}, this machine only", flush=True)


def drive(options: Options, label: str, backend: str, model: Path, keep: int) -> Drive:
    """Drive all worlds, or the looped recordings, with one model.

    Args:
        label: names the files of the drive.
        backend, model: as the actor's parameters take them.
        keep: samples to collect; 0 collects none.
    """
    result = Drive()
    folder = options.output / "calibration_data"
    scenes = WORLDS if options.recordings is None else 1
    total_s = max(1, round(scenes * options.seconds))
    progress = Progress(keep, "samples") if keep else Progress(total_s, "s")
    with (
        contextlib.closing(progress),
        contextlib.closing(Monitor()) as monitor,
        contextlib.closing(Processes(options)) as processes,
    ):
        processes.start_node("bev_builder", "tractor_inference.bev_builder_node")
        processes.start_node(
            "sac_actor", "tractor_inference.sac_actor_node", backend=backend, model=str(model),
            calibration_dir=str(folder), sample_keep=keep, enable_stamped_cmd_vel=True,
        )  # fmt: skip
        processes.start_node(
            "cmd_guard", "tractor_inference.cmd_guard_node", enable_stamped_cmd_vel=True
        )
        result.actor_log = processes.log("sac_actor")
        progress.show(0, "starting")
        for name in ("bev_builder", "sac_actor"):
            _wait_until_active(name, processes, monitor)
        for number in range(MOST_WORLDS):
            kept = len(samples.list_files(folder))
            if number >= scenes and kept >= keep:
                break
            scene = _scene(options, label, number)
            # Even a slow machine that keeps one frame in sixty is in time.
            limit_s = 60.0 + 4.0 * options.seconds + 2.0 * keep
            for moved_s in _play(scene, processes, monitor, limit_s):
                kept = len(samples.list_files(folder))
                driven_s = number * options.seconds + min(moved_s, options.seconds)
                progress.show(kept if keep else int(driven_s), scene.note)
                # What is driven only for more samples is not compared.
                if number < scenes and (scene.result_file or moved_s < options.seconds):
                    result.latencies_ms = list(monitor.latencies_ms)
                if options.recordings and moved_s >= options.seconds and kept >= keep:
                    break
            processes.stop(scene.node)
            if number < scenes and scene.result_file is not None:
                text = outside.read_text(scene.result_file, MAX_RESULT_BYTES)
                result.runs.append(_result(text, scene.node))
        progress.show(kept if keep else total_s, "done")
        result.drift = monitor.drift
        if kept < keep:
            raise DemoError(f"expected {keep} samples, kept {kept}; {monitor.actor_state()}")
    if not result.latencies_ms:
        raise DemoError(f"no command moved the rover; {monitor.actor_state()}")
    return result


def ensure_alike(drives: dict[str, Drive]) -> None:
    """Check that no drive mostly stood still while the other moved.

    Raises:
        DemoError: one has less than LEAST_SHARE of the other's moving commands.
    """
    counts = {label: len(driven.latencies_ms) for label, driven in drives.items()}
    least, most = sorted(counts, key=lambda label: counts[label])
    if counts[least] < LEAST_SHARE * counts[most]:
        names = demo_report.NAMES
        raise DemoError(
            f"expected about as many moving commands in both drives, found {counts[least]} with "
            f"{names[least]} and {counts[most]} with {names[most]}; why the rover stood still is "
            f"in {drives[least].actor_log}"
        )


def _wait_until_active(name: str, processes: Processes, monitor: Monitor) -> None:
    deadline_s = time.monotonic() + START_LIMIT_S
    while True:
        processes.check()
        problem = monitor.states.get(name, "no diagnostics")
        state = monitor.life_cycle_state(name)
        if state == "active":
            return
        # The node would try again, but what it cannot open now will not come.
        failed = state == "unconfigured" and problem not in ("no diagnostics", "not configured")
        if failed:
            raise DemoError(f"{name} cannot be set up; {processes.tail(name)}")
        if time.monotonic() > deadline_s:
            raise DemoError(
                f"{name} is not active after {START_LIMIT_S:.0f} s: {problem}; "
                f"{processes.tail(name)}"
            )
        time.sleep(0.1)


def _scene(options: Options, label: str, number: int) -> Scene:
    if options.recordings is not None:
        parameters: dict[str, Any] = {"folder": str(options.recordings.resolve()), "loop": True}
        return Scene("replay", parameters, "recordings", None)
    note = f"world {number + 1} of {WORLDS}"
    if number >= WORLDS:
        note = f"world {number + 1}, for more samples"
    seed = FIRST_SEED + number
    result_file = options.output / "runs" / f"{label}_{seed}.json"
    parameters = {
        "world_seed": seed, "duration_s": options.seconds, "result_file": str(result_file),
        "enable_stamped_cmd_vel": True,
    }  # fmt: skip
    return Scene("sim", parameters, note, result_file)


def _play(scene: Scene, processes: Processes, monitor: Monitor, limit_s: float) -> Iterator[float]:
    """Start a scene; until its node ends yield for how long commands moved the rover, s."""
    heard = len(monitor.latencies_ms)
    process = processes.start_node(scene.node, f"tractor_sim.{scene.node}_node", **scene.parameters)
    started_s = time.monotonic()
    moving_since_s = math.inf
    while process.poll() is None:
        processes.check(may_end=scene.node)
        now_s = time.monotonic()
        if now_s - started_s > limit_s:
            raise DemoError(
                f"{scene.node} did not end within {limit_s:.0f} s; {monitor.actor_state()}"
            )
        if len(monitor.latencies_ms) > heard:
            moving_since_s = min(moving_since_s, now_s)
        yield max(0.0, now_s - moving_since_s)
        time.sleep(0.2)
    processes.check(may_end=scene.node)


def convert(options: Options, actor: Path) -> dict[str, Any]:
    """Convert the actor to INT8 with the kept samples by the suite's own command."""
    command = ["-m", "tractor_calibration", "convert", str(actor), "--quantize"]
    command += ["--calibration-dir", str(options.output / "calibration_data")]
    # A minute of driving holds out few frames; what they leave in doubt is shown in the report.
    command += ["--params", str(options.params), "--json", "--accept-warnings"]
    with contextlib.closing(Processes(options)) as processes:
        process = processes.start("convert", *command, stdout=subprocess.PIPE)
        printed, _ = process.communicate()
        processes.check(may_end="convert")
    return _result(printed, "convert")


def _result(text: str | bytes, process: str) -> dict[str, Any]:
    """Return what a process has left as JSON; DemoError when it is none."""
    try:
        return outside.json_value(text, MAX_RESULT_BYTES)
    except ValueError as error:
        raise DemoError(f"{process}: expected its result as JSON: {error}") from error


def prepare(options: Options) -> Path:
    """Empty the output folder of what an earlier demo made, and copy the actor into it.

    Raises:
        DemoError: the folder holds something that no demo made; nothing is removed.
    """
    if not options.actor.is_file():
        raise DemoError(f"expected the actor {options.actor}, found none; name it with --model")
    # Read first: it may be one that an earlier demo left in the output folder.
    content = options.actor.read_bytes()
    marker = options.output / MARKER
    options.output.mkdir(parents=True, exist_ok=True)
    if any(options.output.iterdir()) and not marker.exists():
        raise DemoError(f"expected {options.output} to be empty or made by a demo; name another")
    marker.touch()
    for part in PARTS:
        path = options.output / part
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for part in ("models", "runs", "logs"):
        (options.output / part).mkdir()
    actor = options.output / "models" / options.actor.name
    actor.write_bytes(content)
    return actor


@contextlib.contextmanager
def step(options: Options, title: str) -> Iterator[None]:
    """Print the title; raise an error inside as a DemoError that names the step and the logs."""
    print(title)
    try:
        yield
    except ImportError as error:
        raise DemoError(f"step {title}: {error}; make setup installs what is missing") from error
    except TractorError as error:
        raise DemoError(f"step {title}: {error}\nlogs: {log_folder(options)}") from error
    except OSError as error:
        reason = explain(error, options.output)
        raise DemoError(f"step {title}: {reason}\nlogs: {log_folder(options)}") from error


def run(options: Options) -> None:
    """Run the whole demo."""
    started_s = time.monotonic()
    contract = contract_module.load(options.params)
    actor = prepare(options)
    with step(options, "1/4 driving with the ONNX actor and sampling"):
        set_ros_environment()
        onnx = drive(options, "onnx", "onnx", actor, options.wanted_samples)
    with step(options, "2/4 converting to INT8 with rknn-toolkit2"):
        conversion = convert(options, actor)
    with step(options, "3/4 driving again with the INT8 model in the toolkit's simulator"):
        int8 = drive(options, "int8", "rknn_sim", Path(conversion["model"]), 0)
        ensure_alike({"onnx": onnx, "int8": int8})
    with step(options, "4/4 comparing"):
        drives = {"onnx": onnx, "int8": int8}
        comparison = demo_report.compare(contract, options.output, actor, conversion, drives)
        summary = demo_report.summarise(comparison, time.monotonic() - started_s)
        source = f"the simulated rover ({WORLDS} worlds, {options.seconds:g} s each)"
        if options.recordings:
            source = f"recorded sensors ({options.seconds:g} s)"
        page = demo_report.render(contract, source, comparison, summary)
        replace_file(options.output / "summary.json", json.dumps(summary, indent=2) + "\n")
        replace_file(options.output / "report.html", page)
    print(demo_report.table(summary))
    output = printable(options.output)
    print(f"report: {output}/report.html   figures: {output}/summary.json")


def _options(argv: Sequence[str] | None) -> Options:
    summary, details = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        prog="demo", description=summary, epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--source", choices=("sim", "recordings"), default="sim")
    parser.add_argument(
        "--recordings", type=Path, metavar="DIR",
        help="folder of recorded scans and depth images (default: those shipped with the tests)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("demo_output"), metavar="DIR")
    parser.add_argument("--params", type=Path, metavar="YAML", help="shared parameter file")
    parser.add_argument("--model", type=Path, metavar="ONNX", help="another actor to drive with")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each world, s")
    parser.add_argument("--samples", type=int, default=100, help="samples to keep")
    args = parser.parse_args(argv)
    checkout = Path(__file__).resolve().parents[3]
    recordings = None
    if args.source == "recordings":
        recordings = args.recordings or checkout / "src/tractor_sim/test/recordings"
    elif args.recordings:
        parser.error("--recordings goes with --source recordings")
    if args.seconds <= 0 or args.samples <= 0:
        parser.error("--seconds and --samples: expected more than 0")
    params = args.params or paths.default_params_file()
    print(f"parameters: {params}", file=sys.stderr)
    return Options(
        args.output, params,
        args.model or checkout / REFERENCE_ACTOR, recordings, args.seconds, args.samples,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    take_any_text()
    # SIGTERM ends the demo as Ctrl-C does: what it started ends first.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        options = _options(argv)
        try:
            run(options)
        except OSError as error:
            raise DemoError(explain(error, options.output)) from error
    except TractorError as error:
        print(f"demo failed: {printable_message(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
