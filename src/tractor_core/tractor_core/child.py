"""Processes that this one starts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
from pathlib import Path


def stops_with_starter(signal: str) -> tuple[str, ...]:
    """Return what to put before a command, so that it ends when who started it does, however.

    Args:
        signal: that ends it, such as TERM.
    """
    return "setpriv", "--pdeathsig", signal


def same_modules() -> dict[str, str]:
    """Return what a Python child's environment needs so that it imports what this process does.

    The folder where it is started is not looked at first, as `python -m` does otherwise.
    """
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"}


def killed_with(end: int) -> None:
    """Let the kernel kill this process when the other end of a socket is closed, whatever it does.

    `stops_with_starter` counts the thread that started it, and a model is opened in one that ends;
    a thread of this process would wait for Python's interpreter, which native code may keep.

    Args:
        end: descriptor of one end of a socket pair on which nothing is ever sent (fcntl(2)).
    """
    fcntl.fcntl(end, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(end, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) | os.O_ASYNC)
    closed = select.poll()
    closed.register(end, select.POLLHUP)
    if closed.poll(0):  # before that
        os.kill(os.getpid(), signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that are there; none when it is gone."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, 0 when it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGESIZE")


def keep_niceness(pid: int) -> None:
    """Let a child that has a session of its own stand back as far as this process does.

    Linux's autogroups (sched(7)) first share the processor among sessions, and niceness counts only
    within one: without this a conversion behind a rover that drives would get half of a core. Where
    there are no autogroups nothing is done.

    Args:
        pid: of the child, the first of its session.
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(os.getpriority(os.PRIO_PROCESS, 0)))
