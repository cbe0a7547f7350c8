"""Work in fresh processes that end with the one that started them."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tractor_core import cli as commands

Job = TypeVar("Job")
Result = TypeVar("Result")


def begin_worker() -> None:
    """Leave interrupts to the parent, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pr_set_pdeathsig = 1  # sys/prctl.h
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def in_processes(
    work: Callable[[Job], Result], jobs: Iterable[Job], processes: int
) -> Iterator[Result]:
    """Yield the results of all jobs in order, worked off by so many fresh processes.

    Whatever ends it ends them too; an interrupt is for the caller alone to hear.
    """
    import multiprocessing
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
