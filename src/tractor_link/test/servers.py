"""A real NATS server for tests, clients of it, and a network that can be cut."""

import asyncio
import contextlib
import time

import nats

from tractor_link.connection import ended
from tractor_link.streams import StreamParameters, set_up

PARAMETERS = StreamParameters(experience_max_gb=0.01)


async def prepare(address, parameters=PARAMETERS):
    async with connected(address) as jetstream:
        await set_up(jetstream, parameters)


@contextlib.asynccontextmanager
async def connected(address):
    connection = await nats.connect(address)
    try:
        yield connection.jetstream()
    finally:
        await connection.close()


async def until(condition, limit_s=20.0):
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, "not reached"
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(work):
    """Run what goes on for ever for the length of a block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await ended(task)
