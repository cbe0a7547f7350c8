"""Run a verb of the package without ROS: `python -m tractor_bringup VERB ...`."""

from __future__ import annotations

import sys

from tractor_core.cli import dispatch

VERBS = {
    "benchmark": "measure models on this machine",
    "doctor": "say what works on this machine, and what to do about the rest",
}

if __name__ == "__main__":
    sys.exit(dispatch("tractor_bringup", VERBS))
