"""Run a verb of the package without ROS: `python -m tractor_sim VERB ...`."""

from __future__ import annotations

import sys

from tractor_core.cli import dispatch

VERBS = {
    "rollout": "judge an actor, or the expert, in closed loop",
    "collisions": "does the guard keep the rover from what its sensors see, whatever fails",
    "observations": "make the reference observations of a contract and robot",
}


def train() -> int:
    """Run `imitate` of tractor_training by the name that it had: `ros2 run tractor_sim train`."""
    return dispatch("tractor_sim", {"train": "make the reference actor"}, "train")


if __name__ == "__main__":
    sys.exit(dispatch("tractor_sim", VERBS))
