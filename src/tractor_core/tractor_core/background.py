"""Work beside the thread that asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

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
