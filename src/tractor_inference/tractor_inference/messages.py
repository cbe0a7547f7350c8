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

from .bev import Intrinsics, Scan
from .contract import Contract
from .errors import SensorError, raise_all

BASE_FRAME = "base_link"
BEV_ENCODING = "32FC2"
# No tracked rover gets near this; more is a broken sensor or another unit.
MAX_SPEED = 100.0
DEPTH_TYPES = {"16UC1": np.uint16, "32FC1": np.float32}


def stamp_ns(stamp: Any) -> int:
    """Return a builtin_interfaces/Time as integer nanoseconds."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def _ensure(heading: str, problems: list[str]) -> None:
    raise_all(SensorError, f"{heading}:", problems)


def scan_from_message(message: Any) -> Scan:
    """Return a sensor_msgs/LaserScan as a Scan.

    Raises:
        SensorError: geometry that is not finite, no beams, or no beam that says anything (all NaN,
            zero or outside the sensor's limits). +Inf says that the way is free (REP-117).
    """
    problems = []
    geometry = {
        name: getattr(message, name)
        for name in ("angle_min", "angle_increment", "range_min", "range_max")
    }
    for name, value in geometry.items():
        if not math.isfinite(value):
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
    _ensure("scan", problems)
    scan = Scan(
        ranges,
        message.angle_min,
        message.angle_increment,
        message.range_min,
        message.range_max,
    )
    if not (scan.measured | (ranges == np.inf)).any():
        raise SensorError(
            f"scan: expected at least one range in {message.range_min:g}..{message.range_max:g} m "
            f"or +Inf, found none in {ranges.size} beams"
        )
    return scan


def intrinsics_from_message(message: Any) -> Intrinsics:
    """Return the pinhole intrinsics of a sensor_msgs/CameraInfo.

    Raises:
        SensorError: focal lengths that are not positive, or values that are not finite.
    """
    fx, cx, fy, cy = (float(message.k[i]) for i in (0, 2, 4, 5))
    if not (math.isfinite(fx) and math.isfinite(fy) and fx > 0 and fy > 0):
        raise SensorError(f"camera_info: expected fx, fy > 0 in k, found {fx:g} and {fy:g}")
    if not (math.isfinite(cx) and math.isfinite(cy)):
        raise SensorError(f"camera_info: expected finite cx, cy in k, found {cx:g} and {cy:g}")
    return Intrinsics(fx, fy, cx, cy)


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
            f"depth: expected encoding {' or '.join(DEPTH_TYPES)}, found {message.encoding!r}"
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


def fill_bev_message(message: Any, grid: NDArray[np.float32]) -> None:
    """Write a grid (2, rows, cols) into a sensor_msgs/Image as 32FC2, the NPU's byte order (NHWC).

    The message's data is allocated at the first call and reused by the next ones: assigning numpy
    data to a message costs milliseconds, writing through a view microseconds.
    """
    channels, rows, cols = grid.shape
    size = grid.nbytes
    if len(message.data) != size:
        message.height, message.width = rows, cols
        message.encoding, message.step = BEV_ENCODING, cols * channels * 4
        message.is_bigendian = int(sys.byteorder == "big")
        message.header.frame_id = BASE_FRAME
        message.data = array.array("B", bytes(size))
    view = np.frombuffer(message.data, np.float32).reshape(rows, cols, channels)
    view[:] = grid.transpose(1, 2, 0)


def bev_from_message(message: Any, contract: Contract) -> NDArray[np.float32]:
    """Return a bev sensor_msgs/Image as a new (2, cells, cells) float32 array.

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
    grid = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    low, high = float(grid.min()), float(grid.max())
    if not (low >= 0.0 and high <= 1.0):  # also false for NaN
        raise SensorError(f"bev: expected values 0..1, found {low:g}..{high:g}")
    return grid


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
