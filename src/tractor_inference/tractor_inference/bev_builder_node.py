"""bev_builder: LaserScan, depth Image and CameraInfo become the bird's-eye grid."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from nav_msgs.msg import OccupancyGrid, Odometry
from numpy.typing import NDArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, LaserScan

from . import messages
from .bev import HELD, KERNELS, BevBuilder, BevParameters, DepthImage, Intrinsics, Scan, ScanMotion
from .errors import SensorError
from .odometry import OdometryTrack
from .parameters import param
from .ros_node import SENSOR_QOS, ManagedNode, run, steady_s

COSTS_KEPT = 1000
# Reliable, because RViz asks for that; who asks for best effort is served as well.
VIEW_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


@dataclasses.dataclass(frozen=True)
class BuilderParameters(BevParameters):
    """The bev_builder section of config/sac_rover.yaml."""

    autostart: bool = param("Configure and activate at start.", True)
    kernel: str = param("What draws the grid; both draw the same cells.", KERNELS[0],
                        choices=KERNELS)  # fmt: skip
    max_input_age_s: float = param(
        "Age at which scan or depth is stale, s.", 0.30, minimum=0.05, maximum=5.0
    )
    min_valid_depth_fraction: float = param(
        "Depth images with fewer valid pixels are rejected.",
        0.10, minimum=0.0, maximum=1.0, live=True,
    )  # fmt: skip


class BevBuilderNode(ManagedNode):
    """Publishes a grid for each depth frame while a fresh scan is there.

    Args:
        take_grid: called with each grid, (2, cells, cells) float32 that the next one overwrites,
            and its stamp, before anything is published. The topic is then served only while
            somebody subscribes.
    """

    def __init__(self, take_grid: Callable[[NDArray[np.float32], Any], None] | None = None) -> None:
        super().__init__(
            "bev_builder", BuilderParameters, inputs=("scan", "depth"), optional=("odom",)
        )
        self._take_grid = take_grid

    def set_up(self) -> None:
        """Create publishers and subscriptions; compile the kernel."""
        self._grids = 0
        self._grids_of_held_scans = 0
        self._costs_ms: deque[float] = deque(maxlen=COSTS_KEPT)
        self._scan: Scan | None = None
        self._sweep_ns = 0
        self._stamped_late = False
        self._scan_stamp: Any = None
        self._intrinsics: Intrinsics | None = None
        self._camera_problem = "camera_info never received"
        self._track = OdometryTrack()
        self._message = Image()
        self._memory = messages.bev_message(self._message, self.contract)
        self._make_builder()
        self._publisher = self.advertise(Image, "bev", SENSOR_QOS)
        self._views = [
            self.advertise(OccupancyGrid, f"bev/{name}", VIEW_QOS)
            for name in self.contract.grid_channels
        ]
        self.subscribe(LaserScan, "scan", self._on_scan)
        self.subscribe(CameraInfo, "camera_info", self._on_camera_info)
        self.subscribe(Image, "depth", self._on_depth)
        self.subscribe(Odometry, "odom", self._on_odom)

    def _make_builder(self) -> None:
        own: BuilderParameters = self.parameters
        self._builder = BevBuilder(self.contract, self.robot, own, own.kernel)
        self._builder.use_memory(self._memory)

    def on_mounting(self) -> None:
        """Draw with the new mounting from the next frame on."""
        self._make_builder()

    def on_parameters(self, updated: BuilderParameters) -> None:
        """Use changed limits from the next frame on."""
        if self.failure is None:
            self._builder.parameters = updated

    def _on_scan(self, message: LaserScan) -> None:
        scan = self.receive("scan", messages.scan_from_message, message, mounting="lidar_pose")
        if scan is not None:
            self._scan, self._scan_stamp = scan, message.header.stamp
            self._sweep_ns = self._sweep_of(scan, message)

    def _sweep_of(self, scan: Scan, message: LaserScan) -> int:
        """Return ns from the first to the last beam; 0 where the stamp is not the first's.

        Some drivers stamp a scan when they publish it: then the last beam would lie in the future.
        """
        sweep_ns = round(scan.time_increment_s * (len(scan.ranges_m) - 1) * 1e9)
        now_ns = self.get_clock().now().nanoseconds
        if messages.stamp_ns(message.header.stamp) + sweep_ns <= now_ns:
            return sweep_ns
        if not self._stamped_late:
            self._stamped_late = True
            self.get_logger().info(
                "scan: its stamp is not the first beam's, for its last beam would lie in the "
                "future; all beams are taken to be of the time of the stamp"
            )
        return 0

    def _on_camera_info(self, message: CameraInfo) -> None:
        try:
            self._intrinsics = messages.intrinsics_from_message(message)
            self._image_size = (message.height, message.width)
        except SensorError as error:
            self._intrinsics, self._camera_problem = None, str(error)
            self.warn("camera_info", str(error))

    def _on_odom(self, message: Odometry) -> None:
        sample = self.receive("odom", messages.odometry_from_message, message)
        if sample is not None:
            self._track.add(sample)

    def _on_depth(self, message: Image) -> None:
        if not self.active:
            return
        started_s = time.perf_counter()
        depth = self.receive("depth", self._depth_image, message, mounting="camera_pose")
        if depth is None:
            return
        stale = self.monitors["scan"].problem(steady_s())
        if stale is not None or self._scan is None:
            self.warn("bev", f"no grid: {stale}")
            return
        stamps = (self._scan_stamp, message.header.stamp)
        scan_ns, depth_ns = (messages.stamp_ns(stamp) for stamp in stamps)
        grid = self._builder.build(
            self._scan,
            depth,
            self._scan_motion(scan_ns, depth_ns),
            (depth_ns - scan_ns) * 1e-9,
        )
        self._costs_ms.append((time.perf_counter() - started_s) * 1e3)
        self._message.header.stamp = max(stamps, key=messages.stamp_ns)
        if self._take_grid is not None:
            self._take_grid(grid, self._message.header.stamp)
        if self._take_grid is None or self._publisher.get_subscription_count():
            self._publisher.publish(self._message)
        for channel, view in zip(grid, self._views):
            if view.get_subscription_count():
                self._publish_view(view, channel)
        self._grids += 1

    def _scan_motion(self, scan_ns: int, depth_ns: int) -> ScanMotion:
        """Return how the rover moved between scan and depth frame; held where nobody knows."""
        first = self._track.motion(scan_ns, depth_ns)
        if first is None:
            self._grids_of_held_scans += 1
            return HELD
        last = self._track.motion(scan_ns + self._sweep_ns, depth_ns)
        return ScanMotion(first, first if last is None else last)

    def _publish_view(self, view: Any, channel: NDArray[np.float32]) -> None:
        message = OccupancyGrid()
        message.header.stamp = self._message.header.stamp
        messages.fill_occupancy(message, channel, self.contract.resolution_m)
        view.publish(message)

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
        limit, found = self.parameters.min_valid_depth_fraction, depth.valid_fraction
        if found < limit:
            raise SensorError(
                f"depth: expected at least {limit:.0%} valid pixels, found {found:.1%}"
            )
        return depth

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
            "grids": self._grids,
            "grids of scans held without odometry": self._grids_of_held_scans,
        }
        problem = problem or self.input_problem(steady_s())
        if self._costs_ms:
            p50, p99 = np.percentile(list(self._costs_ms), [50, 99])
            values |= {"cost p50 ms": f"{p50:.3f}", "cost p99 ms": f"{p99:.3f}"}
        return problem, values | self.describe_inputs()


def main() -> None:
    """Run the node."""
    sys.exit(run(BevBuilderNode))


if __name__ == "__main__":
    main()
