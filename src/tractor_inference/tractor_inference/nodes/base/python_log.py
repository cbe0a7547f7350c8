"""What the pure modules log appears in the node's ROS log.

In a file of its own: rclpy knows a call by its file and line, and refuses a second level from one;
those of `log` it skips.
"""

from __future__ import annotations

import logging

from rclpy.node import Node


class RosLogHandler(logging.Handler):
    """Sends the log records of the pure modules to the node's ROS log."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record."""
        log_as(self._node, record.levelno, record.getMessage())


def carry(node: Node, *packages: str) -> None:
    """Let what the modules of these packages log appear in the node's log."""
    for package in packages:
        package_log = logging.getLogger(package)
        # One for the process: with two nodes in it each record would come twice.
        if not any(isinstance(handler, RosLogHandler) for handler in package_log.handlers):
            package_log.addHandler(RosLogHandler(node))
        package_log.setLevel(logging.INFO)


def log_as(node: Node, level: int, text: str) -> None:
    """Log with a level of Python's logging. One line each: rclpy refuses a second level of one."""
    logger = node.get_logger()
    if level >= logging.CRITICAL:
        logger.fatal(text)
    elif level >= logging.ERROR:
        logger.error(text)
    elif level >= logging.WARNING:
        logger.warning(text)
    elif level >= logging.INFO:
        logger.info(text)
    else:
        logger.debug(text)
