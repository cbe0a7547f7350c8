"""A node that only listens, in a thread, for commands that start a rover and watch it."""

from __future__ import annotations

import contextlib
import threading
from typing import Any


class Listener:
    """Spins a node of its own until it is closed.

    Args:
        name: of the node.

    Attributes:
        node: what is listened to is subscribed there.
    """

    def __init__(self, name: str) -> None:
        import rclpy
        from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
        from rclpy.signals import SignalHandlerOptions

        self._rclpy = rclpy
        # Signals are for the command: rclpy's own handlers would only end the listener.
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self.node: Any = rclpy.create_node(name)
        executor = SingleThreadedExecutor()
        executor.add_node(self.node)

        def spin() -> None:
            with contextlib.suppress(ExternalShutdownException):
                executor.spin()

        self._thread = threading.Thread(target=spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._rclpy.try_shutdown()
        self._thread.join()
