"""cmd_guard: passes on what is fresh, within the limits and stops before obstacles, else zero.

A stop, on the topic `stop` or by the service ~/stop, stands above the operator's commands on
cmd_vel_teleop, these above the actor's on cmd_vel_raw. ~/release ends a stop, and gives the rover
back to the actor after an operator had it.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, LaserScan
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from tractor_core import messages
from tractor_core.kinematics import STOP, Velocity

from ..guard.guard import ACTOR, Guard, GuardParameters
from ..guard.held import HeldNote, default_file
from ..guard.senders import UNKNOWN, Listed, Senders
from .base.commands import COMMAND_QOS, DELIVERY_LIMIT, DRIVER_QOS, command_message, command_type
from .base.lifecycle import STEADY
from .base.node import SERVICE_QOS, SuiteNode
from .base.polled import Delivery, Polled
from .base.run import interrupted, run
from .base.sensor_inputs import SENSOR_QOS, SensorInputs
from .base.supervisor import Supervisor
from .base.usage import usage

RELIABLE = ReliabilityPolicy.RELIABLE
# What ROS says of an endpoint that is discovered before its node.
NAMELESS = "_NODE_NAME_UNKNOWN_"
COMMAND_TOPICS = ("stop", "cmd_vel_teleop", "cmd_vel_raw", "cmd_vel")
RIVAL_HINT = "end all but one, or give each rover a namespace or a ROS_DOMAIN_ID of its own"
UNGUARDED = "is false: this guard passes commands that lead into obstacles"
# Two that send at once are told by the turns they take, between two decisions as well.
PASSED_KEPT = 10
# The same is said again at most so often.
QUIET_S = 2.0


class CmdGuardNode(SuiteNode, Node):
    """Stands between who commands and the base, in a process of its own."""

    def __init__(self) -> None:
        super().__init__("cmd_guard", automatically_declare_parameters_from_overrides=True)
        own = self.declare(GuardParameters)
        self.supervisor = Supervisor()
        self._stamped = own.enable_stamped_cmd_vel
        # What is looked at when a command is decided upon, or when none has come.
        self._others = Polled(self)
        self._inputs = SensorInputs(
            self, self.robot, self._others, required=("scan",), optional=("bev", "odom"),
            on_extrinsics=self._on_extrinsics,
        )  # fmt: skip
        self._inputs.open(own.max_input_age_s, own.frozen_input_s)
        self._guard = Guard(own, self.robot, self.contract, self._inputs.problem)
        self._note = HeldNote(default_file(self.get_fully_qualified_name()), self.get_logger())
        if before := self._note.read():
            self.get_logger().warning("held as it was before this guard was started anew:")
            self._guard.hold(before)
        # Unknown, so that the first look is said, whichever it is.
        self._stopped: bool | None = None
        self._passed = STOP
        kind = command_type(self._stamped)
        self._publisher = self.create_publisher(kind, "cmd_vel", COMMAND_QOS)
        self._driver, self._said = self.create_publisher(String, "~/driver", DRIVER_QOS), ""
        # With two parameters they are given the message's number too; rclpy's types know only one.
        on_actor: Any = self._on_actor
        on_operator: Any = self._on_operator
        # A plain request: a publisher that offers no deadline must still be heard.
        newest = QoSProfile(depth=1)
        self.create_subscription(kind, "cmd_vel_raw", on_actor, newest)
        self.create_subscription(kind, "cmd_vel_teleop", on_operator, SENSOR_QOS)
        self.create_subscription(Bool, "stop", self._on_stop, QoSProfile(depth=10))
        for name, answer in (("stop", self._on_stop_call), ("release", self._on_release_call)):
            self.create_service(Trigger, f"~/{name}", answer, qos_profile=SERVICE_QOS)
        if own.obstacle_stop or own.teleop_obstacle_stop:
            self._others.subscribe(LaserScan, "scan", self._on_scan)
            self._others.subscribe(Image, "bev", self._on_bev)
        self._others.subscribe(Odometry, "odom", self._on_odom)
        # What reaches the base, our own commands included: who else sends is seen by the numbers.
        self._at_the_base = Senders()
        self._others.subscribe(kind, "cmd_vel", self._on_passed, depth=PASSED_KEPT)
        self._listed = {topic: Listed() for topic in ("cmd_vel_raw", "cmd_vel")}
        self._listed_guards = Listed()
        self._idle = self.create_timer(1.0 / own.rate_hz, self._on_timer, clock=STEADY)

    # What surrounds the rover

    def _on_extrinsics(self) -> None:
        self._guard.surroundings.set_extrinsics(self._inputs.robot)

    def _on_scan(self, message: LaserScan, delivery: Delivery) -> None:
        scan = self._inputs.receive(
            "scan", self._inputs.to_scan, message, "lidar_pose", delivery.waited_s
        )
        if scan is not None:
            self._guard.surroundings.take_scan(scan, self._inputs.monitors["scan"].measured_s)

    def _on_bev(self, message: Image, delivery: Delivery) -> None:
        bev = self._inputs.receive("bev", self._inputs.to_bev, message, waited_s=delivery.waited_s)
        if bev is not None:
            self._guard.surroundings.take_grid(bev, self._inputs.monitors["bev"].measured_s)

    def _on_odom(self, message: Odometry, delivery: Delivery) -> None:
        waited_s = delivery.waited_s
        twist = self._inputs.receive("odom", self._inputs.to_twist, message, waited_s=waited_s)
        if twist is not None:
            self._guard.following.moved(twist, time.monotonic() - waited_s)

    # Commands

    def _on_passed(self, message: Any, delivery: Delivery) -> None:
        self._at_the_base.heard(delivery.number, time.monotonic() - delivery.waited_s)

    def _on_actor(self, message: Any, info: Any) -> None:
        self._guard.take_actor(*self._received(message, info))
        if self._guard.source == ACTOR:
            self._pass(message)

    def _on_operator(self, message: Any, info: Any) -> None:
        self._guard.take_operator(*self._received(message, info))
        self._pass(message)

    def _received(self, message: Any, info: Any) -> tuple[Velocity, float, int | None]:
        now_s = time.monotonic()
        self._others.take()
        velocity = messages.velocity_from_command(message)
        return velocity, now_s, info["publication_sequence_number"]

    def _on_stop(self, message: Bool) -> None:
        if message.data:
            self._stop("a message on stop")

    def _on_stop_call(self, request: Any, response: Any) -> Any:
        self._stop("a call of ~/stop")
        response.success, response.message = True, str(self._guard.reason)
        return response

    def _on_release_call(self, request: Any, response: Any) -> Any:
        response.success, response.message = True, f"released; before: {self._guard.release()}"
        self.get_logger().info(response.message)
        return response

    def _on_timer(self) -> None:
        """Repeat a zero, and take back what may no longer be driven; nothing was decided lately."""
        self._others.take()
        velocity = self._guard.decide(time.monotonic())
        if velocity == STOP or velocity != self._passed:
            self._send(velocity, self.get_clock().now().to_msg())

    def _stop(self, who: str) -> None:
        self._guard.stop(who)
        self._send(self._guard.decide(time.monotonic()), self.get_clock().now().to_msg())

    def _pass(self, message: Any) -> None:
        self._idle.reset()
        velocity = self._guard.decide(time.monotonic())
        self._send(velocity, message.header.stamp if self._stamped else None)

    def _send(self, velocity: Velocity, stamp: Any) -> None:
        self._passed = velocity
        self._note.keep(self._guard.held)
        if self._guard.driver != self._said:
            self._said = self._guard.driver
            self._driver.publish(String(data=self._said))
        self._publisher.publish(command_message(velocity, self._stamped, stamp))
        stopped = self._guard.reason is not None
        if stopped == self._stopped:
            return
        self._stopped = stopped
        log = self.get_logger()
        if stopped:
            log.info(f"stopped: {self._guard.reason}", throttle_duration_sec=QUIET_S)
        else:
            log.info(f"passing commands of {self._guard.source}", throttle_duration_sec=QUIET_S)

    def _wiring_problems(self) -> list[str]:
        """Name what DDS does not report: rivals, other message types, unfit quality of service."""
        problems: list[str] = []
        now_s = time.monotonic()
        heard = self._guard.senders | {"cmd_vel": self._at_the_base}
        for topic in COMMAND_TOPICS:
            name = self.resolve_topic_name(topic)
            publishers = self.get_publishers_info_by_topic(name)
            listeners = self.get_subscriptions_info_by_topic(name)
            if topic in self._listed:
                listed = self._listed[topic]
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
                hint = "" if topic == "stop" else "; set enable_stamped_cmd_vel alike"
                problems.append(f"{name} carries {' and '.join(types)}{hint}")
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
        if self._guard.fault is not None:
            problems.append(self._guard.fault)
        for name in ("obstacle_stop", "teleop_obstacle_stop"):
            if not getattr(self.parameters, name):
                problems.append(f"{name} {UNGUARDED}")
        guard = self._guard
        values: dict[str, Any] = {
            "commanded by": guard.source, "limited": guard.limited, "slowed": guard.slowed,
            "rejected": guard.rejected,
        }  # fmt: skip
        values |= self._inputs.describe()
        for topic, listed in self._listed.items():
            name = self.resolve_topic_name(topic)
            values[f"publishers of {name}"] = str(listed) or "none"
        return "; ".join(problems) or None, values

    def concern(self) -> str | None:
        """Return why no grid is there: what is lower than the LiDAR is not seen then."""
        grid = self._inputs.monitors["bev"].problem(time.monotonic())
        keeps_clear = self.parameters.obstacle_stop or self.parameters.teleop_obstacle_stop
        return f"low obstacles do not stop it: {grid}" if keeps_clear and grid else None

    def close(self) -> None:
        """Publish a last zero; after Ctrl-C nothing holds the rover when it is started anew."""
        self._inputs.close()
        self._send(STOP, self.get_clock().now().to_msg())
        self._publisher.wait_for_all_acked(DELIVERY_LIMIT)
        # Under systemd a launch that died is ended by SIGINT as well.
        if interrupted() and "NOTIFY_SOCKET" not in os.environ:
            self._note.forget()


def _endpoint(end: Any) -> tuple[str, bytes]:
    name = f"{end.node_namespace.rstrip('/')}/{end.node_name}"
    return UNKNOWN if NAMELESS in name else name, bytes(end.endpoint_gid)


def main() -> None:
    """Run the node."""
    about = usage("tractor_inference", "cmd_guard", __doc__, cmd_guard=GuardParameters)
    sys.exit(run(CmdGuardNode, usage=about))


if __name__ == "__main__":
    main()
