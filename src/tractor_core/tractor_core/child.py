"""Processes that this one starts."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def stops_with_starter(signal: str) -> tuple[str, ...]:
    """Return what to put before a command, so that it ends when who started it does, however.

    Args:
        signal: that ends it, such as TERM.
    """
    return "setpriv", "--pdeathsig", signal


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
