"""A node's ROS log for texts of any origin.

rclpy raises for what UTF-8 lacks, and escapes nothing: a file name that is no UTF-8, quoted in a
warning, would end the node.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

from rclpy.impl import rcutils_logger

from tractor_core.text import printable_message

# rclpy knows a call by the first file that is not of these, and refuses two levels from one line.
_HERE = os.path.realpath(__file__)
if _HERE not in rcutils_logger._internal_callers:
    rcutils_logger._internal_callers.append(_HERE)


class PrintableLogger(rcutils_logger.RcutilsLogger):
    """rclpy's logger, whose messages are made printable, and which never raises."""

    def log(self, message: object, severity: int, **kwargs: Any) -> bool:
        """Log as rclpy does; what it refuses is printed: no line may end what stops the rover."""
        text = printable_message(message)
        try:
            return super().log(text, severity, **kwargs)
        except Exception as error:
            with contextlib.suppress(OSError, ValueError):
                print(f"[{self.name}]: {text} (not logged: {error})", file=sys.stderr, flush=True)
            return False
