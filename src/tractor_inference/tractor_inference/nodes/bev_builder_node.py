"""bev_builder: LaserScan, depth Image and CameraInfo become the bird's-eye grid."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import Point32, PolygonStamped
from nav_msgs.msg import OccupancyGrid, Odometry
from numpy.typing import NDArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, LaserScan

from tractor_core import messages
from tractor_core.bev.fusion import Fusion
from tractor_core.bev.parameters import BuilderParameters
from tractor_core.errors import SensorError
from tractor_core.robot import Robot

from .base.node import ManagedNode
from .base.polled import Delivery
from .base.run import run
from .base.sensor_inputs import SENSOR_QOS
from .base.timings import Timings
from .base.usage import usage

COSTS_KEPT = 1000
# Where the rover was is found between two of them: all that come at 200 Hz between two frames.
ODOMETRY_KEPT = 10
# Reliable, because RViz asks for that; who asks for best effort is served as well.
VIEW_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


class BevBuilderNode(ManagedNode):
    """Publishes a grid for each depth frame while a fresh scan is there.

    Args:
        take_grid: called with each grid, (2, cells, cells) float32 that the next one overwrites,
            and its stamp, before anything is published. The topic is then served only while
            somebody subscribes.
    """

    def __init__(self, take_grid: Callable[[NDArray[np.float32], Any], None] | None = None) -> None:
        super().__init__(
            "bev_builder", BuilderParameters, required=("scan", "depth"), optional=("odom",)
        )
        self._take_grid = take_grid

    def prepare(self) -> tuple[Image, Fusion]:
        """Compile the kernel."""
        message = Image()
        memory = messages.bev_message(message, self.contract)
        depth_topic = self.resolve_topic_name("depth")
        return message, Fusion(
            self.contract, self.inputs.robot, self.parameters, memory, depth_topic
        )

    def set_up(self, prepared: tuple[Image, Fusion]) -> None:
        """Create publishers and subscriptions."""
        self._costs = Timings("cost", COSTS_KEPT, digits=3)
        self._message, self._fusion = prepared
        self._fusion.parameters = self.parameters  # a live one may have been set meanwhile
        self._publisher = self.advertise(Image, "bev", SENSOR_QOS)
        self._views = [
            self.advertise(OccupancyGrid, f"bev/{name}", VIEW_QOS)
            for name in self.contract.grid_channels
        ]
        self._footprint = footprint_message(self.robot)
        self._footprint_view = self.advertise(PolygonStamped, "footprint", VIEW_QOS)
        self.others.subscribe(LaserScan, "scan", self._on_scan)
        self.others.subscribe(CameraInfo, "camera_info", self._on_camera_info)
        self.subscribe(Image, "depth", self._on_depth)
        self.others.subscribe(Odometry, "odom", self._on_odom, depth=ODOMETRY_KEPT)

    def on_extrinsics(self) -> None:
        """Rasterize with the new extrinsics from the next frame on."""
        self._fusion.set_extrinsics(self.inputs.robot)

    def on_parameters(self, updated: BuilderParameters) -> None:
        """Use changed limits from the next frame on."""
        if self.failure is None:
            self._fusion.parameters = updated

    def _on_scan(self, message: LaserScan, delivery: Delivery) -> None:
        scan = self.inputs.receive(
            "scan", self.inputs.to_scan, message, "lidar_pose", delivery.waited_s
        )
        if scan is not None:
            stamp_ns = messages.stamp_ns(message.header.stamp)
            came_ns, _ = self.inputs.arrival(delivery.waited_s)
            self._fusion.take_scan(scan, stamp_ns, came_ns)

    def _on_camera_info(self, message: CameraInfo, delivery: Delivery) -> None:
        try:
            self._fusion.take_camera_info(message)
        except SensorError as error:
            self.warn("camera_info", str(error), error.expected)

    def _on_odom(self, message: Odometry, delivery: Delivery) -> None:
        waited_s = delivery.waited_s
        sample = self.inputs.receive("odom", self.inputs.to_odometry, message, waited_s=waited_s)
        if sample is not None:
            self._fusion.take_odometry(sample)

    def _on_depth(self, message: Image) -> None:
        if not self.active:
            return
        self.others.take()
        started_s = time.perf_counter()
        depth = self.inputs.receive(
            "depth", self._fusion.depth_image, message, extrinsics="camera_pose"
        )
        if depth is None:
            return
        now_s, monitors = time.monotonic(), self.inputs.monitors
        stale = monitors["scan"].problem(now_s)
        if not monitors["depth"].in_time(now_s):
            stale = monitors["depth"].problem(now_s)
        if stale is not None:
            self.warn("bev", f"no grid: {stale}")
            return
        grid, stamp_ns = self._fusion.rasterize(depth, messages.stamp_ns(message.header.stamp))
        self._costs.add((time.perf_counter() - started_s) * 1e3)
        stamp = self._message.header.stamp
        stamp.sec, stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
        if self._take_grid is not None:
            self._take_grid(grid, stamp)
        if self._take_grid is None or self._publisher.get_subscription_count():
            self._publisher.publish(self._message)
        for channel, view in zip(grid, self._views):
            if view.get_subscription_count():
                self._publish_view(view, channel)
        if self._footprint_view.get_subscription_count():
            self._footprint.header.stamp = stamp
            self._footprint_view.publish(self._footprint)

    def _publish_view(self, view: Any, channel: NDArray[np.float32]) -> None:
        message = OccupancyGrid()
        message.header.stamp = self._message.header.stamp
        messages.fill_occupancy(message, channel, self.contract.resolution_m)
        view.publish(message)

    def diagnose(self) -> tuple[str | None, dict[str, Any]]:
        """Return what is stale, and rates, ages, counters and the cost of a frame."""
        problem = self.failure or ("not active" if not self.active else None)
        values: dict[str, Any] = {
            "contract": self.contract.digest,
            "kernel": self.parameters.kernel,
        }
        if self.failure is not None:
            return problem, values
        values |= {
            "grids": self._fusion.grids,
            "grids of uncompensated scans": self._fusion.uncompensated_grids,
        }
        problem = problem or self.inputs.problem(time.monotonic())
        return problem, values | self._costs.describe() | self.inputs.describe()


def footprint_message(robot: Robot) -> PolygonStamped:
    """Return the outline of the rover's body on the floor, for RViz and Foxglove."""
    x, y = robot.half_length_m, robot.half_width_m
    message = PolygonStamped()
    message.header.frame_id = messages.BASE_FRAME
    corners = ((x, y), (-x, y), (-x, -y), (x, -y))
    message.polygon.points = [Point32(x=ahead, y=left) for ahead, left in corners]
    return message


def main() -> None:
    """Run the node."""
    about = usage("tractor_inference", "bev_builder", __doc__, bev_builder=BuilderParameters)
    sys.exit(run(BevBuilderNode, usage=about))


if __name__ == "__main__":
    main()
