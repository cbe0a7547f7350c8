"""Messages of scans, depth images and odometry as real drivers make them; shared by both nodes."""

from __future__ import annotations

import math
import sys

import numpy as np
from builtin_interfaces.msg import Time
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, LaserScan

from tractor_core.frames import ODOM_FRAME
from tractor_core.messages import BASE_FRAME
from tractor_core.sensors import DepthImage, Scan
from tractor_inference.nodes.base.sensor_inputs import SENSOR_QOS

from ..rover import Odometry as WheelOdometry
from ..sensors import DEPTH_FRAME, SCAN_FRAME

SCAN_PERIOD_S = 0.1


class SensorPublisher:
    """Publishes `scan`, `camera_info` and `depth` (16UC1 or 32FC1) of a node."""

    def __init__(self, node: Node) -> None:
        self._scan = node.create_publisher(LaserScan, "scan", SENSOR_QOS)
        self._info = node.create_publisher(CameraInfo, "camera_info", SENSOR_QOS)
        self._depth = node.create_publisher(Image, "depth", SENSOR_QOS)
        self._image = Image()

    @property
    def subscribed(self) -> bool:
        """Whether somebody listens to both scan and depth."""
        return all(p.get_subscription_count() > 0 for p in (self._scan, self._depth))

    def publish(self, scan: Scan | None, depth: DepthImage, stamp: Time) -> None:
        """Publish one image, and a scan when there is one, all with this stamp."""
        if scan is not None:
            self._scan.publish(scan_message(scan, stamp))
        self._info.publish(info_message(depth, stamp))
        fill_depth_message(self._image, depth)
        self._image.header.stamp = stamp
        self._depth.publish(self._image)


def scan_message(scan: Scan, stamp: Time) -> LaserScan:
    """Return a scan as LaserScan in frame `laser`."""
    message = LaserScan()
    message.header.stamp, message.header.frame_id = stamp, SCAN_FRAME
    message.angle_min = scan.angle_min_rad
    message.angle_max = float(scan.angles_rad[-1])
    message.angle_increment = scan.angle_increment_rad
    message.scan_time = SCAN_PERIOD_S
    message.range_min, message.range_max = scan.range_min_m, scan.range_max_m
    message.ranges.frombytes(np.ascontiguousarray(scan.ranges_m, np.float32).tobytes())
    return message


def info_message(depth: DepthImage, stamp: Time) -> CameraInfo:
    """Return the intrinsics and size of an undistorted depth image as CameraInfo."""
    k = depth.intrinsics
    message = CameraInfo()
    message.header.stamp, message.header.frame_id = stamp, DEPTH_FRAME
    message.height, message.width = depth.pixels.shape
    message.distortion_model, message.d = "plumb_bob", [0.0] * 5
    message.k = [k.fx, 0.0, k.cx, 0.0, k.fy, k.cy, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [k.fx, 0.0, k.cx, 0.0, 0.0, k.fy, k.cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def fill_depth_message(message: Image, depth: DepthImage) -> None:
    """Write a depth image into an Image, whose data is allocated once and then reused.

    Assigning numpy data to a message costs milliseconds, writing through a view microseconds.
    """
    pixels = depth.pixels
    if len(message.data) != pixels.nbytes:
        message.data = bytes(pixels.nbytes)
    message.height, message.width = pixels.shape
    message.encoding = "16UC1" if pixels.dtype == np.uint16 else "32FC1"
    message.step = pixels.shape[1] * pixels.itemsize
    message.is_bigendian = int(sys.byteorder == "big")
    message.header.frame_id = DEPTH_FRAME
    np.frombuffer(message.data, pixels.dtype).reshape(pixels.shape)[:] = pixels


def odometry_message(odom: WheelOdometry, stamp: Time) -> Odometry:
    """Return what the wheels report as Odometry of base_link in odom."""
    message = Odometry()
    message.header.stamp, message.header.frame_id = stamp, ODOM_FRAME
    message.child_frame_id = BASE_FRAME
    pose, twist = message.pose.pose, message.twist.twist
    pose.position.x, pose.position.y = odom.x_m, odom.y_m
    pose.orientation.z, pose.orientation.w = (
        math.sin(odom.yaw_rad / 2),
        math.cos(odom.yaw_rad / 2),
    )
    twist.linear.x, twist.angular.z = odom.linear_m_s, odom.angular_rad_s
    return message
