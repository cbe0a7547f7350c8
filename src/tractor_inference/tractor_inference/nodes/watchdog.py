"""A thread that stops the rover when nothing else does, and ends a process that hangs. No ROS."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

from tractor_core.background import Worker
from tractor_core.errors import ModelError

from ..actor_parameters import ActorParameters
from .standstill import Standstill

T = TypeVar("T")

EXIT_HUNG = 70


class Watchdog:
    """Publishes zero while there is a reason to; ends the process when the inference hangs.

    Args:
        own: the limits.
        inputs_problem: returns why the rover must stand still at a time of the steady clock, or
            None.
        stop: stops the rover for a reason.
        hung: called before the process ends.
        say: logs a text with a level of logging.
    """

    def __init__(
        self,
        own: ActorParameters,
        inputs_problem: Callable[[float], str | None],
        stop: Callable[[str], None],
        hung: Callable[[], None],
        say: Callable[[int, str], None],
    ) -> None:
        self._own = own
        self._inputs_problem, self._stop, self._hung, self._say = inputs_problem, stop, hung, say
        self._asked_s: float | None = None
        self._worker = Worker("watchdog", self._watch)
        self._looked_s = 0.0

    def start(self) -> None:
        """Begin to watch."""
        self._looked_s = time.monotonic()
        self._worker.start()

    def end(self) -> None:
        """Watch no longer; harmless when it did not begin."""
        self._worker.stop()

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Let the time count during which a model is asked."""
        self._asked_s = time.monotonic()
        try:
            yield
        finally:
            self._asked_s = None

    def problem(self, now_s: float) -> str | None:
        """Return why the rover must stand still now, or None; unwatched it does not drive."""
        unwatched_s = now_s - self._looked_s
        if unwatched_s > self._own.max_input_age_s + self._own.watchdog_period_s:
            return f"the watchdog has not looked for {unwatched_s:.2f} s"
        return self._problem(now_s)

    def _problem(self, now_s: float) -> str | None:
        waited_s = self._waited_s(now_s)
        if waited_s > self._own.max_input_age_s:
            return f"inference has not answered for {waited_s:.2f} s"
        return self._inputs_problem(now_s)

    def _waited_s(self, now_s: float) -> float:
        asked_s = self._asked_s
        return 0.0 if asked_s is None else now_s - asked_s

    def _watch(self, ending: threading.Event) -> None:
        standstill = Standstill(time.monotonic())
        while not ending.wait(self._own.watchdog_period_s):
            self._look(standstill, time.monotonic())
            self._looked_s = time.monotonic()

    def _look(self, standstill: Standstill, now_s: float) -> None:
        problem = self._problem(now_s)
        said = standstill.step(problem, now_s)
        if problem is None:
            return
        self._stop(problem)
        if said is not None:
            self._say(*said)
        if self._waited_s(now_s) > self._own.inference_exit_s:
            self._say(logging.CRITICAL, f"{problem}; ending so that a supervisor starts it anew")
            self._hung()
            os._exit(EXIT_HUNG)


def wait_for_model(
    work: Future[T], limit_s: float, ending: threading.Event, say: Callable[[int, str], None]
) -> T:
    """Wait in steps, so that signals are heard; a driver that hangs ends the process.

    Raises:
        ModelError: `ending` was set; or whatever the work raised.
    """
    end_s = time.monotonic() + limit_s
    while not work.done():
        if ending.wait(0.01):
            raise ModelError("interrupted while the model was being opened")
        if time.monotonic() > end_s:
            say(logging.CRITICAL, f"the model was not open within {limit_s:g} s; ending")
            os._exit(EXIT_HUNG)
    return work.result()
