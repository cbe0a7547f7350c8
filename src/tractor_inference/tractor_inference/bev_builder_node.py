"""bev_builder: LaserScan, depth Image and CameraInfo become the bird's-eye grid."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from sensor_msgs.msg import CameraInfo, Image, LaserScan

from . import messages
from .bev import BevBuilder, BevParameters, DepthImage, Intrinsics, Scan
from .errors import SensorError
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
        super().__init__("bev_builder", BuilderParameters, inputs=("scan", "depth"))
        self._published = 0

    def set_up(self) -> None:
        """Create tables, publisher and subscriptions."""
        self._builder = BevBuilder(self.contract, self.robot, self.parameters)
        self._scan: Scan | None = None
        self._scan_stamp: Any = None
        self._intrinsics: Intrinsics | None = None
        self._camera_problem = "camera_info never received"
        self._message = Image()
        self._publisher = self.advertise(Image, "bev", SENSOR_QOS)
        self.subscribe(LaserScan, "scan", self._on_scan)
        self.subscribe(CameraInfo, "camera_info", self._on_camera_info)
        self.subscribe(Image, "depth", self._on_depth)

    def on_parameters(self, updated: BuilderParameters) -> None:
        """Use changed limits from the next frame on."""
        if self.failure is None:
            self._builder.parameters = updated

    def _on_scan(self, message: LaserScan) -> None:
        try:
            scan = messages.scan_from_message(message)
        except SensorError as error:
            self.rejected("scan", error)
            return
        if self.accepted("scan", message.header):
            self._scan, self._scan_stamp = scan, message.header.stamp

    def _on_camera_info(self, message: CameraInfo) -> None:
        try:
            self._intrinsics = messages.intrinsics_from_message(message)
            self._image_size = (message.height, message.width)
        except SensorError as error:
            self._intrinsics, self._camera_problem = None, str(error)
            self.warn("camera_info", str(error))

    def _on_depth(self, message: Image) -> None:
        if not self.active:
            return
        try:
            depth = self._depth_image(message)
        except SensorError as error:
            self.rejected("depth", error)
            return
        if not self.accepted("depth", message.header):
            return
        stale = self.monitors["scan"].problem(steady_s())
        if stale is not None or self._scan is None:
            self.warn("bev", f"no grid: {stale}")
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
        """Return what is stale, and rates, ages and counters."""
        problem = self.failure or self.input_problem(steady_s())
        if problem is None and not self.active:
            problem = "not active"
        values = {"contract": self.contract.digest, "published": self._published}
        return problem, values | self.describe_inputs()


def main() -> None:
    """Run the node."""
    sys.exit(run(BevBuilderNode))


if __name__ == "__main__":
    main()
