"""Chunks from the server to a trainer, each until it is acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import Any

from .streams import EXPERIENCE, REASON, StreamParameters, experience_of, refused_of, rover_of

TRAINER = "trainer"
AT_ONCE, WAIT_S = 256, 0.5
# A message of nats-server is a megabyte at most, unless its own configuration says otherwise.
MOST_KEPT = 1024 * 1024 - 4096


@dataclasses.dataclass(frozen=True)
class Arrival:
    """A chunk as it came; its bytes are anybody's.

    Attributes:
        rover: whose it is, by its subject.
        data: of the file.
    """

    rover: str
    data: bytes
    _message: Any
    _jetstream: Any

    async def taken(self) -> None:
        """Let the server forget it: it is durable here."""
        await self._message.ack()

    async def refused(self, why: str) -> None:
        """Put it aside with the reason, where what cannot be learnt from lies."""
        headers = {REASON: why[:500].encode("ascii", "replace").decode()}
        # With the header it must fit into a message: the end of what is no chunk may go.
        await self._jetstream.publish(
            refused_of(self.rover), self.data[:MOST_KEPT], headers=headers
        )
        await self._message.ack()


class Intake:
    """Takes chunks in the order of their arrival, by a durable consumer of one name.

    intake = await Intake.open(connection.jetstream(), parameters)
    for arrival in await intake.next():
        ...
        await arrival.taken()
    """

    def __init__(self, subscription: Any, jetstream: Any) -> None:
        self._subscription, self._jetstream = subscription, jetstream

    @classmethod
    async def open(cls, jetstream: Any, parameters: StreamParameters) -> Intake:
        """Begin where the last one ended."""
        from nats.js import api

        config = api.ConsumerConfig(
            durable_name=TRAINER, ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=parameters.acknowledge_s, max_ack_pending=4 * AT_ONCE,
        )  # fmt: skip
        subscription = await jetstream.pull_subscribe(
            experience_of("*"), durable=TRAINER, stream=EXPERIENCE, config=config
        )
        return cls(subscription, jetstream)

    async def next(self, limit: int = AT_ONCE, wait_s: float = WAIT_S) -> list[Arrival]:
        """Return what is there, at most `limit` chunks; none when none comes within the time."""
        messages: list[Any] = []
        with contextlib.suppress(asyncio.TimeoutError):  # nats-py's own are of this kind
            messages = await self._subscription.fetch(limit, timeout=wait_s)
        return [Arrival(rover_of(m.subject), m.data, m, self._jetstream) for m in messages]
