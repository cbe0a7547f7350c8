"""Experience from a rover's spool to the server."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from pathlib import Path
from typing import Any

from tractor_core.experience import MAX_FILE_BYTES
from tractor_core.outside import read_bytes
from tractor_core.spool import Spool
from tractor_core.text import printable

from .reasons import reason, require_address
from .streams import EXPERIENCE, experience_of

log = logging.getLogger(__name__)

# An hour's backlog of a rover drains in seconds; what is under way when a link breaks comes again.
AT_ONCE = 32
LOOK_S = 0.25
CONNECT_S, ANSWER_S = 2.0, 1.5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 2.0


@dataclasses.dataclass
class UplinkStatus:
    """Chunks and bytes that the server took, and what is wrong now, or None."""

    chunks: int = 0
    bytes: int = 0
    problem: str | None = "not connected yet"


class Uplink:
    """Sends what waits in a spool, oldest first, and lets go of it when the stream has it.

    A link that breaks is made anew, with short limits, so that one that flaps makes progress. What
    was sent and not acknowledged is sent again under the same id, which the server stores once.

        await Uplink(address, "rover1", spool).run()  # until it is cancelled

    Raises:
        LinkError: the address is none.

    Attributes:
        status: for /diagnostics, and for the server.
    """

    def __init__(self, address: str, rover: str, spool: Spool) -> None:
        self._address = require_address(address)
        self._subject, self._spool = experience_of(rover), spool
        self.status = UplinkStatus()

    async def run(self) -> None:
        """Send until it is cancelled; no fault of server, network or disk ends it."""
        pause_s = FIRST_PAUSE_S
        while True:
            sent_before = self.status.chunks
            try:
                await self._send_while_connected()
            except Exception as error:
                self._say(reason(error, self._address))
            pause_s = (
                FIRST_PAUSE_S if self.status.chunks > sent_before
                else min(2.0 * pause_s, LONGEST_PAUSE_S)
            )  # fmt: skip
            await asyncio.sleep(pause_s)

    async def _send_while_connected(self) -> None:
        import nats

        connection = await nats.connect(
            self._address, connect_timeout=CONNECT_S, allow_reconnect=False,
            # 0 would be without end.
            max_reconnect_attempts=1, reconnect_time_wait=0.0, error_cb=_said_otherwise,
            name="rover_link",
        )  # fmt: skip
        try:
            jetstream = connection.jetstream(timeout=ANSWER_S)
            while not connection.is_closed:
                waiting = await asyncio.to_thread(self._spool.waiting)
                for first in range(0, len(waiting), AT_ONCE):
                    paths = waiting[first : first + AT_ONCE]
                    results = await asyncio.gather(
                        *(self._send(jetstream, path) for path in paths), return_exceptions=True
                    )
                    for result in results:
                        if isinstance(result, BaseException):
                            raise result
                self._say(None)
                if not waiting:
                    await asyncio.sleep(LOOK_S)
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(connection.close(), ANSWER_S)

    async def _send(self, jetstream: Any, path: Path) -> None:
        """Send one chunk; returns when the server has it on its disk."""
        try:
            data = await asyncio.to_thread(read_bytes, path, MAX_FILE_BYTES, follow=False)
        except FileNotFoundError:  # removed for want of room
            return
        await jetstream.publish(
            self._subject, data, stream=EXPERIENCE, headers={"Nats-Msg-Id": path.stem}
        )
        self.status.chunks += 1
        self.status.bytes += len(data)
        await asyncio.to_thread(self._spool.mark_sent, path)

    def _say(self, problem: str | None) -> None:
        if problem != self.status.problem:
            if problem is None:
                log.info("connected to %s", printable(self._address))
            else:
                log.warning("%s", problem)
        self.status.problem = problem


async def _said_otherwise(error: Exception) -> None:
    """Leave a fault of the connection to who waits for an answer; nats-py would print it."""
