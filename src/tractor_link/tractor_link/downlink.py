"""Models from the server to a rover's models folder."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import logging
from typing import Any, NamedTuple

from tractor_core.errors import LinkError, TractorError
from tractor_core.offered import ACCEPTED, WAITING, OfferedModel, OfferedModels
from tractor_core.system_error import explain
from tractor_core.text import printable, printable_message

from . import offers
from .connection import ANSWER_S, Reconnecting, connected
from .reasons import require_address, without_secrets
from .streams import MODELS, OFFERED

log = logging.getLogger(__name__)

AT_ONCE, WAIT_S, SHORT_S = 100, 2.0, 0.2
# An offer that was given to a rover that died comes again so soon.
ACKNOWLEDGE_S = 10.0


class _Order(NamedTuple):
    """When a stream took an offer, by its clock and by its count."""

    at: datetime.datetime
    number: int

    def is_after(self, other: _Order) -> bool:
        """By either: a server that lost its disk counts anew, and a clock may be set back."""
        return self.at > other.at or self.number > other.number


@dataclasses.dataclass(frozen=True)
class _Heard:
    """An offer as it came, and when the stream took it; `reply` takes the acknowledgement."""

    order: _Order
    data: bytes
    reply: str

    @classmethod
    def of(cls, message: Any) -> _Heard:
        at = message.metadata
        return cls(_Order(at.timestamp, at.sequence.stream), message.data, message.reply)


class Downlink:
    """Hears what models are offered, and puts the newest into the folder of offered models.

    It hears by a durable consumer of the rover's own, which resumes at once where a server was
    started anew. An offer is acknowledged when it was put away, or refused by name; a fault of
    network or disk is tried again.

        await Downlink(address, "rover1", contract.digest, OfferedModels(folder), True).run()

    Args:
        address: of the server.
        rover: whose consumer it is.
        contract: digest of the observation contract that a model must follow.
        models: where it is put.
        accepts: whether a model is converted without the operator's word.

    Raises:
        LinkError: the address is none.

    Attributes:
        offered: the newest offer that was put away or refused, or "".
        refused: why the newest offer was refused, or "".
    """

    def __init__(
        self, address: str, rover: str, contract: str, models: OfferedModels, accepts: bool
    ) -> None:
        self._address = require_address(address)
        self._durable, self._contract = f"rover_{rover}", contract
        self._models, self._accepts = models, accepts
        self._link = Reconnecting(address, "models", f"stream {MODELS} or object store models")
        self._pending: _Heard | None = None
        self._done: _Order | None = None
        self.offered = self.refused = ""

    @property
    def problem(self) -> str | None:
        """What is wrong now with server, network or disk, or None."""
        return self._link.problem

    async def run(self) -> None:
        """Hear until it is cancelled; no fault of server, network or disk ends it."""
        await self._link.run(self._hear)

    async def _hear(self, connection: Any) -> None:
        from nats.js import api

        config = api.ConsumerConfig(
            deliver_policy=api.DeliverPolicy.LAST, ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACKNOWLEDGE_S,
        )  # fmt: skip
        subscription = await connection.jetstream(timeout=ANSWER_S).pull_subscribe(
            OFFERED, durable=self._durable, stream=MODELS, config=config
        )
        while not connection.is_closed:
            # Silence is no answer: the server may be gone without a word.
            await connection.flush(timeout=ANSWER_S)
            messages: list[Any] = []
            wait_s = WAIT_S if self._pending is None else SHORT_S
            with contextlib.suppress(asyncio.TimeoutError):  # nats-py's own are of this kind
                messages = await subscription.fetch(AT_ONCE, timeout=wait_s)
            for message in messages:
                await self._sort(connection, _Heard.of(message))
            if self._pending is not None:
                await self._take(self._pending.data)
                await _acknowledge(connection, self._pending)
                self._done, self._pending = self._pending.order, None
            self._link.succeeded()

    async def _sort(self, connection: Any, heard: _Heard) -> None:
        """Keep the newest offer; the others are acknowledged."""
        newest = self._pending
        if newest is None:
            if self._done is None or heard.order.is_after(self._done):
                self._pending = heard
            else:
                await _acknowledge(connection, heard)
        elif heard.order == newest.order:
            self._pending = heard
        elif heard.order.is_after(newest.order):
            self._pending = heard
            await _acknowledge(connection, newest)
        else:
            await _acknowledge(connection, heard)

    async def _take(self, data: bytes) -> None:
        """Put an offered model away, or refuse it by name.

        Raises:
            Exception: what is to be tried again.
        """
        name = "an offer"
        try:
            offer = offers.parse(data)
            name = offer.name
            if offer.contract != self._contract:
                raise LinkError(
                    f"expected contract {self._contract}, found {offer.contract}: it was trained "
                    "for other observations than config/sac_rover.yaml says here"
                )
            if known := await asyncio.to_thread(self._known, offer):
                self._say(name, "", known)
                return
            onnx, card = await self._fetch(offer)
        except LinkError as error:
            self._say(name, printable_message(f"{name} is refused: {error}"), "")
            return
        model = OfferedModel(
            offer.version, offer.onnx.sha256, offer.onnx.bytes, without_secrets(self._address),
            datetime.datetime.now(datetime.timezone.utc).isoformat(),
            ACCEPTED if self._accepts else WAITING,
        )  # fmt: skip
        try:
            await asyncio.to_thread(self._models.put, model, onnx, card)
        except OSError as error:
            raise TractorError(explain(error, self._models.folder)) from error
        waits = "" if self._accepts else (
            f"; it waits for the operator: ros2 run tractor_calibration models accept "
            f"{offer.version}"
        )  # fmt: skip
        self._say(name, "", f"{name} was offered and is here whole{waits}")

    async def _fetch(self, offer: offers.Offer) -> tuple[bytes, bytes | None]:
        # A connection of its own: what a damaged store sends ends with it.
        async with connected(self._address, "rover_link") as connection:
            jetstream = connection.jetstream(timeout=ANSWER_S)
            onnx = await offers.fetch(jetstream, offer.onnx)
            card = await offers.fetch(jetstream, offer.card) if offer.card else None
        return onnx, card

    def _known(self, offer: offers.Offer) -> str:
        """Return where the same model stands here already, in words, or "".

        Raises:
            TractorError: the folder cannot be read.
        """
        try:
            for model in self._models.all():
                if (model.version, model.sha256) == (offer.version, offer.onnx.sha256):
                    return f"{model.name} was offered again: {model.result or model.state}"
        except OSError as error:
            raise TractorError(explain(error, self._models.folder)) from error
        return ""

    def _say(self, name: str, refused: str, taken: str) -> None:
        self.offered, self.refused = name, refused
        if refused:
            log.warning("%s", refused)
        else:
            log.info("%s", printable(taken))


async def _acknowledge(connection: Any, heard: _Heard) -> None:
    """Let the server forget an offer; where that fails it comes again, and is known."""
    import nats.errors

    with contextlib.suppress(asyncio.TimeoutError, nats.errors.NoRespondersError):
        await connection.request(heard.reply, b"+ACK", timeout=ANSWER_S)
