"""From the newest scan, depth frame, intrinsics and odometry to the grid.

The node bev_builder and the harvest of recorded drives share it, so that their grids agree.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import camera_info, messages
from ..contract import Contract
from ..errors import SensorError
from ..motion import UNCOMPENSATED, OdometrySample, OdometryTrack, ScanMotion
from ..robot import Robot
from ..sensors import DepthImage, Intrinsics, Scan
from .builder import BevBuilder
from .parameters import BuilderParameters

# A camera that sees the floor in front of a rover sees it nearer than this. Depths beyond it, and
# beyond depth_max_m, are of another unit when there are more of them than others, and few others.
MAX_TYPICAL_DEPTH_M = 20.0
# In the open most pixels may lie beyond; of another unit next to none lie within.
PLAUSIBLE_FRACTION = 0.10

log = logging.getLogger(__name__)


class Fusion:
    """Holds the newest scan, intrinsics and odometry; rasterizes a grid for each depth frame.

    Whether an input is fresh is for the caller to judge.

    Args:
        memory: what the grids are rasterized into, (cells, cells, 2) float32; None for its own.
        depth_topic: its name says whether the image is rectified; see intrinsics_from_message.

    Attributes:
        grids, uncompensated_grids: rasterized; those of a scan without odometry to move it by.

    Raises:
        ParameterError: the library of the kernel is not installed.
    """

    def __init__(
        self,
        contract: Contract,
        robot: Robot,
        parameters: BuilderParameters,
        memory: NDArray[np.float32] | None = None,
        depth_topic: str = "",
    ) -> None:
        self._contract = contract
        self._depth_topic = depth_topic
        self._parameters = parameters
        self._memory = memory
        self._scan: Scan | None = None
        self._scan_ns = self._sweep_ns = 0
        self._stamped_late = False
        self._camera: tuple[Intrinsics, tuple[int, int]] | None = None
        self._camera_problem = SensorError("camera_info never received")
        self._track = OdometryTrack()
        self.grids = self.uncompensated_grids = 0
        self.set_extrinsics(robot)

    def set_extrinsics(self, robot: Robot) -> None:
        """Rasterize with these extrinsics from the next frame on."""
        own = self._parameters
        self._builder = BevBuilder(self._contract, robot, own, own.kernel)
        if self._memory is not None:
            self._builder.use_memory(self._memory)

    @property
    def parameters(self) -> BuilderParameters:
        """The limits; changed ones hold from the next frame on."""
        return self._parameters

    @parameters.setter
    def parameters(self, updated: BuilderParameters) -> None:
        self._parameters = self._builder.parameters = updated

    def take_scan(self, scan: Scan, stamp_ns: int, clock_ns: int) -> None:
        """Use this scan from now on.

        Args:
            clock_ns: the ROS clock when it came.
        """
        self._scan, self._scan_ns = scan, stamp_ns
        # Some drivers stamp a scan when they publish it: then the last beam would lie in the
        # future, and how the sweep lies in time is not known.
        sweep_ns = round(scan.time_increment_s * (len(scan.ranges_m) - 1) * 1e9)
        late = stamp_ns + sweep_ns > clock_ns
        self._sweep_ns = 0 if late else sweep_ns
        if late and not self._stamped_late:
            self._stamped_late = True
            log.info(
                "scan: its stamp is not the first beam's, for its last beam would lie in the "
                "future; all beams are taken to be of the time of the stamp"
            )

    def take_odometry(self, sample: OdometrySample) -> None:
        """Note where the rover was."""
        self._track.add(sample)

    def take_camera_info(self, message: Any) -> None:
        """Use the intrinsics of a sensor_msgs/CameraInfo; there are none after one that is refused.

        Raises:
            SensorError: they cannot be used.
        """
        try:
            intrinsics = camera_info.intrinsics_from_message(message, self._depth_topic)
            self._camera = intrinsics, camera_info.image_size_from_message(message)
        except SensorError as error:
            self._camera, self._camera_problem = None, error
            raise

    def depth_image(self, message: Any) -> DepthImage:
        """Return a sensor_msgs/Image as a depth image with the intrinsics of the camera, judged.

        Raises:
            SensorError: see `read_depth` and `ensure_known`.
        """
        depth = self.read_depth(message)
        self.ensure_known(depth)
        return depth

    def read_depth(self, message: Any) -> DepthImage:
        """Return a sensor_msgs/Image as a depth image, whatever its depths are.

        Raises:
            SensorError: it cannot be read, or has another size than camera_info says.
        """
        pixels = messages.depth_from_message(message)
        if self._camera is None:
            problem, lacks = self._camera_problem, "depth: no intrinsics to use it with"
            raise SensorError(f"{lacks}: {problem.expected}", text=f"{lacks}: {problem}")
        intrinsics, size = self._camera
        if pixels.shape != size:
            raise SensorError(
                f"depth: expected the size of camera_info {size[::-1]}",
                f"{pixels.shape[::-1]} (width, height)",
            )
        return DepthImage(pixels, intrinsics)

    def ensure_known(self, depth: DepthImage) -> None:
        """Refuse a depth image in another unit, or with too few pixels of which the depth is known.

        Raises:
            SensorError: it is; says how many.
        """
        own = self._parameters
        nearest_m, limit = own.depth_min_m, own.min_valid_depth_fraction
        farthest_m = max(MAX_TYPICAL_DEPTH_M, own.depth_max_m)
        if depth.has_within(nearest_m, farthest_m, max(limit, PLAUSIBLE_FRACTION)):
            return
        known, valid = depth.fraction_within(nearest_m, farthest_m), depth.valid_fraction
        near = depth.fraction_within(0.0, nearest_m)
        far = valid - near - known
        if far > known:
            unit = messages.DEPTH_UNITS[depth.pixels.dtype.type]
            raise SensorError(
                f"depth: expected {unit} (REP-118)",
                f"{far:.1%} of "
                f"the pixels beyond {farthest_m:g} m and {known:.1%} within; "
                "convert the unit in the driver",
            )
        if known < limit:
            close = np.count_nonzero(depth.pixels == -np.inf) / depth.pixels.size
            raise SensorError(
                f"depth: expected at least {limit:.0%} valid pixels",
                f"{known:.1%} "
                f"({near + close:.1%} nearer than depth_min_m = {nearest_m:g} m, "
                f"{1.0 - valid - close:.1%} without a depth); is the lens covered?",
            )

    def rasterize(self, depth: DepthImage, depth_ns: int) -> tuple[NDArray[np.float32], int]:
        """Rasterize the newest scan, compensated for the motion since, and the depth frame.

        Returns:
            (2, cells, cells) float32, overwritten by the next call, and the stamp of the newer of
            the two frames, ns.

        Raises:
            SensorError: there is no scan yet.
        """
        if self._scan is None:
            raise SensorError("scan never received")
        age_s = (depth_ns - self._scan_ns) * 1e-9
        grid = self._builder.build(self._scan, depth, self._scan_motion(depth_ns), age_s)
        self.grids += 1
        return grid, max(self._scan_ns, depth_ns)

    # Their names until version 0.2.
    draw, mount = rasterize, set_extrinsics

    def _scan_motion(self, depth_ns: int) -> ScanMotion:
        """Return how the rover moved from scan to depth frame; none where nobody knows."""
        first = self._track.motion(self._scan_ns, depth_ns)
        if first is None:
            self.uncompensated_grids += 1
            return UNCOMPENSATED
        last = self._track.motion(self._scan_ns + self._sweep_ns, depth_ns)
        return ScanMotion(first, first if last is None else last)
