"""Awaiting background work beside an executor that goes on."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, TypeVar

from rclpy.task import Future as RosFuture

T = TypeVar("T")


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
