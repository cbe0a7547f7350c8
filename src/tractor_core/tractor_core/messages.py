"""Between ROS messages and arrays.

Functions take anything with a message's attributes, so they need no ROS to import or to test.
A message that cannot be used raises SensorError with what was expected and what was found.
"""

from __future__ import annotations

import array
import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract import Contract
from .errors import Problem, SensorError
from .kinematics import Velocity
from .motion import OdometrySample
from .robot import Robot
from .sensors import Scan, angle_problems, ensure_usable

BASE_FRAME = "base_link"
BEV_ENCODING = "32FC2"
# Slip, a slope or a push exceed the robot's greatest speed, but not so far; another unit does.
SPEED_FACTOR, SPEED_SLACK = 3.0, 0.1
QUATERNION_TOLERANCE = 0.1
DEPTH_TYPES = {"16UC1": np.uint16, "32FC1": np.float32}
DEPTH_UNITS = {np.uint16: "millimetres in 16UC1", np.float32: "metres in 32FC1"}
# What else arrives on depth topics, and what helps.
DEPTH_REMEDIES = {
    "mono16": "this is 16UC1 under another name: let the driver publish it as 16UC1",
    "16SC1": "let the driver publish unsigned millimetres, 16UC1",
    "64FC1": "let the driver publish metres in single precision, 32FC1",
    "mono8": "this is a picture to look at; subscribe to the depth image itself",
    "8UC1": "this is a picture to look at; subscribe to the depth image itself",
}
OTHER_REMEDY = "this is no depth image; subscribe to the camera's depth topic"
SCAN_GEOMETRY = (
    "angle_min", "angle_max", "angle_increment", "time_increment", "range_min", "range_max",
)  # fmt: skip


def stamp_ns(stamp: Any) -> int:
    """Return a builtin_interfaces/Time as integer nanoseconds."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def _ensure(name: str, problems: list[Problem]) -> None:
    if problems:
        raise SensorError.of_all(name, problems)


def scan_from_message(message: Any, robot: Robot | None = None) -> Scan:
    """Return a sensor_msgs/LaserScan as a Scan.

    Args:
        robot: whose own body does not count as seen, and whose driver may have another code for
            "nothing within reach"; None counts every measurement.

    Raises:
        SensorError: fields that are not finite or contradict each other, more than a turn, ranges
            in another unit than metres, or a scan of which next to nothing is known; see
            sensors.ensure_usable. +Inf says that the way is free (REP-117).
    """
    problems: list[Problem] = []
    for name in SCAN_GEOMETRY:
        value = getattr(message, name)
        # pointcloud_to_laserscan and others say Inf where the sensor has no farthest range.
        if not math.isfinite(value) and (name, value) != ("range_max", math.inf):
            problems.append(Problem(f"{name}: expected a finite number", f"{value}"))
    if message.angle_increment == 0.0:
        problems.append(Problem("angle_increment: expected a non-zero angle", "0"))
    if not 0.0 <= message.range_min < message.range_max:
        problems.append(
            Problem(
                "expected 0 <= range_min < range_max",
                f"{message.range_min} and {message.range_max}",
            )
        )
    ranges = np.asarray(message.ranges, dtype=np.float32)
    if not ranges.size:
        problems.append(Problem("ranges: expected at least one beam", "none"))
    if not problems:
        problems += angle_problems(
            message.angle_min, message.angle_max, message.angle_increment, ranges.size
        )
    _ensure("scan", problems)
    scan = Scan(
        ranges,
        message.angle_min,
        message.angle_increment,
        message.range_min,
        message.range_max,
        message.time_increment,
    )
    if robot is not None:
        scan = scan.with_no_return(robot.lidar_no_return)
    ensure_usable(scan, robot)
    return scan


def depth_from_message(message: Any) -> NDArray[np.uint16] | NDArray[np.float32]:
    """Return the pixels of a depth sensor_msgs/Image, (height, width), in native byte order.

    16UC1 gives uint16 millimetres, 32FC1 float32 metres (REP-118); row padding (`step`) and byte
    order are honoured. The array is a view of the message where nothing has to be converted.

    Raises:
        SensorError: another encoding, an empty image, or data shorter than it says.
    """
    kind = DEPTH_TYPES.get(message.encoding)
    if kind is None:
        raise SensorError(
            f"depth: expected encoding {' or '.join(DEPTH_TYPES)}",
            f"{message.encoding!r}; {DEPTH_REMEDIES.get(message.encoding, OTHER_REMEDY)}",
        )
    return _pixels("depth", message, np.dtype(kind), 1)[:, :, 0]


def _pixels(name: str, message: Any, dtype: np.dtype, channels: int) -> NDArray:
    """Return image data as (height, width, channels) in native byte order."""
    height, width, step = message.height, message.width, message.step
    row_bytes = width * channels * dtype.itemsize
    if height < 1 or width < 1 or step < row_bytes or len(message.data) < step * height:
        raise SensorError(
            f"{name}: expected {height} rows of step >= {row_bytes} bytes",
            f"step {step} and "
            f"{len(message.data)} bytes of data for {width}x{height} {message.encoding}",
        )
    stored = dtype.newbyteorder(">" if message.is_bigendian else "<")
    rows = np.frombuffer(message.data, np.uint8, step * height).reshape(height, step)
    if step != row_bytes:
        rows = np.ascontiguousarray(rows[:, :row_bytes])
    pixels = rows.reshape(-1).view(stored).reshape(height, width, channels)
    return pixels.astype(dtype, copy=False)


def bev_message(message: Any, contract: Contract) -> NDArray[np.float32]:
    """Make a sensor_msgs/Image a grid of the contract, 32FC2, and return its memory.

    Drawing into the memory, (cells, cells, 2) float32, fills the message. Assigning numpy data to
    a message costs milliseconds, writing through a view microseconds, so one message is reused.
    """
    channels, rows, cols = contract.bev_shape
    message.height, message.width = rows, cols
    message.encoding, message.step = BEV_ENCODING, cols * channels * 4
    message.is_bigendian = int(sys.byteorder == "big")
    message.header.frame_id = BASE_FRAME
    message.data = array.array("B", bytes(message.step * rows))
    return np.frombuffer(message.data, np.float32).reshape(rows, cols, channels)


def bev_from_message(message: Any, contract: Contract) -> NDArray[np.float32]:
    """Return a bev sensor_msgs/Image as (2, cells, cells) float32, a view of the message's data.

    Raises:
        SensorError: another frame, encoding or size than the contract's, or values outside 0..1.
    """
    channels, rows, cols = contract.bev_shape
    problems = []
    for name, expected, found in (
        ("frame_id", BASE_FRAME, message.header.frame_id),
        ("encoding", BEV_ENCODING, message.encoding),
        ("size", (cols, rows), (message.width, message.height)),
    ):
        if expected != found:
            problems.append(Problem(f"{name}: expected {expected}", f"{found}"))
    _ensure("bev", problems)
    pixels = _pixels("bev", message, np.dtype(np.float32), channels)
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0.0 and high <= 1.0):  # also false for NaN
        raise SensorError("bev: expected values 0..1", f"{low:g}..{high:g}")
    return pixels.transpose(2, 0, 1)


def velocity_from_command(message: Any) -> Velocity:
    """Return the velocity of a geometry_msgs/Twist or TwistStamped, whatever its values."""
    twist = getattr(message, "twist", message)
    return Velocity(twist.linear.x, twist.angular.z)


def twist_from_odometry(message: Any, robot: Robot) -> Velocity:
    """Return the twist of a nav_msgs/Odometry.

    Raises:
        SensorError: a value that is not finite or that this robot does not reach, a pose that is
            not finite, for what estimated it has diverged, or a twist in another frame than the
            body's.
    """
    frame = message.child_frame_id
    if frame and frame.rpartition("/")[2] not in robot.body_frames:
        raise SensorError(
            f"odom: expected child_frame_id {' or '.join(robot.body_frames)}",
            f"{frame!r}; the twist must be that of the body: where this is its name, add it to "
            "robot.body_frames",
        )
    position, q = message.pose.pose.position, message.pose.pose.orientation
    if not all(map(math.isfinite, (position.x, position.y, q.x, q.y, q.z, q.w))):
        raise SensorError(
            "odom: expected a finite pose",
            f"x {position.x:g}, y {position.y:g}, quaternion {q.x:g}, {q.y:g}, {q.z:g}, {q.w:g}; "
            "what estimates it has diverged: restart it",
        )
    found = Velocity(message.twist.twist.linear.x, message.twist.twist.angular.z)
    limits = Velocity(robot.max_linear_speed, robot.max_angular_speed)
    for value, limit, unit in zip(found, limits, ("m/s", "rad/s")):
        most = SPEED_FACTOR * limit + SPEED_SLACK
        if not abs(value) <= most:  # also refuses NaN
            raise SensorError(
                f"odom: expected a twist of at most {most:.2f} {unit}, what this robot reaches and "
                "more",
                f"{value:g}; correct the unit in the driver, or robot.max_linear_speed and "
                "max_angular_speed",
            )
    return found


def odometry_from_message(message: Any, robot: Robot) -> OdometrySample:
    """Return a nav_msgs/Odometry as a planar pose and twist.

    Raises:
        SensorError: as `twist_from_odometry`, or a pose that is no rotation.
    """
    linear, angular = twist_from_odometry(message, robot)
    q = message.pose.pose.orientation
    norm = math.sqrt(q.x * q.x + q.y * q.y + q.z * q.z + q.w * q.w)
    if abs(norm - 1.0) > QUATERNION_TOLERANCE:
        raise SensorError("odom: expected a quaternion of length 1", f"{norm:g}")
    stamp = stamp_ns(message.header.stamp)
    return OdometrySample(stamp, *planar_pose(message.pose.pose), linear, angular)


def planar_pose(pose: Any) -> tuple[float, float, float]:
    """Return a geometry_msgs/Pose as x, y in m and yaw in rad."""
    q = pose.orientation
    yaw = math.atan2(2.0 * (q.w * q.z + q.x * q.y), 1.0 - 2.0 * (q.y * q.y + q.z * q.z))
    return pose.position.x, pose.position.y, yaw


def fill_occupancy(message: Any, channel: NDArray[np.float32], resolution_m: float) -> None:
    """Write one channel, (rows, cols) 0..1, into a nav_msgs/OccupancyGrid in base_link.

    Its x runs forward and its y left from the rear right corner, the grid's rows and columns the
    other way round. Occupied is 100, free or unknown 0.
    """
    rows, cols = channel.shape
    message.header.frame_id = BASE_FRAME
    message.info.resolution = resolution_m
    message.info.width, message.info.height = rows, cols
    message.info.origin.position.x = -rows * resolution_m / 2.0
    message.info.origin.position.y = -cols * resolution_m / 2.0
    message.info.origin.orientation.w = 1.0
    cells = np.rint(100.0 * channel[::-1, ::-1].T).astype(np.int8)
    message.data = array.array("b", cells.tobytes())
