"""What one case may take: process time and memory, measured in the process that parses."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

# The promise is a second and 300 MB; a garbage collection of the fuzzer may fall into a case.
CPU_S, HANG_S, MEGABYTES = 1.5, 20.0, 300.0


class LimitError(AssertionError):
    """A case took more than it may."""


def within_limits(run: Callable[[bytes], None], case: bytes) -> None:
    """Run a parser on a case.

    Raises:
        LimitError: it took too long or too much memory.
    """

    def stop(*_: object) -> None:
        raise LimitError(f"it was still running after {HANG_S:g} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, HANG_S)
    # The peak is that of this case: https://docs.kernel.org/filesystems/proc.html
    Path("/proc/self/clear_refs").write_text("5")
    before_mb, started_s = _memory_mb("VmRSS"), time.process_time()
    try:
        run(case)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)
    took_s, more_mb = time.process_time() - started_s, _memory_mb("VmHWM") - before_mb
    if took_s > CPU_S or more_mb > MEGABYTES:
        raise LimitError(
            f"expected at most {CPU_S:g} s and {MEGABYTES:g} MB, found {took_s:.1f} s and "
            f"{more_mb:.0f} MB more"
        )


def _memory_mb(kind: str) -> float:
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = re.findall(rf"^{kind}:\s*(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) / 1000.0
