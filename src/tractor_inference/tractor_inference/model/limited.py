"""Run a function on what strangers made in a child process with limits of time and memory.

A file of a few hundred bytes can take gigabytes or for ever to open, or end the process that opens
it. In a child it costs the child; the caller, who may be driving, gets an error that says why.
The limits bound what an accident or a hostile file costs. They are no sandbox: the child has the
rights of the caller.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from tractor_core.child import keep_niceness, same_modules
from tractor_core.errors import TractorError

T = TypeVar("T")

# First lines of a child: it ends with the process that started it, from before the imports that
# take time; 1 is PR_SET_PDEATHSIG of linux/prctl.h. The starter's pid is the last argument.
TIED_TO_STARTER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[-1]):
    sys.exit("the process that started this one has ended")
"""
_START = f"""{TIED_TO_STARTER}
from {__name__} import _serve
_serve(*map(int, sys.argv[1:-1]))
"""
# One thread: pools reserve memory, and a driving rover needs its cores.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a child may take: time in s, imports included, and private memory in MB (10^6 bytes).

    Python with numpy takes about 30 MB, with onnx and onnxruntime 50 MB. What the function returns
    may take as much as the memory, once more.
    """

    seconds: float
    megabytes: float


class LimitError(TractorError):
    """The child took too long or too much memory, or died; says which, not of what."""


class ChildError(Exception):
    """The function raised what nobody expected; holds the child's traceback."""


def call(limits: Limits, function: Callable[..., T], *args: Any) -> T:
    """Return what a function returns, called in a child process.

    What the child prints goes to stderr. Starting it takes about 0.05 s, and what it imports.

    Args:
        limits: the child is killed beyond them.
        function: at the top level of a module that can be imported; what it takes and returns is
            pickled.
        args: its arguments.

    Raises:
        LimitError: a limit was reached, or the child died.
        TractorError: as the function raised it.
        ChildError: it raised anything else.
    """
    with contextlib.ExitStack() as stack:
        job, answer = (
            stack.enter_context(open(os.memfd_create(name, os.MFD_CLOEXEC), "w+b", buffering=0))
            for name in ("job", "answer")
        )
        job.write(pickle.dumps((function, args)))
        numbers = (job.fileno(), answer.fileno(), int(limits.megabytes * 1e6), os.getpid())
        child = subprocess.Popen(
            [sys.executable, "-c", _START, *map(str, numbers)],
            stdin=subprocess.DEVNULL, stdout=2, pass_fds=numbers[:2], start_new_session=True,
            env=os.environ | _ONE_THREAD | same_modules(),
        )  # fmt: skip
        keep_niceness(child.pid)
        try:
            _await_end(child, limits.seconds)
        finally:
            if child.returncode is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        if child.returncode != 0:
            raise LimitError(f"ended with {_end(child.returncode)}")
        answer.seek(0)
        returned, value = pickle.loads(answer.read())
    if returned:
        return value
    if value is None:
        raise LimitError(f"took more than {limits.megabytes:g} MB of memory")
    raise value


def _await_end(child: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for a child to end; `Popen.wait` with a timeout looks only every 50 ms."""
    descriptor = os.pidfd_open(child.pid)
    try:
        if not select.select([descriptor], [], [], seconds)[0]:
            raise LimitError(f"took longer than {seconds:g} s")
    finally:
        os.close(descriptor)
    child.wait()


def _end(code: int) -> str:
    if code >= 0:
        return f"code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # real-time signals have no name
        return f"signal {-code}"


def _serve(job_descriptor: int, answer_descriptor: int, limit_bytes: int) -> None:
    """Do one job in the child: answer (True, value) or (False, error), None for no memory."""
    import resource

    # Private memory, not address space: libraries map far more than they use.
    for kind in (resource.RLIMIT_DATA, resource.RLIMIT_FSIZE):
        resource.setrlimit(kind, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open(job_descriptor, "rb") as file:
            file.seek(0)
            function, args = pickle.load(file)
        answer = pickle.dumps((True, function(*args)))
    except MemoryError:
        answer = pickle.dumps((False, None))
    except TractorError as error:
        answer = pickle.dumps((False, error))
    except Exception:  # whatever it is, it belongs to the caller
        answer = pickle.dumps((False, ChildError(traceback.format_exc())))
    with open(answer_descriptor, "wb") as file:
        file.write(answer)
    # What strangers' data left in libraries is not taken down: it might crash only then.
    os._exit(0)
