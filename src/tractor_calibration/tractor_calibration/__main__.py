"""Run a verb of the package without ROS: `python -m tractor_calibration VERB ...`."""

from __future__ import annotations

import importlib
import sys

VERBS = {
    "check": "check a folder of calibration samples, and say what it lacks",
    "convert": "convert an ONNX actor to a proved RKNN model",
    "harvest": "make calibration samples of recorded drives",
}


def main() -> int:
    """Dispatch to the verb's own `main`."""
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb in VERBS:
        return importlib.import_module(f"tractor_calibration.{verb}").main(sys.argv[2:])
    usage = "\n".join(
        ["usage: python -m tractor_calibration VERB [--help] ...", "", "verbs:"]
        + [f"  {name:10}{text}" for name, text in VERBS.items()]
    )
    if verb in ("-h", "--help"):
        print(usage)
        return 0
    print(f"{usage}\n\nerror: expected a verb, found {verb!r}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
