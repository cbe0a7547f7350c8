"""Run a verb of the package without ROS: `python -m tractor_calibration VERB ...`."""

from __future__ import annotations

import sys

from tractor_core.cli import dispatch

VERBS = {
    "check": "check a folder of calibration samples, and say what it lacks",
    "convert": "convert an ONNX actor to a validated RKNN model",
    "harvest": "make calibration samples of recorded drives",
    "models": "list the versions of the models, promote one, or go back to the one before",
}


if __name__ == "__main__":
    sys.exit(dispatch("tractor_calibration", VERBS))
