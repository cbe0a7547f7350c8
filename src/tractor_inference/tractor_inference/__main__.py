"""Run a verb of the package without ROS: `python -m tractor_inference VERB ...`."""

from __future__ import annotations

import sys

from tractor_core.cli import dispatch

# The doctor is in tractor_bringup, which knows all packages; it is looked up when it is asked for.
VERBS = {"doctor": "say what works on this machine, and what to do about the rest"}


def doctor() -> int:
    """Run the doctor by the name that it had: `ros2 run tractor_inference doctor`."""
    return dispatch("tractor_inference", VERBS, "doctor")


if __name__ == "__main__":
    sys.exit(dispatch("tractor_inference", VERBS))
