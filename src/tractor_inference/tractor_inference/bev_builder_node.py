"""bev_builder: LaserScan, depth Image and CameraInfo become the bird's-eye grid."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from sensor_msgs.msg import CameraInfo, Image, LaserScan

from . import messages
from .bev import BevBuilder, BevParameters, DepthImage, Intrinsics, Scan
from .errors import SensorError
from .freshness import InputMonitor
from .parameters import param
from .ros_node import SENSOR_QOS, ManagedNode, run, steady_s


@dataclasses.dataclass(frozen=True)
class BuilderParameters(BevParameters):
    """The bev_builder section of config/sac_rover.yaml."""

    autostart: bool = param("Configure and activate at start.", True)
    max_input_age_s: float = param(
        "Age at which scan or depth is stale, s.", 0.30, minimum=0.05, maximum=5.0
    )
    min_valid_depth_fraction: float = param(
        "Depth images with fewer valid pixels are rejected.",
        0.10, minimum=0.0, maximum=1.0, live=True,
    )  # fmt: skip


class BevBuilderNode(ManagedNode):
    """Publishes a grid for each depth frame while a fresh scan is there."""

    def __init__(self) -> None:
        super().__init__("bev_builder", BuilderParameters)
        limit_s = self.parameters.max_input_age_s
        self._monitors = {name: InputMonitor(name, limit_s) for name in ("scan", "depth")}
        self._camera_problem = "camera_info never received"
        self._published = 0
        self._subscriptions_made: list[Any] = []

    def set_up(self) -> None:
        """Create tables, publisher and subscriptions."""
        self._builder = BevBuilder(self.contract, self.robot, self.parameters)
        self._scan: Scan | None = None
        self._scan_stamp: Any = None
        self._intrinsics: Intrinsics | None = None
        self._message = Image()
        self._publisher = self.create_lifecycle_publisher(Image, "bev", SENSOR_QOS)
        self._subscriptions_made = [
            self.create_subscription(LaserScan, "scan", self._on_scan, SENSOR_QOS),
            self.create_subscription(CameraInfo, "camera_info", self._on_camera_info, SENSOR_QOS),
            self.create_subscription(Image, "depth", self._on_depth, SENSOR_QOS),
        ]

    def tear_down(self) -> None:
        """Drop publisher and subscriptions."""
        for subscription in self._subscriptions_made:
            self.destroy_subscription(subscription)
        self._subscriptions_made = []
        self.destroy_publisher(self._publisher)

    def on_parameters(self, updated: BuilderParameters) -> None:
        """Use changed limits from the next frame on."""
        if self.failure is None:
            self._builder.parameters = updated

    def _accepted(self, name: str, header: Any) -> bool:
        monitor = self._monitors[name]
        clock_ns = self.get_clock().now().nanoseconds
        if monitor.accept(messages.stamp_ns(header.stamp), clock_ns, steady_s()):
            return True
        self.warn(monitor.last_rejection)
        return False

    def _rejected(self, name: str, error: SensorError) -> None:
        self._monitors[name].reject(str(error))
        self.warn(str(error))

    def _on_scan(self, message: LaserScan) -> None:
        try:
            scan = messages.scan_from_message(message)
        except SensorError as error:
            self._rejected("scan", error)
            return
        if self._accepted("scan", message.header):
            self._scan, self._scan_stamp = scan, message.header.stamp

    def _on_camera_info(self, message: CameraInfo) -> None:
        try:
            self._intrinsics = messages.intrinsics_from_message(message)
            self._image_size = (message.height, message.width)
        except SensorError as error:
            self._intrinsics, self._camera_problem = None, str(error)
            self.warn(str(error))

    def _on_depth(self, message: Image) -> None:
        if not self.active:
            return
        try:
            depth = self._depth_image(message)
        except SensorError as error:
            self._rejected("depth", error)
            return
        if not self._accepted("depth", message.header):
            return
        stale = self._monitors["scan"].problem(steady_s())
        if stale is not None or self._scan is None:
            self.warn(f"no grid: {stale}")
            return
        messages.fill_bev_message(self._message, self._builder.build(self._scan, depth))
        stamps = (self._scan_stamp, message.header.stamp)
        self._message.header.stamp = max(stamps, key=messages.stamp_ns)
        self._publisher.publish(self._message)
        self._published += 1

    def _depth_image(self, message: Image) -> DepthImage:
        pixels = messages.depth_from_message(message)
        if self._intrinsics is None:
            raise SensorError(f"depth: no intrinsics to use it with: {self._camera_problem}")
        if pixels.shape != self._image_size:
            raise SensorError(
                f"depth: expected the size of camera_info {self._image_size[::-1]}, "
                f"found {pixels.shape[::-1]} (width, height)"
            )
        depth = DepthImage(pixels, self._intrinsics)
        limit = self.parameters.min_valid_depth_fraction
        if depth.valid_fraction < limit:
            raise SensorError(
                f"depth: expected at least {limit:.0%} valid pixels, "
                f"found {depth.valid_fraction:.1%}"
            )
        return depth

    def diagnose(self) -> tuple[str | None, dict[str, Any]]:
        """Return stale inputs and counters."""
        now_s = steady_s()
        stale = [p for m in self._monitors.values() if (p := m.problem(now_s)) is not None]
        values: dict[str, Any] = {"contract": self.contract.digest, "published": self._published}
        for name, monitor in self._monitors.items():
            values[f"{name} received"] = monitor.received
            values[f"{name} rejected"] = monitor.rejected
            values[f"{name} last rejection"] = monitor.last_rejection
        return self.failure or "; ".join(stale) or None, values


def main() -> None:
    """Run the node."""
    sys.exit(run(BevBuilderNode))


if __name__ == "__main__":
    main()
