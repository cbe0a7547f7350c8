"""Run nodes in one process until a signal, and end whatever hangs."""

from __future__ import annotations

import faulthandler
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from tractor_core.errors import ParameterError, TractorError
from tractor_core.text import printable, printable_message

from .log import PrintableLogger
from .node import ManagedNode
from .services import answer_whatever_comes
from .usage import parameter_files

EXIT_LIMIT_S = 2.0
# Longer than the sampler takes to give up on a disk.
CLOSE_LIMIT_S = 5.0
# Set by SIGINT and SIGTERM; whatever waits looks at it.
ENDING = threading.Event()
_signals: list[int] = []


def interrupted() -> bool:
    """Return whether SIGINT ends this process, as Ctrl-C does, and not SIGTERM or a fault."""
    return signal.SIGINT in _signals


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
        _signals.extend(os.read(awake, 1))
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
