"""What the suite's nodes share: parameters, quality of service, diagnostics, life cycle, signals.

Imported by nodes only; nothing else of the suite needs ROS.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import rclpy
import rclpy.logging
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from . import contract as contract_module
from . import parameters
from . import robot as robot_module
from .contract import Contract
from .errors import ParameterError, TractorError
from .robot import Robot

T = TypeVar("T")

STEADY = Clock(clock_type=ClockType.STEADY_TIME)
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
MAX_RETRY_DELAY_S = 10.0
_ROS_PARAMETERS = ("use_sim_time", "start_type_description_service", "qos_overrides.")
_GROUPS = ((Contract, contract_module.PREFIX), (Robot, robot_module.PREFIX))


class _RosLogHandler(logging.Handler):
    """Sends the log records of the pure modules to the node's ROS log."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        severity = rclpy.logging.LoggingSeverity(min(50, record.levelno // 10 * 10))
        self._logger.log(record.getMessage(), severity)


def _descriptor(metadata: Mapping[str, Any], kind: Any) -> ParameterDescriptor:
    low, high = metadata["minimum"], metadata["maximum"]
    descriptor = ParameterDescriptor(description=metadata["doc"], read_only=not metadata["live"])
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

    def declare(self: Any, own: type[T]) -> T:
        """Check all parameters at once, declare them with descriptions and limits.

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
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._diagnostics = Node.create_publisher(self, DiagnosticArray, "/diagnostics", 10)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=STEADY)
        package_log = logging.getLogger(__package__)
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
        except Exception as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def on_parameters(self, updated: Any) -> None:
        """Take over changed live parameters."""

    def diagnose(self) -> tuple[str | None, dict[str, Any]]:
        """Return (error message or None, {key: value}) for /diagnostics."""
        raise NotImplementedError

    def _publish_diagnostics(self: Any) -> None:
        problem, values = self.diagnose()
        status = DiagnosticStatus(
            level=DiagnosticStatus.ERROR if problem else DiagnosticStatus.OK,
            name=self.get_fully_qualified_name().lstrip("/"),
            message=problem or "ok",
            hardware_id="",
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def warn(self: Any, text: str) -> None:
        """Log a warning at most every two seconds per place that calls it."""
        self.get_logger().warning(text, throttle_duration_sec=2.0, throttle_time_source_type=STEADY)

    def close(self) -> None:
        """Say the last word before the process ends."""


class ManagedNode(SuiteNode, LifecycleNode):
    """A life-cycle node that configures and activates itself when `autostart` is set.

    `set_up` and `tear_down` replace on_configure and on_cleanup: an error of the suite is logged
    and the transition fails; with `autostart` it is tried again with growing delays.
    """

    def __init__(self, name: str, own: type) -> None:
        super().__init__(name, automatically_declare_parameters_from_overrides=True)
        self.declare(own)
        self.active = False
        self.failure: str | None = "not configured"
        self._retry_delay_s = 1.0
        self._retry: Any = None

    def set_up(self) -> None:
        """Load what the node needs and create its interfaces."""
        raise NotImplementedError

    def tear_down(self) -> None:
        """Release what `set_up` made; called also after it failed half-way."""
        raise NotImplementedError

    def start(self) -> None:
        """Configure and activate when `autostart` says so; otherwise wait for a manager."""
        if self.parameters.autostart:
            self._try_start()

    def _try_start(self) -> None:
        if self._retry is not None:
            self.destroy_timer(self._retry)
            self._retry = None
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()
            return
        delay_s, self._retry_delay_s = self._retry_delay_s, 2.0 * self._retry_delay_s
        self._retry_delay_s = min(self._retry_delay_s, MAX_RETRY_DELAY_S)
        self.get_logger().error(f"trying again in {delay_s:g} s")
        self._retry = self.create_timer(delay_s, self._try_start, clock=STEADY)

    def on_configure(self, state: Any) -> TransitionCallbackReturn:
        """Set up, or fail the transition with the reason in the log."""
        try:
            self.set_up()
        except (TractorError, OSError) as error:
            self.failure = str(error)
            self.get_logger().error(str(error))
            self.tear_down()
            return TransitionCallbackReturn.FAILURE
        self.failure = None
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: Any) -> TransitionCallbackReturn:
        """Start to work."""
        result = super().on_activate(state)
        self.active = True
        return result

    def on_deactivate(self, state: Any) -> TransitionCallbackReturn:
        """Stop to work; what is set up stays."""
        self.active = False
        return super().on_deactivate(state)

    def on_cleanup(self, state: Any) -> TransitionCallbackReturn:
        """Release everything."""
        self.tear_down()
        self.failure = "not configured"
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: Any) -> TransitionCallbackReturn:
        """Release everything, from whichever state."""
        self.close()
        return TransitionCallbackReturn.SUCCESS


def steady_s() -> float:
    """Return the steady clock, s."""
    return time.monotonic()


def run(make_node: Callable[[], Any]) -> int:
    """Run one node until SIGINT or SIGTERM and return the exit status.

    rclpy's own signal handlers invalidate the context before the last command can be sent, so they
    are replaced: the signal ends the loop, the node closes, then ROS is shut down.

    Returns:
        0 after a signal or when the node says it is done, 2 when its parameters are refused.
    """
    rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    try:
        node = make_node()
    except TractorError as error:
        print(f"error: {error}", file=sys.stderr)
        rclpy.shutdown()
        return 2
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if isinstance(node, ManagedNode):
            node.start()
        while not (ending.is_set() or getattr(node, "done", False)):
            executor.spin_once(timeout_sec=0.1)
    finally:
        node.close()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0
