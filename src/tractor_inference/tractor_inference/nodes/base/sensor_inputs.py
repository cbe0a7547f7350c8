"""The sensor inputs of a node: judged as they come, with poses from TF where asked for."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time

from tractor_core import robot as robot_module
from tractor_core.errors import ParameterError, SensorError
from tractor_core.input_monitor import InputMonitor
from tractor_core.kinematics import Velocity
from tractor_core.messages import (
    BASE_FRAME,
    bev_from_message,
    odometry_from_message,
    scan_from_message,
    stamp_ns,
    twist_from_odometry,
)
from tractor_core.motion import OdometrySample
from tractor_core.robot import Robot
from tractor_core.sensors import Scan

from .polled import Polled

T = TypeVar("T")

# Only the newest sensor frame matters: a queue would only add age.
SENSOR_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class SensorInputs:
    """Turns messages into what the pure modules take, and knows which inputs are stale.

        inputs = SensorInputs(node, node.robot, others, required=("scan", "odom"))
        inputs.open(max_age_s=0.3, frozen_s=1.0)
        ...
        scan = inputs.receive("scan", inputs.to_scan, message, extrinsics="lidar_pose")
        if scan is not None: ...
        reason_to_stop = inputs.problem(time.monotonic())

    Args:
        node: has `warn(key, text, kind)`, the ROS clock and the log.
        robot: the extrinsics; with `use_tf` the sensors' poses are taken from TF instead.
        others: of whose subscriptions some are inputs; these are judged as of its last look.
        required, optional: their names; a stale required one is a problem.
        on_extrinsics: called when `robot` has changed.

    Attributes:
        robot: with the extrinsics in use.
        monitors: {name: its monitor}; none before it is opened.
    """

    def __init__(
        self,
        node: Any,
        robot: Robot,
        others: Polled,
        required: tuple[str, ...] = (),
        optional: tuple[str, ...] = (),
        on_extrinsics: Callable[[], None] = lambda: None,
    ) -> None:
        self._node, self.robot, self._on_extrinsics = node, robot, on_extrinsics
        self._others = others
        self._required = dict.fromkeys(required, True) | dict.fromkeys(optional, False)
        self.monitors: dict[str, InputMonitor] = {}
        self._frame_of: dict[str, str] = {}
        # Names of what is taken; the rest calls back by itself.
        self._taken: set[str] = set()
        self._tf: TfExtrinsics | None = None

    def open(self, max_age_s: float, frozen_s: float = 0.0) -> None:
        """Begin with inputs that were never received; see InputMonitor.

        Raises:
            ParameterError: TF is asked for and tf2_ros cannot be imported.
        """
        self.monitors = {
            name: InputMonitor(name, max_age_s, required, frozen_s)
            for name, required in self._required.items()
        }
        self._frame_of.clear()
        if self.robot.use_tf:
            self._tf = TfExtrinsics(self._node)

    def close(self) -> None:
        """Listen to TF no longer; harmless when done before."""
        if self._tf is not None:
            self._tf.close()
            self._tf = None

    def receive(
        self,
        name: str,
        convert: Callable[[Any], T],
        message: Any,
        extrinsics: str = "",
        waited_s: float | None = None,
    ) -> T | None:
        """Convert a message of an input; None, counted and logged, when it cannot be used.

        Args:
            extrinsics: the field of Robot with the sensor's pose, taken from TF if asked for.
            waited_s: how long ago it came, of what is taken; it is judged as of then.
        """
        monitor = self.monitors[name]
        if waited_s is not None:
            self._taken.add(name)
        clock_ns, now_s = self.arrival(waited_s or 0.0)
        header = message.header
        try:
            # When it is accepted: no frame may be rasterized with the pose of another.
            if extrinsics and monitor.adopts(header.frame_id, now_s):
                self._take_extrinsics(extrinsics, header.frame_id)
            value = convert(message)
            content = getattr(value, "content", None)
            at_ns = stamp_ns(header.stamp)
            if monitor.accept(header.frame_id, at_ns, clock_ns, now_s, content):
                return value
        except SensorError as error:
            monitor.reject(error)
        self._warn(monitor)
        return None

    def accept(self, name: str, frame_id: str, at_ns: int) -> bool:
        """Take note of what came without a message; False, counted and logged, when it is late."""
        monitor = self.monitors[name]
        if monitor.accept(frame_id, at_ns, *self.arrival(0.0)):
            return True
        self._warn(monitor)
        return False

    def _warn(self, monitor: InputMonitor) -> None:
        if (rejection := monitor.rejection) is not None:
            self._node.warn(monitor.name, str(rejection), rejection.expected)

    def to_scan(self, message: Any) -> Scan:
        """Convert a LaserScan, for `receive`; what it sees of the rover is not counted as seen."""
        return scan_from_message(message, self.robot)

    def to_bev(self, message: Any) -> NDArray[np.float32]:
        """Convert a grid, for `receive`."""
        return bev_from_message(message, self._node.contract)

    def to_twist(self, message: Any) -> Velocity:
        """Convert an Odometry to its twist, for `receive`."""
        return twist_from_odometry(message, self.robot)

    def to_odometry(self, message: Any) -> OdometrySample:
        """Convert an Odometry, for `receive`."""
        return odometry_from_message(message, self.robot)

    def problem(self, now_s: float) -> str | None:
        """Return every required input that is missing or stale, or None."""
        as_of_s = self._others.as_of(now_s)
        problems = (
            monitor.problem(as_of_s if name in self._taken else now_s)
            for name, monitor in self.monitors.items()
            if monitor.required
        )
        return "; ".join(filter(None, problems)) or None

    def describe(self) -> dict[str, str]:
        """Return rates, ages and counters of all inputs for diagnostics."""
        now_s = time.monotonic()
        return {k: v for m in self.monitors.values() for k, v in m.describe(now_s).items()}

    def arrival(self, waited_s: float) -> tuple[int, float]:
        """Return the ROS clock (ns) and a steady one (s) when what waited so long came.

        What a simulated clock was then is not known: it counts as if it came now.
        """
        clock = self._node.get_clock()
        if clock.ros_time_is_active:
            waited_s = 0.0
        return clock.now().nanoseconds - round(waited_s * 1e9), time.monotonic() - waited_s

    def _take_extrinsics(self, field: str, frame_id: str) -> None:
        """Take a sensor's pose from TF when its frame is not the one whose pose is in use."""
        if self._tf is None or self._frame_of.get(field) == frame_id:
            return
        pose = self._tf.pose(frame_id, optical=field == "camera_pose")
        changes: dict[str, Any] = {field: pose}
        self.robot = dataclasses.replace(self.robot, **changes)
        self._frame_of[field] = frame_id
        numbers = ", ".join(f"{value:.3f}" for value in pose)
        self._node.get_logger().info(f"{field} from TF, frame {frame_id!r}: [{numbers}]")
        self._on_extrinsics()


class TfExtrinsics:
    """Sensor poses from TF.

    Raises:
        ParameterError: tf2_ros cannot be imported.
    """

    def __init__(self, node: Node) -> None:
        try:
            import tf2_ros
        except ImportError as error:
            raise ParameterError(
                f"robot.use_tf: expected the Python package tf2_ros, found none ({error}); install "
                "ros-jazzy-tf2-ros-py and source ROS 2, or set robot.use_tf to false and "
                "robot.lidar_pose and robot.camera_pose to the extrinsics"
            ) from error
        self._error = tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)

    def close(self) -> None:
        """Listen no longer."""
        self._listener.unregister()

    def pose(self, frame_id: str, optical: bool) -> tuple[float, ...]:
        """Return x, y, z, roll, pitch, yaw of a sensor in base_link.

        Args:
            optical: the frame is a camera's optical one (REP-103: z forward, x right, y down), and
                the pose of the camera body, x forward, is wanted.

        Raises:
            SensorError: there is no such transform yet.
        """
        try:
            transform = self._buffer.lookup_transform(BASE_FRAME, frame_id, Time()).transform
        except self._error as error:
            raise SensorError(
                f"tf: expected a transform from {BASE_FRAME} to {frame_id!r}", f"none: {error}"
            ) from error
        t, q = transform.translation, transform.rotation
        return robot_module.pose_of((t.x, t.y, t.z), (q.x, q.y, q.z, q.w), optical)
