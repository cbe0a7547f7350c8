"""Experience reaches the server once and whole, whatever happens to network, server and disk."""

import asyncio
import contextlib
import signal
import time

import pytest
from nats.js import errors
from servers import PARAMETERS, connected, prepare, running, until

from tractor_core.errors import LinkError
from tractor_link import reasons
from tractor_link.broker import Broker
from tractor_link.intake import Intake
from tractor_link.streams import EXPERIENCE, REFUSED, StreamParameters
from tractor_link.uplink import Uplink


def fill(spool, count, first=0, size=3000):
    for number in range(first, first + count):
        spool.add(f"chunk_{number:05d}", number.to_bytes(4, "little") * (size // 4))


@contextlib.asynccontextmanager
async def sending(address, spool, rover="rover1"):
    uplink = Uplink(address, rover, spool)
    async with running(uplink.run()):
        yield uplink


async def taken(address, count):
    """Return what a trainer gets, all acknowledged."""
    got = []
    async with connected(address) as jetstream:
        intake = await Intake.open(jetstream, PARAMETERS)
        end_s = time.monotonic() + 20.0
        while len(got) < count and time.monotonic() < end_s:
            for arrival in await intake.next():
                got.append((arrival.rover, arrival.data))
                await arrival.taken()
        assert await intake.next(wait_s=0.2) == []
    return got


class Proxy:
    """A network between rover and server that can be cut: connections end, none is made."""

    def __init__(self, address):
        self._target = int(address.rpartition(":")[2])
        self._writers = set()
        self.up = True

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.address = f"nats://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_):
        self.cut()
        self._server.close()

    def cut(self):
        self.up = False
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader, writer):
        if not self.up:
            writer.transport.abort()
            return
        theirs, to_them = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, to_them}
        await asyncio.gather(self._pump(reader, to_them), self._pump(theirs, writer))

    async def _pump(self, reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


def test_all_that_waits_arrives_in_order_and_is_kept(broker, spool):
    async def story():
        fill(spool, 100)
        async with sending(broker.address, spool) as uplink:
            await until(lambda: not spool.waiting())
            fill(spool, 5, first=100)
            await until(lambda: len(spool.sent()) == 105)
            assert uplink.problem is None and uplink.status.chunks == 105
        return await taken(broker.address, 105)

    got = asyncio.run(story())
    assert {rover for rover, _ in got} == {"rover1"}
    assert sorted(int.from_bytes(data[:4], "little") for _, data in got) == [*range(105)]


def test_a_server_that_is_killed_has_lost_nothing_and_gets_each_once(tmp_path, broker, spool):
    port = int(broker.address.rpartition(":")[2])

    async def story():
        fill(spool, 50)
        async with sending(broker.address, spool) as uplink:
            await until(lambda: len(spool.sent()) >= 20)
            broker.process.send_signal(signal.SIGKILL)
            broker.process.wait()
            broker.stop()
            fill(spool, 50, first=50)
            await until(lambda: "none answers" in (uplink.problem or ""))
            again = await asyncio.to_thread(Broker, tmp_path / "nats", port)
            started_s = time.monotonic()
            waiting = len(spool.waiting())
            await until(lambda: len(spool.waiting()) < waiting)
            first_s = time.monotonic() - started_s
            await until(lambda: not spool.waiting())
        try:
            return first_s, await taken(again.address, 100)
        finally:
            again.stop()

    first_s, got = asyncio.run(story())
    assert first_s < 2.0
    assert sorted(int.from_bytes(data[:4], "little") for _, data in got) == [*range(100)]


def test_a_network_that_flaps_makes_progress_and_loses_nothing(broker, spool):
    async def story():
        async with Proxy(broker.address) as network, sending(network.address, spool):
            seen = []
            for number in range(4):
                fill(spool, 50, first=50 * number)
                network.up = True
                await asyncio.sleep(1.0)
                network.cut()
                await asyncio.sleep(0.7)
                seen.append(len(spool.sent()))
            network.up = True
            await until(lambda: not spool.waiting())
        assert seen == sorted(seen) and seen[0] > 0 and seen[-1] > seen[0]
        return await taken(broker.address, 200)

    got = asyncio.run(story())
    assert sorted(int.from_bytes(data[:4], "little") for _, data in got) == [*range(200)]


def test_what_a_full_stream_does_not_take_waits_and_that_is_said(broker, spool):
    async def story():
        await prepare(broker.address, StreamParameters(experience_max_gb=0.001))
        fill(spool, 500)
        async with sending(broker.address, spool) as uplink:
            await until(lambda: uplink.problem is not None and "full" in uplink.problem)
            assert 0 < len(spool.sent()) < 500
            assert len(spool.sent()) + len(spool.waiting()) == 500
            got = []
            async with connected(broker.address) as jetstream:
                intake = await Intake.open(jetstream, PARAMETERS)
                while len(got) < 500:
                    for arrival in await intake.next():
                        got.append(arrival.data)
                        await arrival.taken()
            await until(lambda: uplink.problem is None)
        return got

    got = asyncio.run(story())
    assert sorted(int.from_bytes(data[:4], "little") for data in got) == [*range(500)]


def test_a_server_without_streams_is_named_and_used_once_it_has_them(tmp_path, spool):
    async def story(address):
        fill(spool, 3)
        async with sending(address, spool) as uplink:
            await until(lambda: "no stream EXPERIENCE" in (uplink.problem or ""))
            await prepare(address)
            await until(lambda: not spool.waiting() and uplink.problem is None)

    with Broker(tmp_path / "nats", port=0) as broker:
        asyncio.run(story(broker.address))


def test_what_cannot_be_learnt_from_goes_aside_with_the_reason(broker, spool):
    async def story():
        fill(spool, 2)
        async with sending(broker.address, spool):
            await until(lambda: not spool.waiting())
        async with connected(broker.address) as jetstream:
            intake = await Intake.open(jetstream, PARAMETERS)
            for arrival in await intake.next():
                await arrival.refused("damaged \u2013 cut off")
            while (await jetstream.stream_info(EXPERIENCE)).state.messages:
                await asyncio.sleep(0.01)
            message = await jetstream.get_last_msg(REFUSED, "refused.rover1")
            return message.headers["Reason"]

    assert asyncio.run(story()) == "damaged ? cut off"


def test_what_is_not_acknowledged_comes_again(broker, spool):
    async def story():
        fill(spool, 3)
        async with sending(broker.address, spool):
            await until(lambda: not spool.waiting())
        brief = StreamParameters(acknowledge_s=1.0)
        async with connected(broker.address) as jetstream:
            intake = await Intake.open(jetstream, brief)
            assert len(await intake.next()) == 3
        return await taken(broker.address, 3)

    assert len(asyncio.run(story())) == 3


def test_streams_are_made_once_and_brought_up_to_date(broker):
    async def story():
        await prepare(broker.address, StreamParameters(experience_max_gb=0.5))
        async with connected(broker.address) as jetstream:
            return (await jetstream.stream_info(EXPERIENCE)).config.max_bytes

    assert asyncio.run(story()) == 500_000_000


def test_one_store_has_one_server(tmp_path, broker):
    with pytest.raises(LinkError, match="another server uses this store"):
        Broker(tmp_path / "nats", port=0)
    broker.stop()
    Broker(tmp_path / "nats", port=0).stop()


def test_a_server_that_cannot_start_says_why(tmp_path, broker):
    port = int(broker.address.rpartition(":")[2])
    with pytest.raises(LinkError, match=r"(?s)did not start.*address already in use"):
        Broker(tmp_path / "other", port=port)
    (tmp_path / "file").write_text("")
    with pytest.raises(LinkError, match="file"):
        Broker(tmp_path / "file", port=0)


@pytest.mark.parametrize(
    "address", ["", "HOST", "http://x:1", "nats://", "nats://a b:1", "nats://x:0", "nats://x:99999"]
)
def test_what_is_no_address_is_refused_with_the_form(spool, address):
    with pytest.raises(LinkError, match="expected an address such as nats://"):
        Uplink(address, "rover1", spool)


def test_reasons_name_the_server_and_no_secret():
    text = reasons.reason(errors.NoStreamResponseError(), "nats://me:secret@host:4222")
    assert "host:4222" in text and "secret" not in text
    assert reasons.is_loopback("nats://127.0.0.1:4222")
    assert reasons.is_loopback("nats://me:secret@localhost") and reasons.is_loopback("tls://[::1]")
    assert not reasons.is_loopback("nats://192.168.1.2:4222")
    assert not reasons.is_loopback("nats://127.example.org")
