"""Experience from a rover's spool to the server."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

from tractor_core.experience import MAX_FILE_BYTES
from tractor_core.outside import read_bytes
from tractor_core.spool import Spool

from .connection import ANSWER_S, Reconnecting
from .reasons import require_address
from .streams import EXPERIENCE, MESSAGE_ID, experience_of

# An hour's backlog of a rover drains in seconds; what is under way when a link breaks comes again.
AT_ONCE = 32
LOOK_S = 0.25
# The first new chunk is there within it, once a server is.
LONGEST_PAUSE_S = 2.0


@dataclasses.dataclass
class UplinkStatus:
    """Chunks and bytes that the server took."""

    chunks: int = 0
    bytes: int = 0


class Uplink:
    """Sends what waits in a spool, oldest first, and lets go of it when the stream has it.

    A link that breaks is made anew, with short limits, so that one that flaps makes progress. What
    was sent and not acknowledged is sent again under the same id, which the server stores once.

        await Uplink(address, "rover1", spool).run()  # until it is cancelled

    Raises:
        LinkError: the address is none.

    Attributes:
        status: of what was sent.
    """

    def __init__(self, address: str, rover: str, spool: Spool) -> None:
        self._link = Reconnecting(
            require_address(address), "experience", f"stream {EXPERIENCE}",
            longest_pause_s=LONGEST_PAUSE_S,
        )  # fmt: skip
        self._subject, self._spool = experience_of(rover), spool
        self.status = UplinkStatus()

    @property
    def problem(self) -> str | None:
        """What is wrong now, or None."""
        return self._link.problem

    async def run(self) -> None:
        """Send until it is cancelled; no fault of server, network or disk ends it."""
        await self._link.run(self._send_while_connected)

    async def _send_while_connected(self, connection: Any) -> None:
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
                self._link.succeeded()
            self._link.succeeded()
            if not waiting:
                await asyncio.sleep(LOOK_S)

    async def _send(self, jetstream: Any, path: Path) -> None:
        """Send one chunk; returns when the server has it on its disk."""
        try:
            data = await asyncio.to_thread(read_bytes, path, MAX_FILE_BYTES, follow=False)
        except FileNotFoundError:  # removed for want of room
            return
        await jetstream.publish(
            self._subject, data, stream=EXPERIENCE, headers={MESSAGE_ID: path.stem}
        )
        self.status.chunks += 1
        self.status.bytes += len(data)
        await asyncio.to_thread(self._spool.mark_sent, path)
