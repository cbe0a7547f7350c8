"""Work in fresh processes that end with the one that started them."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

from tractor_core import cli as commands
from tractor_core.errors import TractorError
from tractor_core.system_error import explain
from tractor_core.text import printable_message

Job = TypeVar("Job")
Result = TypeVar("Result")

# What may end work in processes; `ended_by` says it.
ENDS = (TractorError, OSError, BrokenProcessPool, KeyboardInterrupt)


def begin_worker() -> None:
    """Leave interrupts to the parent, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pr_set_pdeathsig = 1  # sys/prctl.h
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():  # before that
        os._exit(1)


def in_processes(
    work: Callable[[Job], Result], jobs: Iterable[Job], processes: int
) -> Iterator[Result]:
    """Yield the results of all jobs in order, worked off by so many fresh processes.

    Whatever ends it ends them too; an interrupt is for the caller alone to hear.
    """
    from concurrent.futures import ProcessPoolExecutor

    # Not fork: the parent may hold threads of torch or onnxruntime.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, begin_worker) as pool:
        try:
            with commands.uninterrupted():  # a worker that is half started would show a traceback
                results = [pool.submit(work, job) for job in jobs]
            for result in results:
                yield result.result()
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def ended_by(error: BaseException, file: Path) -> int:
    """Say on standard error what ended a command that works in processes; return its exit code.

    Args:
        error: one of ENDS.
        file: that it writes, for what the system says of no file.
    """
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return commands.INTERRUPTED
    text: object = error
    if isinstance(error, BrokenProcessPool):
        text = "a process died, as where memory runs out; try --processes 1"
    elif isinstance(error, OSError):
        text = explain(error, file)
    print(printable_message(text), file=sys.stderr)
    return 1
