"""What a base and an operator would hear of a drive."""

from __future__ import annotations

import threading
import time
from typing import Any

from ..listener import Listener


class Monitor(Listener):
    """Listens to commands and diagnostics in a thread, as a base and an operator would."""

    def __init__(self) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from geometry_msgs.msg import TwistStamped
        from lifecycle_msgs.srv import GetState

        self._get_state = GetState
        self.latencies_ms: list[float] = []
        self.states: dict[str, str] = {}
        self.drift = ""
        self._clients: dict[str, Any] = {}
        super().__init__("demo_monitor")
        self.node.create_subscription(TwistStamped, "cmd_vel", self._on_command, 10)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_command(self, message: Any) -> None:
        now_ns = time.time_ns()
        if message.twist.linear.x or message.twist.angular.z:
            stamp = message.header.stamp
            self.latencies_ms.append((now_ns - stamp.sec * 10**9 - stamp.nanosec) * 1e-6)

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            self.states[status.name] = status.message
            # The actor goes on saying it for as long as it holds; the last word counts.
            self.drift = next((v.value for v in status.values if v.key == "drift"), self.drift)

    def actor_state(self) -> str:
        """Return what the actor last said of itself, for an error message."""
        return f"the actor's last diagnostics: {self.states.get('sac_actor', 'none')}"

    def life_cycle_state(self, node: str) -> str:
        """Ask a managed node for its state, such as `active`; empty when none comes within 1 s."""
        if node not in self._clients:
            self._clients[node] = self.node.create_client(self._get_state, f"{node}/get_state")
        if not self._clients[node].wait_for_service(1.0):
            return ""
        answered = threading.Event()
        future = self._clients[node].call_async(self._get_state.Request())
        future.add_done_callback(lambda _: answered.set())
        return future.result().current_state.label if answered.wait(1.0) else ""
