"""One learner at a time uses a server; a dead one's place is free."""

import asyncio
import contextlib

import pytest
from nats.errors import Error
from servers import PARAMETERS, connected, running

from tractor_link import lease as leases
from tractor_link.lease import Lease, LeaseError
from tractor_link.streams import set_up


def run(broker, story):
    async def whole():
        async with connected(broker.address) as jetstream:
            await set_up(jetstream, PARAMETERS)
            return await story(jetstream)

    return asyncio.run(whole())


async def again_and_again(work):
    while True:
        await work()
        await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def renews_at_once(monkeypatch):
    monkeypatch.setattr(leases, "RENEW_S", 0.0)


def test_a_second_learner_is_refused_while_the_first_lives(broker):
    async def story(jetstream):
        first = await Lease.take(jetstream, "one:/data")
        async with running(again_and_again(first.renew)):
            with pytest.raises(LeaseError, match="another learner uses this server: one:/data"):
                await Lease.take(jetstream, "two:/data", dead_s=0.3)

    run(broker, story)


def test_what_a_dead_one_had_is_taken_and_what_was_given_back_at_once(broker):
    async def story(jetstream):
        dead = await Lease.take(jetstream, "one:/data")
        second = await Lease.take(jetstream, "two:/data", dead_s=0.1)
        with pytest.raises(LeaseError, match="another learner took this server: two:/data"):
            await dead.renew()
        await second.give_back()
        third = await Lease.take(jetstream, "three:/data", dead_s=60.0)
        await third.renew()

    run(broker, story)


def test_who_lost_it_leaves_the_winners_alone(broker):
    async def story(jetstream):
        lost = await Lease.take(jetstream, "one:/data")
        won = await Lease.take(jetstream, "two:/data", dead_s=0.1)
        with pytest.raises(LeaseError):
            await lost.renew()
        with contextlib.suppress(Error):
            await lost.give_back()
        await won.renew()

    run(broker, story)


def test_of_two_machines_of_one_name_one_goes_on(broker):
    async def story(jetstream):
        first = await Lease.take(jetstream, "copy:/data")
        second = await Lease.take(jetstream, "copy:/data")
        with pytest.raises(LeaseError, match="another learner took this server: copy:/data"):
            await first.renew()
        await second.renew()

    run(broker, story)


def test_an_owner_that_was_killed_goes_on_at_once(broker):
    async def story(jetstream):
        await Lease.take(jetstream, "one:/data")
        again = await Lease.take(jetstream, "one:/data", dead_s=60.0)
        await again.renew()

    run(broker, story)


def test_of_two_that_find_a_dead_one_one_gets_it(broker):
    async def story(jetstream):
        await Lease.take(jetstream, "dead:/data")
        ends = await asyncio.gather(
            *(Lease.take(jetstream, f"{n}:/data", dead_s=0.1) for n in range(4)),
            return_exceptions=True,
        )
        assert sum(isinstance(end, Lease) for end in ends) == 1
        assert sum(isinstance(end, LeaseError) for end in ends) == 3

    run(broker, story)


def test_who_does_not_say_its_name_is_somebody_too(broker):
    async def story(jetstream):
        values = await jetstream.key_value(leases.STATUS)
        await values.put(leases.LEASE, b"[" * 4096)

        async with running(again_and_again(lambda: values.put(leases.LEASE, b"[1, 2"))):
            with pytest.raises(LeaseError, match="one that does not say who it is"):
                await Lease.take(jetstream, "two:/data", dead_s=0.2)

    run(broker, story)
