"""One learner at a time: a lease in the key-value store, taken by compare-and-set."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import Any, NamedTuple

from tractor_core import outside
from tractor_core.errors import LinkError
from tractor_core.text import printable

from .streams import STATUS

LEASE = "learner"
# One that was not renewed for so long is of a learner that died.
DEAD_S = 10.0
RENEW_S = 2.0
MAX_OWNER, MAX_VALUE = 200, 4096


class LeaseError(LinkError):
    """Another learner has the lease."""


class _Holder(NamedTuple):
    """Who has it: a name for people, and a token of the one run."""

    owner: str
    token: str


class Lease:
    """The right to learn from a server's experience; `renew` it while it is used.

        lease = await Lease.take(jetstream, "host:folder")
        await lease.renew()  # raises LeaseError when another has it
        await lease.give_back()

    Clocks of two machines are never compared: who finds a lease waits whether it is renewed.
    """

    def __init__(self, values: Any, owner: str, revision: int) -> None:
        self._values, self._revision = values, revision
        # Of two that call themselves the same, as copies of a machine do, the later one goes on.
        self._mine = _Holder(owner[:MAX_OWNER], secrets.token_hex(8))
        self._renewed_s = time.monotonic()

    @classmethod
    async def take(cls, jetstream: Any, owner: str, dead_s: float = DEAD_S) -> Lease:
        """Take it from nobody, from this owner's own earlier run, or from one that is dead.

        Args:
            owner: who this is: the same for two runs that cannot be at the same time.

        Raises:
            LeaseError: another learner is alive.
            nats.errors.Error: the server does not answer.
        """
        values = await jetstream.key_value(STATUS)
        revision, holder = await _look(values)
        if holder is not None and holder.owner != owner[:MAX_OWNER]:
            await asyncio.sleep(dead_s)
            before, (revision, holder) = revision, await _look(values)
            if holder is not None and revision != before:
                raise LeaseError(
                    f"another learner uses this server: {printable(holder.owner)}; end it first, "
                    "or use another server"
                )
        lease = cls(values, owner, revision)
        await lease._set()
        return lease

    async def renew(self) -> None:
        """Say that this learner is alive, when it is time to.

        Raises:
            LeaseError: another took it meanwhile, as when this one was stopped for long.
        """
        if time.monotonic() - self._renewed_s >= RENEW_S:
            await self._set()

    async def _set(self) -> None:
        from nats.js import errors

        value = json.dumps(self._mine._asdict()).encode()
        try:
            self._revision = await self._values.update(LEASE, value, last=self._revision)
        except errors.KeyWrongLastSequenceError as error:
            # The answer to an earlier try may have been lost.
            revision, holder = await _look(self._values)
            if holder != self._mine:
                found = printable(holder.owner if holder is not None else "nobody")
                raise LeaseError(f"another learner took this server: {found}") from error
            self._revision = revision
        self._renewed_s = time.monotonic()

    async def give_back(self) -> None:
        """Let the next one have it at once; one that another has stays."""
        await self._values.delete(LEASE, last=self._revision)


async def _look(values: Any) -> tuple[int, _Holder | None]:
    """Return the revision of the lease, and who has it, or None."""
    from nats.js import errors

    try:
        found = await values.get(LEASE)
    except errors.KeyNotFoundError as error:
        # One that was given back leaves a mark, which has a revision too.
        return getattr(error.entry, "revision", None) or 0, None
    return found.revision, _holder(found.value or b"")


def _holder(value: bytes) -> _Holder:
    try:
        found = outside.json_value(value, MAX_VALUE)
        return _Holder(str(found["owner"])[:MAX_OWNER], str(found["token"])[:MAX_OWNER])
    except (ValueError, LookupError, TypeError):
        return _Holder("one that does not say who it is", "")
