"""sim_node: the simulated rover on ROS topics; sensors out, commands in."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock

from tractor_core.files import replace_file
from tractor_core.messages import velocity_from_command
from tractor_core.parameters import param
from tractor_inference.nodes.base.commands import command_type
from tractor_inference.nodes.base.node import SuiteNode
from tractor_inference.nodes.base.run import run
from tractor_inference.nodes.base.sensor_inputs import SENSOR_QOS
from tractor_inference.nodes.base.usage import usage

from ..senses import CONTROL_HZ, SCAN_EVERY_TICKS
from ..simulation import Simulation
from .frames import FramePublisher
from .sensors import SensorPublisher, odometry_message


@dataclasses.dataclass(frozen=True)
class SimParameters:
    """Parameters of the node `sim`."""

    world_seed: int = param("Seed of world, slip and noise.", 0, minimum=0, maximum=2**31 - 1)
    duration_s: float = param(
        "Simulated time after the first command that moves, s, when the node ends; 0 for never.",
        0.0, minimum=0.0, maximum=1e6,
    )  # fmt: skip
    result_file: str = param("JSON file that is written at the end; empty for none.", "")
    publish_clock: bool = param("Publish /clock and stamp with simulated time.", False)
    enable_stamped_cmd_vel: bool = param("Take TwistStamped in place of Twist.", False)
    command_timeout_s: float = param(
        "The rover stops when no command came for so long, s.", 0.5, minimum=0.05, maximum=10.0
    )


class SimNode(SuiteNode, Node):
    """Drives the simulation in real time, in a thread, so that commands never wait for the rays.

    Each thirtieth of a second the rover moves, the sensors look, and what they saw is published
    with the time of publishing: a command's latency then measures the pipeline alone. On a machine
    that is too slow simulated time falls behind; no step is skipped.
    """

    def __init__(self) -> None:
        super().__init__("sim", automatically_declare_parameters_from_overrides=True)
        own = self.declare(SimParameters, has_section=False)
        self._simulation = Simulation(own.world_seed, self.robot)
        self._sensors = SensorPublisher(self)
        self._frames = FramePublisher(self, self.robot)
        self._odom_publisher = self.create_publisher(Odometry, "odom", SENSOR_QOS)
        self._clock_publisher = (
            self.create_publisher(Clock, "/clock", SENSOR_QOS) if own.publish_clock else None
        )
        self.create_subscription(
            command_type(own.enable_stamped_cmd_vel),
            "cmd_vel",
            self._on_command,
            QoSProfile(depth=1),
        )
        self._command = (0.0, 0.0)
        self._command_at_s = -math.inf
        self._commands = 0
        self._moved = False
        self._trajectory: list[tuple[float, float, float, float]] = []
        self._ending = threading.Event()
        self._started_s = time.monotonic()
        self._thread = ThreadPoolExecutor(1, "simulation")
        self._driving = self._thread.submit(self._drive)

    @property
    def done(self) -> bool:
        """Whether the duration is over; an error of the simulation is raised here."""
        return self._driving.done() and self._driving.result() is None

    def _on_command(self, message: Any) -> None:
        command = velocity_from_command(message)
        if not all(map(math.isfinite, command)):
            self.warn("cmd_vel", f"cmd_vel: expected finite speeds, found {tuple(command)}")
            return
        self._command, self._command_at_s = command, time.monotonic()
        self._commands += 1
        self._moved = self._moved or any(command)

    def _drive(self) -> None:
        own = self.parameters
        simulation = self._simulation
        ticks_left = round(own.duration_s * CONTROL_HZ) if own.duration_s else sys.maxsize
        due_s = time.monotonic()
        for tick in itertools.count():
            if self._ending.wait(max(0.0, due_s - time.monotonic())):
                return
            due_s = max(due_s + 1.0 / CONTROL_HZ, time.monotonic())
            if self._moved:
                ticks_left -= 1
            if ticks_left < 0:
                return
            fresh = time.monotonic() - self._command_at_s <= own.command_timeout_s
            simulation.step(*(self._command if fresh else (0.0, 0.0)), 1.0 / CONTROL_HZ)
            self._trajectory.append((*simulation.pose, simulation.time_s))
            self._publish(with_scan=tick % SCAN_EVERY_TICKS == 0)

    def _publish(self, with_scan: bool) -> None:
        scan = self._simulation.scan() if with_scan else None
        depth = self._simulation.depth()
        stamp = self._stamp()
        if self._clock_publisher is not None:
            self._clock_publisher.publish(Clock(clock=stamp))
        odom = self._simulation.odom()
        self._frames.publish(odom.x_m, odom.y_m, odom.yaw_rad, stamp)
        self._odom_publisher.publish(odometry_message(odom, stamp))
        self._sensors.publish(scan, depth, stamp)

    def _stamp(self) -> Time:
        if self._clock_publisher is None:
            return self.get_clock().now().to_msg()
        nanoseconds = round(self._simulation.time_s * 1e9)
        return Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)

    def diagnose(self) -> tuple[str | None, dict[str, Any]]:
        """Return the counters of the run."""
        return None, {
            "world_seed": self.parameters.world_seed,
            "simulated_s": f"{self._simulation.time_s:.2f}",
            "distance_m": f"{self._simulation.distance_m:.2f}",
            "collisions": self._simulation.collisions,
            "commands": self._commands,
            "transforms": self._frames.state,
        }

    def close(self) -> None:
        """Stop the rover and write the result file."""
        self._ending.set()
        self._thread.shutdown(wait=True)
        if self.parameters.result_file:
            file = Path(self.parameters.result_file)
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, json.dumps(self.result()))

    def result(self) -> dict[str, Any]:
        """Return the run as plain JSON types; a trajectory row is x, y (m), yaw (rad), t (s)."""
        return {
            "world_seed": self.parameters.world_seed,
            "simulated_s": self._simulation.time_s,
            "wall_s": time.monotonic() - self._started_s,
            "distance_m": self._simulation.distance_m,
            "collisions": self._simulation.collisions,
            "commands": self._commands,
            "trajectory": np.round(self._trajectory, 4).tolist(),
        }


def main() -> None:
    """Run the node."""
    about = usage("tractor_sim", "sim", __doc__, sim=SimParameters)
    sys.exit(run(SimNode, usage=about))


if __name__ == "__main__":
    main()
