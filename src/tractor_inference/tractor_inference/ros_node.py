"""What the suite's nodes share: parameters, quality of service, diagnostics, life cycle, signals.

Imported by nodes only; nothing else of the suite needs ROS.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import logging
import math
import os
import shlex
import signal
import sys
import threading
import time
import typing
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import rclpy
import rclpy.logging
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Twist, TwistStamped
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy._rclpy_pybind11 import RCLError
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from rclpy.utilities import remove_ros_args

import tractor_core
from tractor_core import contract as contract_module
from tractor_core import parameters
from tractor_core import robot as robot_module
from tractor_core.contract import Contract
from tractor_core.errors import ParameterError, SensorError, TractorError
from tractor_core.input_monitor import InputMonitor
from tractor_core.kinematics import Velocity
from tractor_core.messages import BASE_FRAME, scan_from_message, stamp_ns
from tractor_core.robot import Robot
from tractor_core.sensors import Scan
from tractor_core.text import printable, printable_message

from .node_usage import parameter_files
from .ros_lifecycle import BEING_CONFIGURED, STEADY, AnsweringLifecycle
from .ros_log import PrintableLogger
from .ros_services import answer_whatever_comes

T = TypeVar("T")

# Only the newest sensor frame matters: a queue would only add age.
SENSOR_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
# Deadline and lease are offered so that a base can notice a dead publisher; nothing requests them.
COMMAND_QOS = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    deadline=Duration(nanoseconds=200_000_000),
    liveliness_lease_duration=Duration(nanoseconds=500_000_000),
)
# Deep enough that a flood of calls is answered "busy" rather than lost.
SERVICE_QOS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
DIAGNOSTICS_PERIOD_S = 1.0
WARNING_PERIOD_S = 2.0
EXIT_LIMIT_S = 2.0
# For the last command to arrive: a publisher that is destroyed at once may take it along.
DELIVERY_LIMIT = Duration(nanoseconds=200_000_000)
# Longer than the sampler takes to give up on a disk.
CLOSE_LIMIT_S = 5.0
# Set by SIGINT and SIGTERM; whatever waits looks at it.
ENDING = threading.Event()
READ_AT_START = "Read at start: set it there and start the node anew."
_ROS_PARAMETERS = ("use_sim_time", "start_type_description_service", "qos_overrides.")
_GROUPS = ((Contract, contract_module.PREFIX), (Robot, robot_module.PREFIX))


class _RosLogHandler(logging.Handler):
    """Sends the log records of the pure modules to the node's ROS log."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node

    def emit(self, record: logging.LogRecord) -> None:
        log_as(self._node, record.levelno, record.getMessage())


def log_as(node: Node, level: int, text: str) -> None:
    """Log with a level of Python's logging. One line each: rclpy refuses a second level of one."""
    logger = node.get_logger()
    if level >= logging.ERROR:
        logger.error(text)
    elif level >= logging.WARNING:
        logger.warning(text)
    elif level >= logging.INFO:
        logger.info(text)
    else:
        logger.debug(text)


def _descriptor(metadata: Mapping[str, Any], kind: Any) -> ParameterDescriptor:
    low, high = metadata["minimum"], metadata["maximum"]
    text = metadata["doc"] if metadata["live"] else f"{metadata['doc']} {READ_AT_START}"
    descriptor = ParameterDescriptor(description=text, read_only=not metadata["live"])
    if metadata["choices"]:
        descriptor.additional_constraints = "one of " + ", ".join(metadata["choices"])
    if kind is float and low is not None and high is not None:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(low), to_value=float(high))
        ]
    elif kind is int and low is not None and high is not None:
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    return descriptor


class SuiteNode:
    """Mixin of a node: typed parameters, diagnostics at 1 Hz.

    After `declare` the attributes `contract`, `robot` and `parameters` are frozen dataclasses.
    `parameters` is replaced when a live parameter is set.
    """

    contract: Contract
    robot: Robot
    parameters: Any
    problem_level = DiagnosticStatus.ERROR

    def declare(self: Any, own: type[T], has_section: bool = True) -> T:
        """Check all parameters at once, declare them with descriptions and limits.

        Args:
            own: the node's own parameters.
            has_section: whether they have a section in the parameter file, which must be there.

        Raises:
            ParameterError: listing everything missing, unknown, mistyped or out of range.
        """
        given = {
            name: parameter.value
            for name, parameter in self.get_parameters_by_prefix("").items()
            if not name.startswith(_ROS_PARAMETERS)
        }
        instances: list[Any] = []
        problems: list[str] = []
        prefixes = ("", *(prefix for _, prefix in _GROUPS))
        for name in given:
            if "." in name and not name.startswith(prefixes[1:]):
                problems.append(f"{name}: unknown parameter")
        for cls, prefix in (*_GROUPS, (own, "")):
            try:
                instances.append(parameters.from_values(cls, given, prefix))
            except ParameterError as error:
                problems.append(str(error))
        if has_section and not parameters.fields_of(own).keys() & given.keys():
            problems.append(
                f"expected a section /**/{self.get_name()} in the parameter file, found none; "
                "a misspelt one would leave the node on its defaults"
            )
        if problems:
            hint = "" if "observation.grid_cells" in given else (
                "\nstart the node with --ros-args --params-file config/sac_rover.yaml"
            )  # fmt: skip
            raise ParameterError("\n".join(problems) + hint)
        for name in given:
            self.undeclare_parameter(name)
        for instance, prefix in zip(instances, (*prefixes[1:], "")):
            for name, (field, kind) in parameters.fields_of(type(instance)).items():
                value = getattr(instance, name)
                value = list(value) if typing.get_origin(kind) is tuple else value
                self.declare_parameter(
                    prefix + name, value, _descriptor(field.metadata, kind), ignore_override=True
                )
        self.contract, self.robot, self.parameters = instances
        self._warned_s: dict[str, float] = {}
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._diagnostics = Node.create_publisher(self, DiagnosticArray, "/diagnostics", 10)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=STEADY)
        for package in (__package__, tractor_core.__name__):
            package_log = logging.getLogger(package)
            # One for the process: with two nodes in it each record would come twice.
            if not any(isinstance(handler, _RosLogHandler) for handler in package_log.handlers):
                package_log.addHandler(_RosLogHandler(self))
            package_log.setLevel(logging.INFO)
        return self.parameters

    def _on_set_parameters(self: Any, changes: list[Any]) -> SetParametersResult:
        """Accept or refuse a change as a whole; must not raise, or the node would die."""
        cls = type(self.parameters)
        values = {name: getattr(self.parameters, name) for name in parameters.fields_of(cls)}
        values |= {p.name: p.value for p in changes if p.name in values}
        try:
            updated = parameters.from_values(cls, values)
            self.parameters = updated
            self.on_parameters(updated)
            for change in changes:
                self.get_logger().info(f"{change.name} is now {change.value}")
        except Exception as error:
            return SetParametersResult(successful=False, reason=printable_message(error))
        return SetParametersResult(successful=True)

    def get_logger(self: Any) -> PrintableLogger:
        """Return the node's log, which takes texts of any origin."""
        if "_printable_log" not in self.__dict__:
            self._printable_log = PrintableLogger(Node.get_logger(self).name)
        return self._printable_log

    def on_parameters(self, updated: Any) -> None:
        """Take over changed live parameters."""

    def diagnose(self) -> tuple[str | None, dict[str, Any]]:
        """Return (error message or None, {key: value}) for /diagnostics."""
        raise NotImplementedError

    def _publish_diagnostics(self: Any) -> None:
        problem, values = self.diagnose()
        status = DiagnosticStatus(
            level=self.problem_level if problem else DiagnosticStatus.OK,
            name=self.get_fully_qualified_name().lstrip("/"),
            message=printable_message(problem or "ok"),
            hardware_id="",
            values=[
                KeyValue(key=printable(key), value=printable_message(value))
                for key, value in values.items()
            ],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def warn(self: Any, key: str, text: str) -> None:
        """Log a warning at most every two seconds per key."""
        now_s = steady_s()
        if now_s - self._warned_s.get(key, -math.inf) >= WARNING_PERIOD_S:
            self._warned_s[key] = now_s
            self.get_logger().warning(text)

    def close(self) -> None:
        """Say the last word before the process ends."""


class ManagedNode(SuiteNode, AnsweringLifecycle):
    """A life-cycle node that configures and activates itself when `autostart` is set.

    Subclasses open what they need in `prepare`, create what uses it in `set_up`, and release both
    in `release`. Interfaces made with `subscribe` and `advertise` are destroyed when it is cleaned
    up; services are there from the constructor on, in every state.
    """

    def __init__(
        self, name: str, own: type, inputs: tuple[str, ...], optional: tuple[str, ...] = ()
    ) -> None:
        super().__init__(name, automatically_declare_parameters_from_overrides=True)
        self.declare(own)
        self.monitors: dict[str, InputMonitor] = {}
        self._inputs = dict.fromkeys(inputs, True) | dict.fromkeys(optional, False)
        self._tf: TfMounting | None = None
        self._mounted: dict[str, str] = {}
        self._interfaces: list[Callable[[], Any]] = []

    # What subclasses use

    def subscribe(self, kind: type, topic: str, callback: Callable) -> None:
        """Subscribe to a sensor; only the newest message counts."""
        subscription = self.create_subscription(kind, topic, callback, SENSOR_QOS)
        self._interfaces.append(partial(self.destroy_subscription, subscription))

    def advertise(self, kind: type, topic: str, qos: QoSProfile) -> Any:
        """Return a publisher that is silent while the node is not active."""
        publisher = self.create_lifecycle_publisher(kind, topic, qos)
        self._interfaces.append(partial(self.destroy_lifecycle_publisher, publisher))
        return publisher

    def serve(self, kind: type, name: str, callback: Callable) -> None:
        """Offer a service in every state; its callback may be a coroutine, which nothing waits for.

        It must answer why when the node is not configured, see `failure`.
        """
        self.create_service(
            kind, name, callback, qos_profile=SERVICE_QOS, callback_group=self.service_group
        )

    def receive(
        self, name: str, convert: Callable[[Any], T], message: Any, mounting: str = ""
    ) -> T | None:
        """Convert a message of an input; None, counted and logged, when it cannot be used.

        Args:
            mounting: the field of Robot that says where the sensor is, taken from TF if asked for.
        """
        monitor = self.monitors[name]
        clock_ns, now_s = self.get_clock().now().nanoseconds, steady_s()
        header = message.header
        try:
            # At the time at which it is accepted: no frame may be drawn with the pose of another.
            if mounting and monitor.adopts(header.frame_id, now_s):
                self._mount(mounting, header.frame_id)
            value = convert(message)
            if monitor.accept(header.frame_id, stamp_ns(header.stamp), clock_ns, now_s):
                return value
        except SensorError as error:
            monitor.reject(str(error))
        self.warn(name, monitor.last_rejection)
        return None

    def to_scan(self, message: Any) -> Scan:
        """Convert a LaserScan, for `receive`; what it sees of the rover is not counted as seen."""
        return scan_from_message(message, self.robot)

    def _mount(self, field: str, frame_id: str) -> None:
        """Take a sensor's pose from TF when its frame is not the one whose pose is in use."""
        if self._tf is None or self._mounted.get(field) == frame_id:
            return
        pose = self._tf.pose(frame_id, optical=field == "camera_pose")
        changes: dict[str, Any] = {field: pose}
        self.robot = dataclasses.replace(self.robot, **changes)
        self._mounted[field] = frame_id
        numbers = ", ".join(f"{value:.3f}" for value in pose)
        self.get_logger().info(f"{field} from TF, frame {frame_id!r}: [{numbers}]")
        self.on_mounting()

    def on_mounting(self) -> None:
        """Take over a changed mounting."""

    def input_problem(self, now_s: float) -> str | None:
        """Return every required input that is missing or stale, or None."""
        required = (m for m in self.monitors.values() if m.required)
        problems = [p for m in required if (p := m.problem(now_s)) is not None]
        return "; ".join(problems) or None

    def describe_inputs(self) -> dict[str, str]:
        """Return rates, ages and counters of all inputs for diagnostics."""
        now_s = steady_s()
        return {k: v for m in self.monitors.values() for k, v in m.describe(now_s).items()}

    # Life cycle

    @property
    def problem_level(self) -> bytes:
        """A start is no error, however long a kernel compiles or a model opens."""
        starting = self.failure == BEING_CONFIGURED
        return DiagnosticStatus.WARN if starting else DiagnosticStatus.ERROR

    def start(self) -> None:
        """Configure and activate when `autostart` says so; otherwise wait for a manager."""
        if self.parameters.autostart:
            super().start()

    def before_preparing(self) -> None:
        """Begin with inputs that were never received."""
        limit_s = self.parameters.max_input_age_s
        self.monitors = {
            name: InputMonitor(name, limit_s, required) for name, required in self._inputs.items()
        }
        if self.robot.use_tf:
            self._tf = TfMounting(self)
        self._mounted.clear()

    def tear_down(self) -> None:
        """Destroy the interfaces and release the rest."""
        for destroy in self._interfaces:
            destroy()
        self._interfaces = []
        if self._tf is not None:
            self._tf.close()
            self._tf = None
        super().tear_down()

    def close(self) -> None:
        """Stop to work and release everything; harmless when done before."""
        AnsweringLifecycle.close(self)


class TfMounting:
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
                "robot.lidar_pose and robot.camera_pose to the mounting"
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
                f"tf: expected a transform from {BASE_FRAME} to {frame_id!r}, found none: {error}"
            ) from error
        t, q = transform.translation, transform.rotation
        return robot_module.pose_of((t.x, t.y, t.z), (q.x, q.y, q.z, q.w), optical)


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


def steady_s() -> float:
    """Return the steady clock, s."""
    return time.monotonic()


def _end_on_signals() -> None:
    """Let SIGINT and SIGTERM end the loop, and the process where the loop hangs.

    A thread hears of them by the wake-up descriptor, which is written at once, whatever the main
    thread does. A handler would run in the main thread, only between instructions of Python: never
    where that waits in C, as for a lock in shared memory whose owner was killed; and a second
    signal would interrupt it, so that it waits for the lock of ENDING that it holds itself.
    """
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)

    def end() -> None:
        os.read(awake, 1)
        faulthandler.dump_traceback_later(EXIT_LIMIT_S + CLOSE_LIMIT_S, exit=True)
        ENDING.set()

    threading.Thread(target=end, name="end on signals", daemon=True).start()


def _require_text(arguments: list[str]) -> None:
    """Refuse what ROS cannot be given; raises ParameterError."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise ParameterError(
                f"arguments: expected UTF-8, which ROS 2 needs, found {printable(argument)}; "
                "rename the file or folder"
            ) from error


def run(*make_nodes: Callable[[], Any], usage: str = "") -> int:
    """Run nodes in one process until SIGINT or SIGTERM and return the exit status.

    rclpy's own signal handlers invalidate the context before the last command can be sent, so they
    are replaced: the signal ends the loop, the nodes close, then ROS is shut down.

    Args:
        make_nodes: what makes them.
        usage: the answer to --help.

    Returns:
        0 after a signal, --help, or when a node says it is done, a shutdown of its life cycle
        included; 1 when it is done because it is broken; 2 when its parameters are refused, or
        arguments that are not ROS's. A process that hangs while it ends exits with 1 and its stacks
        in the log.
    """
    _end_on_signals()
    nodes: list[Any] = []
    try:
        _require_text(sys.argv)
        arguments = remove_ros_args(sys.argv)[1:]
        if {"-h", "--help"} & set(arguments):
            print(usage)
            return 0
        if arguments:
            raise ParameterError(
                f"expected only ROS's arguments, --ros-args ..., found {shlex.join(arguments)}; "
                "--help shows what can be given"
            )
        rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
        nodes += (make() for make in make_nodes)
    # rclpy's own errors, an unreadable parameter file among them, are RuntimeErrors.
    except (TractorError, RuntimeError) as error:
        print(f"error: {printable_message(error)}", file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    if files := parameter_files(sys.argv):
        nodes[0].get_logger().info(f"parameters: {', '.join(map(printable, files))}")
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
    try:
        for node in nodes:
            answer_whatever_comes(node)
            if isinstance(node, ManagedNode):
                node.start()
        while not (ENDING.is_set() or any(getattr(node, "done", False) for node in nodes)):
            try:
                executor.spin_once(timeout_sec=0.1)
            except RCLError as error:  # such as an answer that no longer reaches its client
                PrintableLogger(__package__).error(f"middleware: {error}")
    finally:
        # What hangs is shown and does not keep the process. A thread of Python could not end it: a
        # middleware whose peers were killed can spin for ever without letting go of the GIL.
        faulthandler.dump_traceback_later(CLOSE_LIMIT_S, exit=True)
        for node in nodes:
            node.close()
        # The last command is sent and the samples are written; the rest may be cut short.
        faulthandler.dump_traceback_later(EXIT_LIMIT_S, exit=True)
        executor.shutdown(EXIT_LIMIT_S / 4.0)
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()
        faulthandler.cancel_dump_traceback_later()
        # One that comes so late would make an orderly end look like another.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    return max(getattr(node, "exit_code", 0) for node in nodes)
