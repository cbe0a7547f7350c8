"""What the path through ROS costs: sensor stamp to command received, between real processes.

A source publishes depth at 100 Hz, scan at 10 Hz and odometry at 50 Hz; this process receives the
actor's commands, which carry the stamp of the newest sensor frame. Builder and actor run as two
processes, as one, and with a builder of plain numpy. In turn with them runs what nothing can be
faster than on the machine: nodes that pass messages of the same sizes on without looking at them,
with one process in the path and with two, and the model alone at 100 Hz. Writes
bench_output/latency.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from tractor_bringup.process import Process, stop_all

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
MODEL = ROOT / "models" / "sac_actor_reference.onnx"
DEPTH_HZ, SCAN_HZ, ODOM_HZ = 100, 10, 50
WORLD_SEED, FRAMES = 3, 50
START_LIMIT_S = 60.0
# The first seconds start caches and fill the sample folder's memory.
SETTLE_S = 2.0


def source() -> None:
    """Publish what a simulated rover sees while it turns on the spot, until SIGINT."""
    publish(simulated_frames(), DEPTH_HZ, SCAN_HZ)


def simulated_frames() -> list[tuple[Any, Any]]:
    """Return scans and depth images of a rover that turns on the spot."""
    from tractor_core import robot as robot_module
    from tractor_core.paths import default_params_file
    from tractor_sim.simulation import Simulation

    simulation = Simulation(WORLD_SEED, robot_module.load(default_params_file()))
    frames = []
    for _ in range(FRAMES):
        simulation.step(0.0, 0.3, 1 / DEPTH_HZ)
        frames.append((simulation.scan(), simulation.depth()))
    return frames


def publish(frames: list[tuple[Any, Any]], depth_hz: float, scan_hz: float) -> list[int]:
    """Publish frames again and again, odometry between, until SIGINT; return the depths' stamps."""
    import rclpy
    from nav_msgs.msg import Odometry
    from rclpy.signals import SignalHandlerOptions

    from tractor_inference.nodes.base.sensor_inputs import SENSOR_QOS
    from tractor_sim.nodes.sensors import SensorPublisher

    running = True

    def end(*_: object) -> None:
        nonlocal running
        running = False

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    signal.signal(signal.SIGINT, end)
    node = rclpy.create_node("source")
    sensors = SensorPublisher(node)
    odometry = node.create_publisher(Odometry, "odom", SENSOR_QOS)
    stamps: list[int] = []
    next_s = odom_s = time.monotonic()
    while running:
        if next_s < odom_s:
            tick = len(stamps)
            scan, depth = frames[tick % len(frames)]
            due = math.floor(tick * scan_hz / depth_hz) != math.floor(
                (tick - 1) * scan_hz / depth_hz
            )
            stamp = node.get_clock().now().to_msg()
            sensors.publish(scan if due else None, depth, stamp)
            stamps.append(stamp.sec * 10**9 + stamp.nanosec)
            next_s += 1 / depth_hz
        else:
            message = Odometry()
            message.header.stamp = node.get_clock().now().to_msg()
            message.header.frame_id, message.child_frame_id = "odom", "base_link"
            message.pose.pose.orientation.w = 1.0
            odometry.publish(message)
            odom_s += 1 / ODOM_HZ
        time.sleep(max(0.0, min(next_s, odom_s) - time.monotonic()))
    return stamps


def numpy_builder() -> None:
    """Run bev_builder with a builder of plain numpy."""
    from bev import plain_numpy

    from tractor_core.bev import fusion
    from tractor_core.bev.builder import BevBuilder
    from tractor_inference.nodes import bev_builder_node

    class PlainBuilder(BevBuilder):
        def build(self, scan, depth, motion=None, scan_age_s=0.0):
            grid = plain_numpy(depth, scan, self.contract, self.robot, self.parameters)
            self._grid[:] = grid.transpose(1, 2, 0)
            return self._grid.transpose(2, 0, 1)

    # Refuses a name that is not there, so that never the real builder is measured instead.
    with mock.patch.object(fusion, "BevBuilder", PlainBuilder):
        bev_builder_node.main()


def echo(topic: str) -> None:
    """Answer each image of a topic with a constant command: the middleware without any work."""
    import rclpy
    from geometry_msgs.msg import TwistStamped
    from sensor_msgs.msg import Image

    from tractor_inference.nodes.base.commands import COMMAND_QOS
    from tractor_inference.nodes.base.sensor_inputs import SENSOR_QOS

    rclpy.init()
    node = rclpy.create_node("echo")
    publisher = node.create_publisher(TwistStamped, "cmd_vel_raw", COMMAND_QOS)
    command = TwistStamped()
    command.twist.linear.x = 0.1

    def answer(image: Image) -> None:
        command.header.stamp = image.header.stamp
        publisher.publish(command)

    node.create_subscription(Image, topic, answer, SENSOR_QOS)
    spin(node)


def relay() -> None:
    """Answer each depth image with an empty grid."""
    import rclpy
    from sensor_msgs.msg import Image

    from tractor_core import contract, messages
    from tractor_core.paths import default_params_file
    from tractor_inference.nodes.base.sensor_inputs import SENSOR_QOS

    rclpy.init()
    node = rclpy.create_node("relay")
    publisher = node.create_publisher(Image, "bev", SENSOR_QOS)
    grid = Image()
    messages.bev_message(grid, contract.load(default_params_file()))

    def answer(image: Image) -> None:
        grid.header.stamp = image.header.stamp
        publisher.publish(grid)

    node.create_subscription(Image, "depth", answer, SENSOR_QOS)
    spin(node)


def spin(node: Any) -> None:
    """Run a node until SIGINT."""
    import rclpy

    with contextlib.suppress(KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
        rclpy.spin(node)


def inference_figures(seconds: float) -> dict[str, float | str]:
    """Return the row of the model alone, one inference every 10 ms."""
    from tractor_core import contract
    from tractor_core.contract import BEV_INPUT, PROPRIO_INPUT
    from tractor_core.paths import default_params_file
    from tractor_inference.model.backends import open_backend

    constants = contract.load(default_params_file())
    backend = open_backend("onnx", MODEL, constants)
    bev = np.zeros(constants.input_shapes[BEV_INPUT], np.float32)
    vector = np.zeros(constants.input_shapes[PROPRIO_INPUT], np.float32)
    costs_ms = []
    for _ in range(round(seconds * DEPTH_HZ)):
        time.sleep(1 / DEPTH_HZ)
        start_s = time.perf_counter()
        backend.infer(bev, vector)
        costs_ms.append((time.perf_counter() - start_s) * 1e3)
    p50, p99 = np.percentile(costs_ms, [50, 99])
    return {"name": "inference", "p50_ms": float(p50), "p99_ms": float(p99)}


class Setting:
    """The processes of one way to run, and what is measured of them."""

    def __init__(self, name: str, modules: list[list[str]]) -> None:
        self.name = name
        self.modules = modules
        self.latencies_ms: list[float] = []
        self.depth_frames = 0

    def run(self, seconds: float, receiver: Receiver) -> None:
        """Start the processes, receive commands for so long, and end them."""
        with tempfile.TemporaryDirectory() as folder:
            parameters = [
                f"sac_actor:model:={json.dumps(str(MODEL))}",
                f"sac_actor:calibration_dir:={json.dumps(folder)}",
                "sac_actor:enable_stamped_cmd_vel:=true",
            ]
            arguments = ["--ros-args", "--params-file", str(ROOT / "config" / "sac_rover.yaml")]
            arguments += [word for rule in parameters for word in ("-p", rule)]
            processes = [
                Process([*module, *arguments], Path(folder, f"{number}.log"))
                for number, module in enumerate(self.modules)
            ]
            sensors = Process(part("source"), Path(folder, "sensors.log"))
            try:
                receiver.wait_for_first(START_LIMIT_S, processes)
                receiver.spin(SETTLE_S)
                self.latencies_ms += receiver.spin(seconds)
                self.depth_frames += round(seconds * DEPTH_HZ)
            finally:
                stop_all([sensors, *processes])

    def figures(self) -> dict[str, float | str]:
        """Return the row of this setting."""
        p50, p99 = np.percentile(self.latencies_ms, [50, 99])
        return {
            "name": self.name, "p50_ms": float(p50), "p99_ms": float(p99),
            "depth_frames": self.depth_frames, "commands": len(self.latencies_ms),
        }  # fmt: skip


class Receiver:
    """Receives commands and notes how old the sensor frame is that they answer."""

    def __init__(self) -> None:
        import rclpy
        from geometry_msgs.msg import TwistStamped
        from rclpy.executors import SingleThreadedExecutor

        from tractor_inference.nodes.base.commands import COMMAND_QOS

        rclpy.init()
        self._node = rclpy.create_node("receiver")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._latencies_ms: list[float] = []
        self._clock = self._node.get_clock()
        self._node.create_subscription(TwistStamped, "cmd_vel_raw", self._receive, COMMAND_QOS)

    def _receive(self, message) -> None:
        now_ns = self._clock.now().nanoseconds
        stamp = message.header.stamp
        # The watchdog's zeros answer no frame.
        if message.twist.linear.x or message.twist.angular.z:
            self._latencies_ms.append((now_ns - stamp.sec * 10**9 - stamp.nanosec) * 1e-6)

    def spin(self, seconds: float) -> list[float]:
        """Receive for so long and return the latencies."""
        self._latencies_ms = []
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._executor.spin_once(timeout_sec=0.05)
        return self._latencies_ms

    def wait_for_first(self, limit_s: float, processes: list[Process]) -> None:
        """Wait for the first command."""
        end_s = time.monotonic() + limit_s
        while not self.spin(0.2):
            ended = any(process.process.poll() is not None for process in processes)
            if ended or time.monotonic() > end_s:
                raise SystemExit(
                    "\n".join([f"no command within {limit_s:g} s", *map(Process.tail, processes)])
                )


PARTS = {
    "source": source,
    "numpy_builder": numpy_builder,
    "relay": relay,
    "echo_depth": lambda: echo("depth"),
    "echo_bev": lambda: echo("bev"),
}


def part(name: str) -> list[str]:
    """Return the arguments of Python that run a part of this file."""
    return [str(HERE / "latency.py"), "--part", name]


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench_output/latency.json"))
    parser.add_argument("--seconds", type=float, default=15.0, help="a run of one setting")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each setting, in turn")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    arguments, _ = parser.parse_known_args(argv)
    if arguments.part is not None:
        del sys.argv[1:3]  # a node takes ROS's arguments only
        PARTS[arguments.part]()
        return 0
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(ROOT / "config" / "fastdds.xml")
    actor = ["-m", "tractor_inference.nodes.sac_actor_node"]
    settings = [
        Setting("two_processes", [["-m", "tractor_inference.nodes.bev_builder_node"], actor]),
        Setting("one_process", [["-m", "tractor_inference.nodes.drive_node"]]),
        Setting("numpy_builder", [part("numpy_builder"), actor]),
        Setting("two_hops", [part("relay"), part("echo_bev")]),
        Setting("one_hop", [part("echo_depth")]),
    ]
    receiver = Receiver()
    for number in range(arguments.rounds):
        for setting in settings:
            setting.run(arguments.seconds, receiver)
            print(f"measured {setting.name}, round {number + 1}", file=sys.stderr)
    rows = [*(setting.figures() for setting in settings), inference_figures(arguments.seconds)]
    p50 = {row["name"]: row["p50_ms"] for row in rows}
    result = {
        "results": rows,
        "ratios": {
            "numpy_vs_two_processes": p50["numpy_builder"] / p50["two_processes"],
            "two_vs_one_process": p50["two_processes"] / p50["one_process"],
            "two_processes_vs_floor": p50["two_processes"] / (p50["two_hops"] + p50["inference"]),
            "one_process_vs_floor": p50["one_process"] / (p50["one_hop"] + p50["inference"]),
        },
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{'setting':15} {'p50':>7} {'p99':>7} ms  commands for depth frames")
    for row in rows:
        counts = f"{row['commands']} for {row['depth_frames']}" if "commands" in row else ""
        print(f"{row['name']:15} {row['p50_ms']:7.2f} {row['p99_ms']:7.2f}     {counts}")
    for name, value in result["ratios"].items():
        print(f"  {name:28} {value:6.2f}")
    print(f"wrote {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
