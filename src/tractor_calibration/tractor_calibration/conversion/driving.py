"""The last gate, where it is asked for: does the built model drive as its ONNX does?

The simulator is a package of its own, which a converter does without: it is started as a command.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tractor_core import outside
from tractor_core.child import keep_niceness, same_modules
from tractor_core.errors import ModelError
from tractor_inference.model import limited

SIMULATOR, LIBRARY = "tractor_sim", "mujoco"
SECONDS = 60.0
# No two good models keep to one path. A model is refused when it hits more, or gets less far than
# this share of its ONNX's metres, and the confidence interval over the worlds says so too.
LEAST_SHARE = 0.9
# Each process builds the model in the toolkit, which takes half a gigabyte.
PROCESSES = 2
# A world takes its minute about twice, in a slow simulator; longer is one that hangs.
LIMIT_A_WORLD_S = 900.0
_END_S = 20.0
_MOST_SAID = 2000
# Whoever is killed takes the simulator with it.
_START = f"""{limited.TIED_TO_STARTER}
import runpy
del sys.argv[-1]
runpy.run_module("{SIMULATOR}", run_name="__main__")
"""


class DriveError(ModelError):
    """The simulator is not there, or could not drive the model."""


def require_simulator() -> None:
    """Look for the simulator without importing it.

    Raises:
        DriveError: it is not installed.
    """
    missing = [name for name in (SIMULATOR, LIBRARY) if importlib.util.find_spec(name) is None]
    if missing:
        raise DriveError(
            f"--drive: expected the simulator, found no {' and no '.join(missing)}; make setup and "
            "use .venv/bin/python, or convert without --drive"
        )


def drive(onnx: Path, model: Path, params_file: Path, worlds: int) -> dict[str, Any]:
    """Drive ONNX and model through the same worlds, as `rollout --compare` does.

    Args:
        onnx: the actor.
        model: .rknn with its manifest.
        params_file: the shared parameter file.
        worlds: so many.

    Returns:
        What `rollout --compare --json` prints.

    Raises:
        DriveError: it could not.
    """
    command = [
        sys.executable, "-c", _START, "rollout", "--json",
        "--compare", onnx.absolute(), model.absolute(), "--worlds", worlds, "--seconds", SECONDS,
        "--processes", PROCESSES, "--params", params_file.absolute(),
        os.getpid(),
    ]  # fmt: skip
    process = subprocess.Popen(
        [*map(str, command)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | same_modules(),
        start_new_session=True,
    )  # fmt: skip
    keep_niceness(process.pid)
    try:
        printed, said = process.communicate(timeout=worlds * LIMIT_A_WORLD_S)
    except subprocess.TimeoutExpired as error:
        raise DriveError(
            f"the simulator did not finish {worlds} worlds within {worlds * LIMIT_A_WORLD_S:g} s"
        ) from error
    finally:
        _end(process)
    if process.returncode:
        raise DriveError(f"the model could not be driven in the simulator: {_why(process, said)}")
    try:
        found: dict[str, Any] = outside.json_value(printed)
        problem(found)
        sentence(found)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DriveError(f"the simulator's answer cannot be read: {error}") from error
    return found


def _why(process: subprocess.Popen[bytes], said: bytes) -> str:
    """Return what a simulator that failed said, without the lines of its progress."""
    if process.returncode < 0:
        return f"it was ended by signal {-process.returncode}; the machine may be out of memory"
    lines = said.decode(errors="replace").splitlines()
    lines = [line for line in lines if not line.startswith(("world ", "parameters: "))]
    return "\n".join(lines)[-_MOST_SAID:] or f"it ended with {process.returncode}, without a word"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the simulator with its processes, unless it has ended."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def problem(found: dict[str, Any]) -> str:
    """Return why a model that drove so may not be promoted, or an empty text."""
    metres, hits = found["distance_m"], found["collisions"]
    if hits["low"] > 0:
        return (
            f"expected no more collisions than its ONNX ({hits['first']:.2f} a world), found "
            f"{hits['second']:.2f}"
        )
    if metres["high"] < (LEAST_SHARE - 1.0) * metres["first"]:
        return (
            f"expected at least {LEAST_SHARE:.0%} of the metres of its ONNX "
            f"({metres['first']:.2f} a world), found {metres['second']:.2f}"
        )
    return ""


def sentence(found: dict[str, Any]) -> str:
    """Return how ONNX and model drove."""
    metres, hits = found["distance_m"], found["collisions"]
    return (
        f"In {len(found['worlds'])} simulated worlds of {SECONDS:g} s the model drove "
        f"{metres['second']:.2f} m and hit {hits['second']:.2f} things on average, its ONNX "
        f"{metres['first']:.2f} m and {hits['first']:.2f}."
    )
