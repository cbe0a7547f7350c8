"""Run a verb of the package without ROS: `python -m tractor_training VERB ...`."""

from __future__ import annotations

import sys

from tractor_core.cli import dispatch

VERBS = {"imitate": "make the reference actor: imitate the expert in the simulator"}

if __name__ == "__main__":
    sys.exit(dispatch("tractor_training", VERBS))
