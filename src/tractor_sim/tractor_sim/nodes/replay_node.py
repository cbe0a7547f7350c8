"""replay_node: recorded scans and depth images on the topics of a rover that stands still."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.node import Node

from tractor_core.parameters import param
from tractor_inference.nodes.base.lifecycle import STEADY
from tractor_inference.nodes.base.node import SuiteNode
from tractor_inference.nodes.base.run import run
from tractor_inference.nodes.base.sensor_inputs import SENSOR_QOS
from tractor_inference.nodes.base.usage import usage

from ..replay import Frame, read_recording
from ..rover import Odometry as WheelOdometry
from .frames import FramePublisher
from .sensors import SensorPublisher, odometry_message

AT_REST = WheelOdometry(0.0, 0.0, 0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class ReplayParameters:
    """Parameters of the node `replay`."""

    folder: str = param("Folder with recorded scans and depth images; see tractor_sim/replay.py.")
    rate_hz: float = param(
        "Depth images a second; recorded at 30.", 30.0, minimum=0.1, maximum=1000.0
    )
    loop: bool = param("Start again at the end; otherwise the node ends.", False)
    wait_for_subscribers: bool = param(
        "Start only when somebody listens to both scan and depth, so that no frame is lost.", True
    )


class ReplayNode(SuiteNode, Node):
    """Publishes a recording frame by frame with current stamps, and an odometry that rests."""

    def __init__(self) -> None:
        super().__init__("replay", automatically_declare_parameters_from_overrides=True)
        own = self.declare(ReplayParameters, has_section=False)
        self._recording = read_recording(own.folder)
        self._frames: Iterator[Frame] = self._recording.frames()
        self._sensors = SensorPublisher(self)
        self._transforms = FramePublisher(self, self.robot)
        self._odom_publisher = self.create_publisher(Odometry, "odom", SENSOR_QOS)
        self._scans = self._depths = 0
        self.done = False
        self._waiting = own.wait_for_subscribers
        self.create_timer(1.0 / own.rate_hz, self._tick, clock=STEADY)

    def _tick(self) -> None:
        if self._waiting and not self._sensors.subscribed:
            return
        self._waiting = False
        frame = next(self._frames, None)
        if frame is None:
            if not self.parameters.loop:
                self.get_logger().info(f"done: {self._scans} scans, {self._depths} depth images")
                self.done = True
                return
            self._frames = self._recording.frames()
            frame = next(self._frames)
        stamp = self.get_clock().now().to_msg()
        self._transforms.publish(AT_REST.x_m, AT_REST.y_m, AT_REST.yaw_rad, stamp)
        self._odom_publisher.publish(odometry_message(AT_REST, stamp))
        self._sensors.publish(frame.scan, frame.depth, stamp)
        self._scans += frame.scan is not None
        self._depths += 1

    def diagnose(self) -> tuple[str | None, dict[str, Any]]:
        """Return what was published."""
        return None, {
            "scans": self._scans,
            "depth_images": self._depths,
            "transforms": self._transforms.state,
        }


def main() -> None:
    """Run the node."""
    about = usage("tractor_sim", "replay", __doc__, replay=ReplayParameters)
    sys.exit(run(ReplayNode, usage=about))


if __name__ == "__main__":
    main()
