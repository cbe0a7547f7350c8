"""Velocities as messages, and how they are sent."""

from __future__ import annotations

from typing import Any

from geometry_msgs.msg import Twist, TwistStamped
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from tractor_core.kinematics import Velocity
from tractor_core.messages import BASE_FRAME

# Deadline and lease are offered so that a base can notice a dead publisher; nothing requests them.
COMMAND_QOS = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    deadline=Duration(nanoseconds=200_000_000),
    liveliness_lease_duration=Duration(nanoseconds=500_000_000),
)
# Who drives; whoever listens later hears the last word too.
DRIVER_QOS = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
# For the last command to arrive: a publisher that is destroyed at once may take it along.
DELIVERY_LIMIT = Duration(nanoseconds=200_000_000)


def command_type(stamped: bool) -> type:
    """Return the message type of commands; the two do not mix on one topic."""
    return TwistStamped if stamped else Twist


def command_message(velocity: Velocity, stamped: bool, stamp: Any) -> Twist | TwistStamped:
    """Return a velocity as a message, with `stamp` and base_link where it is stamped."""
    message = command_type(stamped)()
    twist = message.twist if stamped else message
    twist.linear.x, twist.angular.z = velocity
    if stamped:
        message.header.stamp, message.header.frame_id = stamp, BASE_FRAME
    return message
