"""Run a verb of the package without ROS: `python -m tractor_inference VERB ...`."""

from __future__ import annotations

import sys

from tractor_core.cli import dispatch

# Both are in tractor_bringup, which knows all packages; they are looked up when they are asked for.
VERBS = {
    "benchmark": "measure models on this machine",
    "doctor": "say what works on this machine, and what to do about the rest",
}
_BRINGUP = {verb: f"tractor_bringup.{verb}" for verb in VERBS}


def benchmark() -> int:
    """Run the benchmark: `ros2 run tractor_inference benchmark MODEL...`."""
    return dispatch("tractor_inference", VERBS, "benchmark", _BRINGUP)


def doctor() -> int:
    """Run the doctor by the name that it had: `ros2 run tractor_inference doctor`."""
    return dispatch("tractor_inference", VERBS, "doctor", _BRINGUP)


if __name__ == "__main__":
    sys.exit(dispatch("tractor_inference", VERBS, elsewhere=_BRINGUP))
