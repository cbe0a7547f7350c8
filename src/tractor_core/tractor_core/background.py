"""Work beside the thread that asks for it."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE_S, MAX_PAUSE_S = 0.1, 5.0
# A death is named for so long, so that diagnostics at 1 Hz show it however soon all is well again.
NAMED_S = 10.0
STOP_LIMIT_S = 2.0

_started: set[Worker] = set()


def in_background(work: Callable[[], T]) -> Future[T]:
    """Run work in a daemon thread: a vendor's call that hangs must not keep the process alive."""
    future: Future[T] = Future()

    def run_it() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run_it, name="background", daemon=True).start()
    return future


class Worker:
    """Runs a loop in a daemon thread of its own, and starts it anew where it raises.

    What it raised is logged with its traceback, once while it stays the same, and `troubles` names
    it for NAMED_S. The pause before a new start is FIRST_PAUSE_S; after a death while the one
    before is still named it is twice the last one, MAX_PAUSE_S at most.

    Args:
        name: of the thread.
        loop: called in the thread with an event; returns when that is set.
    """

    def __init__(self, name: str, loop: Callable[[threading.Event], None]) -> None:
        self._name, self._loop = name, loop
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        # What it died of and when, on the steady clock; none while nothing is named.
        self._death: tuple[str, float] | None = None
        self._pausing = False

    @property
    def trouble(self) -> str | None:
        """What it died of lately, or None."""
        death = self._death
        if death is None or not (self._pausing or time.monotonic() - death[1] < NAMED_S):
            return None
        return f"thread {self._name} died and is started anew: {death[0]}"

    def start(self) -> None:
        """Begin, or begin again after `stop`."""
        self._ending = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._ending,), name=self._name, daemon=True
        )
        _started.add(self)
        self._thread.start()

    def stop(self, limit_s: float = STOP_LIMIT_S) -> bool:
        """End the loop; False when it takes longer than that. Harmless when it did not begin."""
        self._ending.set()
        _started.discard(self)
        if self._thread is None:
            return True
        self._thread.join(limit_s)
        return not self._thread.is_alive()

    def _run(self, ending: threading.Event) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                self._pausing = False
                self._loop(ending)
                return
            except BaseException as error:  # nor may the SystemExit of a library end it unseen
                recent, reason = self.trouble is not None, f"{type(error).__name__}: {error}"
                pause_s = min(2.0 * pause_s, MAX_PAUSE_S) if recent else FIRST_PAUSE_S
                known = recent and self._death is not None and self._death[0] == reason
                self._death, self._pausing = (reason, time.monotonic()), True
                if not known:
                    log.error("%s\n%s", self.trouble, traceback.format_exc())
            if ending.wait(pause_s):
                return


def troubles() -> list[str]:
    """Return what the workers of this process died of lately, a sentence each."""
    return [trouble for worker in list(_started) if (trouble := worker.trouble) is not None]
