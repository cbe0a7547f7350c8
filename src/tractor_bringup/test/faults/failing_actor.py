"""The actor node that fails as long as a file `fault` in its folder says how."""

import os
import sys
import time
from pathlib import Path

import numpy as np
from rclpy.impl import rcutils_logger

from tractor_core.errors import ModelError
from tractor_inference.model import opener
from tractor_inference.model.backends.fake import FakeBackend
from tractor_inference.nodes import sac_actor_node

FAULT = Path("fault")
PERIOD = 40
WARN = 30


def fault():
    try:
        return FAULT.read_text()
    except OSError:
        return ""


def script(frame):
    name = fault()
    if name == "hang":
        # Of this process only: the one after it is whole.
        FAULT.unlink()
        time.sleep(3600)
    if name == "raise" or (name == "seldom" and frame % PERIOD == PERIOD - 1):
        raise ModelError("the runtime returned nothing")
    return {
        "nan": np.full((1, 2), np.nan, np.float32),
        "shape": np.zeros((2, 1), np.float32),
        "range": np.full((1, 2), 7.0, np.float32),
    }.get(name)


def open_backend(kind, model, contract, core_mask):
    if fault() == "open":
        raise OSError("the NPU does not answer")
    return FakeBackend(contract, script)


log = rcutils_logger.RcutilsLogger.log
# Else this file would be the one line that logs with every severity.
rcutils_logger._internal_callers.append(os.path.realpath(__file__))


def log_or_raise(self, message, severity, **kwargs):
    if fault() == "log" and severity >= WARN:
        raise ValueError("Logger severity cannot be changed between calls.")
    return log(self, message, severity, **kwargs)


if __name__ == "__main__":
    opener.open_backend = open_backend
    rcutils_logger.RcutilsLogger.log = log_or_raise
    sys.exit(sac_actor_node.main())
