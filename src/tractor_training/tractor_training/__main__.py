"""Run a verb of the package without ROS: `python -m tractor_training VERB ...`."""

from __future__ import annotations

import sys

from tractor_core.cli import dispatch

VERBS = {
    "imitate": "make the reference actor: imitate the expert in the simulator",
    "serve": "the training server: learn from rovers, offer them better actors",
    "rovers": "simulated rovers that send experience to a training server",
}

if __name__ == "__main__":
    sys.exit(dispatch("tractor_training", VERBS))
