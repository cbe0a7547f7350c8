"""Work that takes long beside an executor that goes on: in a thread of its own, then awaited."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from rclpy.task import Future as RosFuture

T = TypeVar("T")


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


async def answer_of(work: Future[T], executor: Any) -> T:
    """Return what background work gave, or raise what it raised; the executor goes on meanwhile.

    Await it in a callback of a reentrant group: in another group nothing else would run.
    """
    done = RosFuture(executor=executor)

    def wake(_: Future) -> None:
        done.set_result(None)
        # The executor polls waiting coroutines only when something wakes it.
        executor.wake()

    work.add_done_callback(wake)
    await done
    return work.result()
