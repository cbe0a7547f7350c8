"""A connection to the NATS server that is made by who retries by itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, NoReturn

from tractor_core.text import printable

from .reasons import reason, without_secrets

log = logging.getLogger(__name__)

# Short, so that a link that flaps makes progress.
CONNECT_S, ANSWER_S = 2.0, 1.5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 10.0
CANCEL_AGAIN_S = 0.5


@contextlib.asynccontextmanager
async def connected(address: str, name: str) -> AsyncIterator[Any]:
    """Connect for the length of a block; a link that breaks ends it, and is not mended.

        async with connected(address, "rover_link") as connection:
            jetstream = connection.jetstream(timeout=ANSWER_S)

    Args:
        address: see `reasons.require_address`.
        name: of the client, in what the server says of its connections.

    Raises:
        Exception: of nats-py or of the system; `reasons.reason` says it in words.
    """
    import nats

    connection = await nats.connect(
        address, connect_timeout=CONNECT_S, allow_reconnect=False,
        # 0 would be without end.
        max_reconnect_attempts=1, reconnect_time_wait=0.0, error_cb=_said_otherwise, name=name,
    )  # fmt: skip
    try:
        yield connection
    finally:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(connection.close(), ANSWER_S)


async def _said_otherwise(error: Exception) -> None:
    """Leave a fault of the connection to who waits for an answer; nats-py would print it."""


class Reconnecting:
    """Work over a connection that is made anew, after pauses that grow, whenever it ends.

    Args:
        address: of the server.
        purpose: what it is for, in the log.
        needed: what is looked for on the server, see `reasons.reason`.
        name: of the client, in what the server says of its connections.
        longest_pause_s: between two attempts.

    Attributes:
        problem: what is wrong now, or None; the log says it once.
    """

    def __init__(
        self, address: str, purpose: str, needed: str, name: str = "rover_link",
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:  # fmt: skip
        self._address, self._purpose, self._needed = address, purpose, needed
        self._name, self._longest_pause_s = name, longest_pause_s
        self._pause_s = FIRST_PAUSE_S
        self.problem: str | None = "not connected yet"

    def succeeded(self) -> None:
        """Take note that it works."""
        self._pause_s = FIRST_PAUSE_S
        if self.problem is not None:
            at = printable(without_secrets(self._address))
            log.info("%s: connected to %s", self._purpose, at)
        self.problem = None

    async def run(self, work: Callable[[Any], Awaitable[None]]) -> NoReturn:
        """Work until it is cancelled; no fault of server, network or disk ends it.

        Args:
            work: is given a connection, and calls `succeeded`; what it raises is the problem.
        """
        while True:
            error = await outcome(self._once(work))
            if error is not None:
                problem = reason(error, self._address, self._needed)
                if problem != self.problem:
                    log.warning("%s: %s", self._purpose, problem)
                self.problem = problem
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(2.0 * self._pause_s, self._longest_pause_s)

    async def _once(self, work: Callable[[Any], Awaitable[None]]) -> None:
        async with connected(self._address, self._name) as connection:
            await work(connection)


async def outcome(work: Coroutine[Any, Any, None]) -> BaseException | None:
    """Wait for work over a connection; return what ended it, or None.

    It is done in a task of its own: nats-py cancels who waits for a connection that ends.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    finally:
        await ended(task)
    return ConnectionError() if task.cancelled() else task.exception()


async def ended(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks until they end: nats-py, and asyncio before 3.12, can miss one cancellation."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
