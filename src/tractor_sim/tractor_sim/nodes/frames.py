"""Publishes the tree of frames, odom -> base_link -> laser and camera; shared by both nodes."""

from __future__ import annotations

from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from tractor_core import frames
from tractor_core.frames import Transform
from tractor_core.robot import Robot

from ..sensors import CAMERA_FRAME, DEPTH_FRAME, SCAN_FRAME

# As tf2_ros offers and requests them.
TF_QOS = QoSProfile(depth=100)
STATIC_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
MISSING = "not published: expected the package tf2_msgs, found none; apt ROS 2 has it"


class FramePublisher:
    """Publishes `tf` and, once, `tf_static` of a node, where tf2_msgs is installed.

    The names are relative: each simulated rover has its own tree, in its namespace, with the same
    frames, as the nodes of the suite expect them.

    Attributes:
        state: for diagnostics, whether transforms are published.
    """

    def __init__(self, node: Node, robot: Robot) -> None:
        self._publisher = None
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            self.state = MISSING
            node.get_logger().info(f"transforms are {MISSING}")
            return
        self._message = TFMessage
        self._publisher = node.create_publisher(TFMessage, "tf", TF_QOS)
        # Kept: latched messages go when their publisher goes.
        self._static = node.create_publisher(TFMessage, "tf_static", STATIC_QOS)
        mounted = [
            frames.extrinsics(robot.lidar, SCAN_FRAME),
            frames.extrinsics(robot.camera, CAMERA_FRAME),
            frames.optical(CAMERA_FRAME, DEPTH_FRAME),
        ]
        stamp = node.get_clock().now().to_msg()
        self._static.publish(TFMessage(transforms=[_stamped(t, stamp) for t in mounted]))
        self.state = "published"

    def publish(self, x_m: float, y_m: float, yaw_rad: float, stamp: Time) -> None:
        """Publish odom -> base_link."""
        if self._publisher is not None:
            transform = _stamped(frames.odometry(x_m, y_m, yaw_rad), stamp)
            self._publisher.publish(self._message(transforms=[transform]))


def _stamped(transform: Transform, stamp: Time) -> TransformStamped:
    message = TransformStamped()
    message.header.stamp, message.header.frame_id = stamp, transform.parent
    message.child_frame_id = transform.child
    t, q = message.transform.translation, message.transform.rotation
    t.x, t.y, t.z = transform.translation_m
    q.x, q.y, q.z, q.w = transform.quaternion
    return message
