"""A thread that writes what others hand over through a bounded queue, and never makes them wait."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Generic, TypeVar

from tractor_core.background import Worker

T = TypeVar("T")

QUEUED = 8


class Writer(Generic[T]):
    """Handles items one after the other in a thread of its own.

    Args:
        name: of the thread.
        handle: called in the thread for each item, with the future of who waits for the path, or
            None. Where it raises, the future has the error and the thread is started anew.
        idle: called in the thread at the beginning, and again when `period_s` has passed.
        period_s: s.
        queued: how many items may wait.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[T, Future[Path] | None], None],
        idle: Callable[[], None],
        period_s: float,
        queued: int = QUEUED,
    ) -> None:
        self._handle, self._idle, self._period_s = handle, idle, period_s
        self._queue: queue.Queue[tuple[T, Future[Path] | None] | None] = queue.Queue(queued)
        self.ending = False
        self._worker = Worker(name, self._work)

    def start(self) -> None:
        """Begin; what was handed over before is handled."""
        self._worker.start()

    def put(self, item: T, future: Future[Path] | None = None) -> bool:
        """Hand an item over; False when the queue is full. Never blocks."""
        try:
            self._queue.put_nowait((item, future))
        except queue.Full:
            return False
        return True

    def close(self, limit_s: float) -> bool:
        """Handle what is queued and end the thread; False when it takes longer than that."""
        self.ending = True
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        return self._worker.stop(limit_s)

    def join(self) -> None:
        """Wait until all that was handed over is handled."""
        self._queue.join()

    def _work(self, _: threading.Event) -> None:
        self._idle()
        idle_s = time.monotonic()
        while not (self.ending and self._queue.empty()):
            if time.monotonic() - idle_s >= self._period_s:
                self._idle()
                idle_s = time.monotonic()
            with contextlib.suppress(queue.Empty):
                item = self._queue.get(timeout=self._period_s)
                try:
                    if item is not None:
                        self._handle(*item)
                except BaseException as error:  # the worker says it; who waits must not for ever
                    if item is not None and item[1] is not None and not item[1].done():
                        item[1].set_exception(error)
                    raise
                finally:
                    self._queue.task_done()
