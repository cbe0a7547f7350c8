"""cmd_guard: passes fresh commands within the limits, publishes zero otherwise."""

from __future__ import annotations

import sys
from typing import Any

from geometry_msgs.msg import Twist, TwistStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile

from .guard import Guard, GuardParameters
from .kinematics import STOP, Velocity
from .ros_node import COMMAND_QOS, STEADY, SuiteNode, run, steady_s


def command_type(stamped: bool) -> type:
    """Return the message type of commands; the two do not mix on one topic."""
    return TwistStamped if stamped else Twist


def command_message(velocity: Velocity, stamped: bool, stamp: Any) -> Twist | TwistStamped:
    """Return a velocity as a message, with `stamp` and base_link where it is stamped."""
    message = command_type(stamped)()
    twist = message.twist if stamped else message
    twist.linear.x, twist.angular.z = velocity
    if stamped:
        message.header.stamp, message.header.frame_id = stamp, "base_link"
    return message


class CmdGuardNode(SuiteNode, Node):
    """Stands between the actor and the base, in a process of its own."""

    def __init__(self) -> None:
        super().__init__("cmd_guard", automatically_declare_parameters_from_overrides=True)
        own = self.declare(GuardParameters)
        self._stamped = own.enable_stamped_cmd_vel
        self._guard = Guard(own, self.robot)
        self._stopped = False
        kind = command_type(self._stamped)
        self._publisher = self.create_publisher(kind, "cmd_vel", COMMAND_QOS)
        # A plain request: a publisher that offers no deadline must still be heard.
        self.create_subscription(kind, "cmd_vel_raw", self._on_command, QoSProfile(depth=1))
        self.create_timer(1.0 / own.rate_hz, self._on_timer, clock=STEADY)

    def on_parameters(self, updated: GuardParameters) -> None:
        """Use a changed time limit at once."""
        self._guard.parameters = updated

    def _on_command(self, message: Any) -> None:
        twist = message.twist if self._stamped else message
        velocity = Velocity(twist.linear.x, twist.angular.z)
        stamp = message.header.stamp if self._stamped else None
        self._publish(self._guard.command(velocity, steady_s()), stamp)

    def _on_timer(self) -> None:
        stopped = self._guard.must_stop(steady_s())
        if stopped:
            self._publish(STOP, self.get_clock().now().to_msg())
        if stopped != self._stopped:
            self._stopped = stopped
            self.get_logger().info(
                f"stopped: {self._guard.reason}" if stopped else "passing commands"
            )

    def _publish(self, velocity: Velocity, stamp: Any) -> None:
        self._publisher.publish(command_message(velocity, self._stamped, stamp))

    def _wiring_problems(self) -> list[str]:
        """Name what DDS does not report: rival publishers and mismatched message types."""
        problems = []
        for topic in ("cmd_vel_raw", "cmd_vel"):
            name = self.resolve_topic_name(topic)
            publishers = self.get_publishers_info_by_topic(name)
            ends = publishers + self.get_subscriptions_info_by_topic(name)
            if len(publishers) > 1:
                nodes = sorted(f"{p.node_namespace}/{p.node_name}" for p in publishers)
                problems.append(f"{name} has {len(publishers)} publishers: {', '.join(nodes)}")
            types = sorted({end.topic_type for end in ends})
            if len(types) > 1:
                problems.append(
                    f"{name} carries {' and '.join(types)}; set enable_stamped_cmd_vel alike"
                )
        return problems

    def diagnose(self) -> tuple[str | None, dict[str, Any]]:
        """Return the stop reason, wiring faults and counters."""
        problems = self._wiring_problems()
        if self._guard.reason is not None:
            problems.insert(0, f"stopped: {self._guard.reason}")
        counters = {"limited": self._guard.limited, "rejected": self._guard.rejected}
        return "; ".join(problems) or None, counters

    def close(self) -> None:
        """Publish a last zero."""
        self._publish(STOP, self.get_clock().now().to_msg())


def main() -> None:
    """Run the node."""
    sys.exit(run(CmdGuardNode))


if __name__ == "__main__":
    main()
