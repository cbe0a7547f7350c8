"""cmd_guard: limits fresh commands and passes them on, publishes zero otherwise."""

from __future__ import annotations

import sys
import time
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from tractor_core.kinematics import STOP, Velocity

from ..guard.guard import Guard, GuardParameters
from ..guard.senders import UNKNOWN, Listed, Senders
from .base.commands import COMMAND_QOS, DELIVERY_LIMIT, command_message, command_type
from .base.lifecycle import STEADY
from .base.node import SuiteNode
from .base.run import run
from .base.sensor_inputs import SENSOR_QOS
from .base.usage import usage

RELIABLE = ReliabilityPolicy.RELIABLE
# What ROS says of an endpoint that is discovered before its node.
NAMELESS = "_NODE_NAME_UNKNOWN_"
RIVAL_HINT = "end all but one, or give each rover a namespace or a ROS_DOMAIN_ID of its own"


class CmdGuardNode(SuiteNode, Node):
    """Stands between the actor and the base, in a process of its own."""

    def __init__(self) -> None:
        super().__init__("cmd_guard", automatically_declare_parameters_from_overrides=True)
        own = self.declare(GuardParameters)
        self._stamped = own.enable_stamped_cmd_vel
        self._guard = Guard(own, self.robot)
        # Unknown, so that the first look is said, whichever it is.
        self._stopped: bool | None = None
        kind = command_type(self._stamped)
        self._publisher = self.create_publisher(kind, "cmd_vel", COMMAND_QOS)
        # With two parameters they are given the message's number too; rclpy's types know only one.
        on_command: Any = self._on_command
        on_passed: Any = self._on_passed
        # A plain request: a publisher that offers no deadline must still be heard.
        self.create_subscription(kind, "cmd_vel_raw", on_command, QoSProfile(depth=1))
        # What reaches the base, our own commands included: who else sends is seen by the numbers.
        self._at_the_base = Senders()
        self.create_subscription(kind, "cmd_vel", on_passed, SENSOR_QOS)
        self._listed = {topic: Listed() for topic in ("cmd_vel_raw", "cmd_vel")}
        self._listed_guards = Listed()
        self.create_timer(1.0 / own.rate_hz, self._on_timer, clock=STEADY)

    def on_parameters(self, updated: GuardParameters) -> None:
        """Use a changed time limit at once."""
        self._guard.parameters = updated

    def _on_passed(self, message: Any, info: Any) -> None:
        self._at_the_base.heard(info["publication_sequence_number"], time.monotonic())

    def _on_command(self, message: Any, info: Any) -> None:
        twist = message.twist if self._stamped else message
        velocity = Velocity(twist.linear.x, twist.angular.z)
        stamp = message.header.stamp if self._stamped else None
        number = info["publication_sequence_number"]
        self._publish(self._guard.command(velocity, time.monotonic(), number), stamp)

    def _on_timer(self) -> None:
        stopped = self._guard.must_stop(time.monotonic())
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
        """Name what DDS does not report: rivals, other message types, unfit quality of service."""
        problems: list[str] = []
        now_s = time.monotonic()
        heard = {"cmd_vel_raw": self._guard.senders, "cmd_vel": self._at_the_base}
        for topic, listed in self._listed.items():
            name = self.resolve_topic_name(topic)
            publishers = self.get_publishers_info_by_topic(name)
            listeners = self.get_subscriptions_info_by_topic(name)
            listed.look(map(_endpoint, publishers), now_s)
            if listed.rivals(now_s, heard[topic]):
                problems.append(f"{name} has {listed.count} publishers: {listed}; {RIVAL_HINT}")
            if topic == "cmd_vel_raw":
                guards = [end for end in listeners if end.node_name == self.get_name()]
                self._listed_guards.look(map(_endpoint, guards), now_s)
                if self._listed_guards.rivals(now_s):
                    problems.append(
                        f"{name} is passed on by other guards too: {self._listed_guards}"
                    )
            types = sorted({end.topic_type for end in publishers + listeners})
            if len(types) > 1:
                problems.append(
                    f"{name} carries {' and '.join(types)}; set enable_stamped_cmd_vel alike"
                )
            offers = {p.qos_profile.reliability for p in publishers}
            wanted = {s.qos_profile.reliability for s in listeners}
            if RELIABLE in wanted and offers - {RELIABLE}:
                problems.append(f"{name} is offered best effort but requested reliable: no data")
        return problems

    def diagnose(self) -> tuple[str | None, dict[str, Any]]:
        """Return the stop reason, wiring faults and counters."""
        problems = self._wiring_problems()
        if self._guard.reason is not None:
            problems.insert(0, f"stopped: {self._guard.reason}")
        values: dict[str, Any] = {"limited": self._guard.limited, "rejected": self._guard.rejected}
        for topic, listed in self._listed.items():
            name = self.resolve_topic_name(topic)
            values[f"publishers of {name}"] = str(listed) or "none"
        return "; ".join(problems) or None, values

    def close(self) -> None:
        """Publish a last zero."""
        self._publish(STOP, self.get_clock().now().to_msg())
        self._publisher.wait_for_all_acked(DELIVERY_LIMIT)


def _endpoint(end: Any) -> tuple[str, bytes]:
    name = f"{end.node_namespace.rstrip('/')}/{end.node_name}"
    return UNKNOWN if NAMELESS in name else name, bytes(end.endpoint_gid)


def main() -> None:
    """Run the node."""
    about = usage("tractor_inference", "cmd_guard", __doc__, cmd_guard=GuardParameters)
    sys.exit(run(CmdGuardNode, usage=about))


if __name__ == "__main__":
    main()
