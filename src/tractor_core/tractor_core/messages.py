"""Between ROS messages and arrays.

Functions take anything with a message's attributes, so they need no ROS to import or to test.
A message that cannot be used raises SensorError with what was expected and what was found.
"""

from __future__ import annotations

import array
import math
import re
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract import Contract
from .errors import SensorError, raise_all
from .motion import OdometrySample
from .robot import Robot
from .sensors import Intrinsics, Scan, angle_problems, ensure_usable

BASE_FRAME = "base_link"
BEV_ENCODING = "32FC2"
# No tracked rover gets near this; more is a broken sensor or another unit.
MAX_SPEED = 100.0
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
# Focal length over the side of the image: lenses of 174 degrees and of 1 degree. What is outside
# was computed for another size or unit.
FOCAL_PER_SIDE = (0.026, 60.0)
# Pixels are about square; sensors that leave out rows or columns have one axis of a quarter.
MAX_PIXEL_ASPECT = 4.2
SCAN_GEOMETRY = (
    "angle_min", "angle_max", "angle_increment", "time_increment", "range_min", "range_max",
)  # fmt: skip


def stamp_ns(stamp: Any) -> int:
    """Return a builtin_interfaces/Time as integer nanoseconds."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def _ensure(heading: str, problems: list[str]) -> None:
    raise_all(SensorError, f"{heading}:", problems)


def scan_from_message(message: Any, robot: Robot | None = None) -> Scan:
    """Return a sensor_msgs/LaserScan as a Scan.

    Args:
        robot: whose own body does not count as seen; None counts every measurement.

    Raises:
        SensorError: fields that are not finite or contradict each other, more than a turn, ranges
            in another unit than metres, or a scan of which next to nothing is known; see
            scan.ensure_usable. +Inf says that the way is free (REP-117).
    """
    problems = []
    for name in SCAN_GEOMETRY:
        value = getattr(message, name)
        # pointcloud_to_laserscan and others say Inf where the sensor has no farthest range.
        if not math.isfinite(value) and (name, value) != ("range_max", math.inf):
            problems.append(f"{name}: expected a finite number, found {value}")
    if message.angle_increment == 0.0:
        problems.append("angle_increment: expected a non-zero angle, found 0")
    if not 0.0 <= message.range_min < message.range_max:
        problems.append(
            f"expected 0 <= range_min < range_max, "
            f"found {message.range_min} and {message.range_max}"
        )
    ranges = np.asarray(message.ranges, dtype=np.float32)
    if not ranges.size:
        problems.append("ranges: expected at least one beam, found none")
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
    ensure_usable(scan, robot)
    return scan


def is_rectified(topic: str) -> bool | None:
    """Return whether an image topic is rectified, None when its name does not say.

    image_proc's convention: image_rect, image_rect_raw and the like are, image_raw is not.
    """
    # The last part that says something counts: /raw_cameras/front/image_rect is rectified.
    for part in reversed(topic.lower().split("/")):
        words = re.split("[^a-z]+", part)
        if any(word.startswith("rect") for word in words):
            return True
        if "raw" in words:
            return False
    return None


def intrinsics_from_message(message: Any, topic: str = "") -> Intrinsics:
    """Return the pinhole intrinsics of the depth image that comes with a sensor_msgs/CameraInfo.

    P describes the rectified image, K the raw one. P is used, as in depth_image_proc, and K where P
    is not filled or the topic is a raw image's, if that has no distortion. Binning and the offset
    of the region of interest are applied as in image_geometry's PinholeCameraModel. Fields that a
    stand-in for a message lacks are as in an empty message.

    Args:
        topic: the depth image's; its name says whether the image is rectified.

    Raises:
        SensorError: the image is distorted, or may be; focal lengths that are not positive, values
            that are not finite, or numbers that no lens has for an image of this size.
    """
    k, p, d = ([float(v) for v in getattr(message, name, ())] for name in ("k", "p", "d"))
    # A matrix without focal lengths is not filled, whatever else a driver writes into it.
    rectified, has_k, has_p = is_rectified(topic), any(k[:5:4]), any(p[:6:5])
    if any(d):
        found = f"found distortion ({', '.join(f'{v:g}' for v in d)}) and the topic {topic!r}"
        remedy = "rectify it, with image_proc for instance, and subscribe to that topic"
        if not rectified:
            raise SensorError(
                "camera_info: expected no distortion, or a depth topic that is known to be "
                f"rectified by rect in its name, {found}; {remedy}"
            )
        if not has_p:
            raise SensorError(
                f"camera_info: expected p, the matrix of the rectified image, {found} without p; "
                "calibrate the camera, or let the driver fill p"
            )
    use_k = not has_p or (rectified is False and has_k)
    name, values, at = ("k", k, (0, 2, 4, 5)) if use_k else ("p", p, (0, 2, 5, 6))
    if len(values) <= at[-1]:
        raise SensorError(f"camera_info: expected intrinsics in p or k, found {len(values)} values")
    _ensure_matrix(name, values)
    fx, cx, fy, cy = (values[i] for i in at)
    if not (math.isfinite(fx) and math.isfinite(fy) and fx > 0 and fy > 0):
        raise SensorError(f"camera_info: expected fx, fy > 0 in {name}, found {fx:g} and {fy:g}")
    if not (math.isfinite(cx) and math.isfinite(cy)):
        raise SensorError(f"camera_info: expected finite cx, cy in {name}, found {cx:g} and {cy:g}")
    _ensure_plausible(message, name, (fx, fy), (cx, cy))
    left, top, *_ = _region(message)
    across, down = _binning(message)
    return Intrinsics(fx / across, fy / down, (cx - left) / across, (cy - top) / down)


def _ensure_matrix(name: str, values: list[float]) -> None:
    """Refuse a camera matrix whose last row is not that of one, as of one that was transposed."""
    last, width = values[-len(values) // 3 :], len(values) // 3
    if any(last[:2]) or len(values) != 3 * width:
        raise SensorError(
            f"camera_info: expected 0, 0, 1 as the last row of {name}, row by row, found "
            f"{', '.join(f'{value:g}' for value in last)}; correct the driver or the calibration"
        )


def _ensure_plausible(
    message: Any, name: str, focals: tuple[float, float], centre: tuple[float, float]
) -> None:
    """Refuse focal lengths and a principal point that no lens has for an image of this size."""
    least, most = FOCAL_PER_SIDE
    for axis, focal, middle, side in zip("xy", focals, centre, (message.width, message.height)):
        if not side:
            continue  # image_size_from_message refuses it
        if not least * side <= focal <= most * side:
            raise SensorError(
                f"camera_info: expected f{axis} of {least * side:.3g}..{most * side:.3g} pixels in "
                f"{name} for an image of {message.width}x{message.height}, found {focal:g}; "
                "calibrate the camera in this mode"
            )
        if not -side <= middle <= 2 * side:
            raise SensorError(
                f"camera_info: expected c{axis} within one image of the image, {-side}..{2 * side} "
                f"pixels in {name} for {message.width}x{message.height}, found {middle:g}; "
                "calibrate the camera in this mode"
            )
    if not 1.0 / MAX_PIXEL_ASPECT <= focals[0] / focals[1] <= MAX_PIXEL_ASPECT:
        raise SensorError(
            f"camera_info: expected fx and fy in {name} within {MAX_PIXEL_ASPECT:g} times each "
            f"other, found {focals[0]:g} and {focals[1]:g}; calibrate the camera in this mode"
        )


def image_size_from_message(message: Any) -> tuple[int, int]:
    """Return the (height, width) of the image that comes with a sensor_msgs/CameraInfo.

    That of its region of interest, binned; all zeros is the whole image (sensor_msgs/CameraInfo).

    Raises:
        SensorError: there is no size, or the region of interest is not within the image.
    """
    if not (message.width and message.height):
        raise SensorError(
            f"camera_info: expected the size of the image in width and height, "
            f"found {message.width}x{message.height}"
        )
    left, top, width, height = _region(message)
    across, down = _binning(message)
    if not (0 < width <= message.width - left and 0 < height <= message.height - top):
        raise SensorError(
            f"camera_info: expected a region of interest within the image of "
            f"{message.width}x{message.height}, found {width}x{height} at {left}, {top}"
        )
    if not (height // down and width // across):
        raise SensorError(
            f"camera_info: expected binning that leaves pixels of {width}x{height}, found "
            f"{across}x{down}"
        )
    return height // down, width // across


def _region(message: Any) -> tuple[int, int, int, int]:
    """Return x and y offset, width and height of the region of interest."""
    roi = getattr(message, "roi", None)
    region = (roi.x_offset, roi.y_offset, roi.width, roi.height) if roi is not None else (0,) * 4
    return region if any(region) else (0, 0, message.width, message.height)


def _binning(message: Any) -> tuple[int, int]:
    """Return how many pixels of the sensor were combined across and down; 0 means 1."""
    return getattr(message, "binning_x", 0) or 1, getattr(message, "binning_y", 0) or 1


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
            f"depth: expected encoding {' or '.join(DEPTH_TYPES)}, found {message.encoding!r}; "
            f"{DEPTH_REMEDIES.get(message.encoding, OTHER_REMEDY)}"
        )
    return _pixels("depth", message, np.dtype(kind), 1)[:, :, 0]


def _pixels(name: str, message: Any, dtype: np.dtype, channels: int) -> NDArray:
    """Return image data as (height, width, channels) in native byte order."""
    height, width, step = message.height, message.width, message.step
    row_bytes = width * channels * dtype.itemsize
    if height < 1 or width < 1 or step < row_bytes or len(message.data) < step * height:
        raise SensorError(
            f"{name}: expected {height} rows of step >= {row_bytes} bytes, found step {step} and "
            f"{len(message.data)} bytes of data for {width}x{height} {message.encoding}"
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
            problems.append(f"{name}: expected {expected}, found {found}")
    _ensure("bev", problems)
    pixels = _pixels("bev", message, np.dtype(np.float32), channels)
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0.0 and high <= 1.0):  # also false for NaN
        raise SensorError(f"bev: expected values 0..1, found {low:g}..{high:g}")
    return pixels.transpose(2, 0, 1)


def twist_from_odometry(message: Any) -> tuple[float, float]:
    """Return (linear m/s, angular rad/s) of a nav_msgs/Odometry, in its child frame.

    Raises:
        SensorError: a value that is not finite or that no rover reaches.
    """
    linear, angular = message.twist.twist.linear.x, message.twist.twist.angular.z
    if not (abs(linear) <= MAX_SPEED and abs(angular) <= MAX_SPEED):  # also refuses NaN
        raise SensorError(
            f"odom: expected a finite twist within {MAX_SPEED:g} m/s and rad/s, "
            f"found {linear} m/s and {angular} rad/s"
        )
    return linear, angular


def odometry_from_message(message: Any) -> OdometrySample:
    """Return a nav_msgs/Odometry as a planar pose and twist.

    Raises:
        SensorError: a value that is not finite, or a quaternion that is no rotation.
    """
    linear, angular = twist_from_odometry(message)
    position, q = message.pose.pose.position, message.pose.pose.orientation
    norm = math.sqrt(q.x * q.x + q.y * q.y + q.z * q.z + q.w * q.w)
    if not abs(norm - 1.0) <= QUATERNION_TOLERANCE:  # also refuses NaN
        raise SensorError(f"odom: expected a quaternion of length 1, found {norm:g}")
    if not (math.isfinite(position.x) and math.isfinite(position.y)):
        raise SensorError(f"odom: expected a finite position, found {position.x}, {position.y}")
    yaw = math.atan2(2.0 * (q.w * q.z + q.x * q.y), 1.0 - 2.0 * (q.y * q.y + q.z * q.z))
    stamp = stamp_ns(message.header.stamp)
    return OdometrySample(stamp, position.x, position.y, yaw, linear, angular)


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
