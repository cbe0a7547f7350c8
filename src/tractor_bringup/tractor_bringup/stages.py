"""What commands share that work in steps and leave their output in a folder: demo and learn."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tractor_core.cli import INTERRUPTED, take_any_text
from tractor_core.errors import TractorError
from tractor_core.system_error import explain
from tractor_core.text import printable_message

from .processes import StepError

CHECKOUT = Path(__file__).resolve().parents[3]
REFERENCE_ACTOR = CHECKOUT / "models" / "sac_actor_reference.onnx"


def empty(output: Path, marker: str, parts: Sequence[str], command: str) -> None:
    """Make an output folder, and remove from it what an earlier run of the command left.

    Args:
        marker: file in it that says that the command made it.
        parts: files and folders in it that are the command's.

    Raises:
        StepError: the folder holds something that the command did not make; nothing is removed.
    """
    output.mkdir(parents=True, exist_ok=True)
    if any(output.iterdir()) and not (output / marker).exists():
        raise StepError(f"expected {output} to be empty or made by {command}; name another")
    (output / marker).touch()
    for part in parts:
        path = output / part
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def step(title: str, output: Path, installs: str) -> Iterator[None]:
    """Print the title; raise an error inside as a StepError that names the step and the logs.

    Args:
        output: the folder with the logs.
        installs: the command that installs what is missing.
    """
    print(title, flush=True)
    logs = output / "logs"
    try:
        yield
    except ImportError as error:
        raise StepError(f"step {title}: {error}; {installs} installs what is missing") from error
    except TractorError as error:
        raise StepError(f"step {title}: {error}\nlogs: {logs}") from error
    except OSError as error:
        raise StepError(f"step {title}: {explain(error, output)}\nlogs: {logs}") from error


def run(name: str, work: Callable[[], None]) -> int:
    """Run a command and return its exit code: 0, 1 with its error printed, or 130.

    Args:
        work: reads the arguments and does it.
    """
    take_any_text()
    # SIGTERM ends it as Ctrl-C does: what it started ends first.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        try:
            work()
        except OSError as error:
            raise StepError(explain(error, Path())) from error
    except TractorError as error:
        print(f"{name} failed: {printable_message(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0
