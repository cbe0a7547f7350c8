"""What the suite's nodes share: parameters, log, diagnostics at 1 Hz, a life cycle."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

import tractor_core
import tractor_inference
from tractor_core import background
from tractor_core.contract import Contract
from tractor_core.robot import Robot
from tractor_core.text import printable, printable_message

from . import parameters, python_log
from .lifecycle import BEING_CONFIGURED, STEADY, AnsweringLifecycle
from .log import PrintableLogger
from .polled import Polled
from .repeated import Repeated
from .sensor_inputs import SENSOR_QOS, SensorInputs
from .supervisor import Supervisor

# Deep enough that a flood of calls is answered "busy" rather than lost.
SERVICE_QOS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
DIAGNOSTICS_PERIOD_S = 1.0


class SuiteNode:
    """Mixin of a node: typed parameters, diagnostics at 1 Hz, a log for texts of any origin.

        class Guard(SuiteNode, Node):
            def __init__(self) -> None:
                super().__init__("guard", automatically_declare_parameters_from_overrides=True)
                self.declare(GuardParameters)

    After `declare` the attributes `contract`, `robot` and `parameters` are frozen dataclasses.
    `parameters` is replaced when a live parameter is set.
    """

    contract: Contract
    robot: Robot
    parameters: Any
    problem_level = DiagnosticStatus.ERROR
    # Whether it may move the rover; of nodes with a life cycle.
    active = False
    # Hears once a second that the node works; of the node without which nothing drives.
    supervisor: Supervisor | None = None

    def declare(self: Any, own: type, has_section: bool = True) -> Any:
        """Check and declare the parameters, see `parameters.declare`; return the node's own."""
        declared = parameters.declare(self, own, has_section)
        self.contract, self.robot, self.parameters = declared
        self._repeated: dict[str, Repeated] = {}
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._diagnostics = Node.create_publisher(self, DiagnosticArray, "/diagnostics", 10)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=STEADY)
        python_log.carry(self, tractor_inference.__name__, tractor_core.__name__)
        return self.parameters

    def _on_set_parameters(self: Any, changes: list[Any]) -> SetParametersResult:
        """Accept or refuse a change as a whole; must not raise, or the node would die."""
        try:
            updated = parameters.changed(self.parameters, changes, self.active)
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

    def concern(self) -> str | None:
        """Return what does not stop the rover but must be seen to, a WARN in /diagnostics."""
        return None

    def _publish_diagnostics(self: Any) -> None:
        problem, values = self.diagnose()
        if dead := "; ".join(background.troubles()):
            # First: it stands because of that.
            problem = f"{dead}; {problem}" if problem else dead
            values |= {"threads": dead}
        concern = self.concern()
        level = DiagnosticStatus.WARN if concern else DiagnosticStatus.OK
        status = DiagnosticStatus(
            level=self.problem_level if problem else level,
            name=self.get_fully_qualified_name().lstrip("/"),
            message=printable_message(problem or concern or "ok"),
            hardware_id="",
            values=[
                KeyValue(key=printable(key), value=printable_message(value))
                for key, value in values.items()
            ],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)
        if self.supervisor is not None:
            self.supervisor.alive(status.message)

    def warn(self: Any, key: str, text: str, kind: str = "") -> None:
        """Log a warning; while it goes on, ever more seldom.

        Args:
            key: what is warned of, an input for instance.
            text: the warning.
            kind: which fault it is; another one of the same key is said again soon.
        """
        if self._repeated.setdefault(key, Repeated()).due(kind, time.monotonic()):
            self.get_logger().warning(text)

    def close(self) -> None:
        """Say the last word before the process ends."""


class ManagedNode(SuiteNode, AnsweringLifecycle):
    """A life-cycle node that configures and activates itself when `autostart` is set.

    Subclasses open what they need in `prepare`, create what uses it in `set_up`, and release both
    in `release`. Interfaces of `subscribe`, `others` and `advertise` are destroyed when it is
    cleaned up; services are there from the constructor on, in every state.

    Args:
        required, optional: the names of its sensor inputs, see SensorInputs.

    Attributes:
        inputs: its sensor inputs, opened when it is configured.
        others: the topics that it looks at when it acts, by `others.take`.
    """

    def __init__(
        self, name: str, own: type, required: tuple[str, ...], optional: tuple[str, ...] = ()
    ) -> None:
        super().__init__(name, automatically_declare_parameters_from_overrides=True)
        self.declare(own)
        self.others = Polled(self)
        self.inputs = SensorInputs(
            self, self.robot, self.others, required, optional, self.on_extrinsics
        )
        self._interfaces: list[Callable[[], Any]] = []

    # What subclasses use

    def subscribe(
        self, kind: type, topic: str, callback: Callable, qos: QoSProfile = SENSOR_QOS
    ) -> None:
        """Subscribe to what it acts on, of which the newest message counts."""
        subscription = self.create_subscription(kind, topic, callback, qos)
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

    def on_extrinsics(self) -> None:
        """Take over changed extrinsics, `inputs.robot`."""

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
        # sac_actor has no such parameter: builder and guard say when its inputs are frozen.
        frozen_s = getattr(self.parameters, "frozen_input_s", 0.0)
        self.inputs.open(self.parameters.max_input_age_s, frozen_s)

    def tear_down(self) -> None:
        """Destroy the interfaces and release the rest."""
        for destroy in self._interfaces:
            destroy()
        self._interfaces = []
        self.others.unsubscribe()
        self.inputs.close()
        super().tear_down()

    def close(self) -> None:
        """Stop working and release everything; harmless when done before."""
        AnsweringLifecycle.close(self)
