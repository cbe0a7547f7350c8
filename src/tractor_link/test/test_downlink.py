"""The newest offer reaches the models folder whole, whatever server, network and disk do."""

import asyncio
import contextlib
import datetime
import logging
import signal

import pytest
from servers import connected, prepare, running, until

from tractor_core.offered import ACCEPTED, DONE, WAITING, OfferedModels
from tractor_link import offers
from tractor_link.broker import Broker
from tractor_link.downlink import Downlink, _Order
from tractor_link.offers import File, Offer
from tractor_link.streams import MODEL_FILES, MODELS, OFFERED

CONTRACT = "ab" * 32


async def offer(address, version, onnx=b"promoted", card=None, contract=CONTRACT):
    made = Offer(version, File.of(onnx), contract, card=card and File.of(card))
    async with connected(address) as jetstream:
        await offers.publish(jetstream, made, onnx, card)
    return made


async def say(address, data):
    async with connected(address) as jetstream:
        await jetstream.publish(OFFERED, data)


@contextlib.asynccontextmanager
async def hearing(address, models, accepts=True, rover="rover1"):
    downlink = Downlink(address, rover, CONTRACT, OfferedModels(models), accepts)
    async with running(downlink.run()):
        yield downlink


async def acknowledged(address, rover="rover1"):
    """Wait until the server knows that nothing is to be told again."""
    async with connected(address) as jetstream:
        info = await jetstream.consumer_info(MODELS, f"rover_{rover}")
        while info.num_ack_pending or info.num_pending:
            await asyncio.sleep(0.02)
            info = await jetstream.consumer_info(MODELS, f"rover_{rover}")
        return info


def there(models):
    return [(model.name, model.state) for model in OfferedModels(models).all()]


def test_an_offer_lies_there_whole_and_is_acknowledged(broker, models):
    onnx, card = b"network " * 100_000, b"# Its card\n"

    async def story():
        async with hearing(broker.address, models) as downlink:
            await until(lambda: downlink.problem is None)
            await offer(broker.address, 7, onnx, card)
            await until(lambda: there(models))
            await acknowledged(broker.address)
            assert (downlink.offered, downlink.refused) == ("sac_actor_v07", "")

    asyncio.run(story())
    (model,) = OfferedModels(models).all()
    assert OfferedModels(models).data(model) == (onnx, card)
    assert (model.state, model.origin) == (ACCEPTED, broker.address)


def test_a_rover_that_comes_later_gets_the_newest_of_several(broker, models, monkeypatch):
    fetched = []
    real = offers.fetch

    async def counted(jetstream, file):
        fetched.append(file)
        return await real(jetstream, file)

    monkeypatch.setattr(offers, "fetch", counted)

    async def story():
        for version in (1, 2, 3):
            await offer(broker.address, version, f"promoted {version}".encode())
        async with hearing(broker.address, models):
            await until(lambda: there(models) == [("sac_actor_v03", ACCEPTED)])
            await acknowledged(broker.address)
        for version in (4, 5, 6):
            await offer(broker.address, version, f"promoted {version}".encode())
        async with hearing(broker.address, models):
            await until(lambda: there(models) == [("sac_actor_v06", ACCEPTED)])
            await acknowledged(broker.address)

    asyncio.run(story())
    assert len(fetched) == 2


def test_each_rover_hears_by_itself(broker, models, tmp_path):
    other = tmp_path / "other"
    other.mkdir()

    async def story():
        async with (
            hearing(broker.address, models),
            hearing(broker.address, other, accepts=False, rover="rover2"),
        ):
            await offer(broker.address, 2)
            await until(lambda: there(models) and there(other))

    asyncio.run(story())
    assert there(other) == [("sac_actor_v02", WAITING)]


def test_what_is_refused_is_named_once_and_the_next_one_is_taken(broker, models, caplog):
    caplog.set_level(logging.INFO)

    async def story():
        async with hearing(broker.address, models) as downlink:
            await offer(broker.address, 3, contract="cd" * 32)
            await until(lambda: "expected contract" in downlink.refused)
            assert CONTRACT in downlink.refused and "cd" * 32 in downlink.refused
            await say(broker.address, b'{"version": "\\u001b[2J"}')
            await until(lambda: "not an offer of a model" in downlink.refused)
            wanted = Offer(4, File("ef" * 32, 100), CONTRACT)
            await say(broker.address, wanted.encode())
            await until(lambda: "in the store, found none" in downlink.refused)
            await say(broker.address, Offer(5, File("ef" * 32, 10**12), CONTRACT).encode())
            await until(lambda: "bytes, at most" in downlink.refused)
            async with connected(broker.address) as jetstream:
                store = await jetstream.object_store(MODEL_FILES)
                await store.put("ef" * 32, b"x" * 100)
            await say(broker.address, Offer(6, File("ef" * 32, 100), CONTRACT).encode())
            await until(lambda: "not whole" in downlink.refused)
            await acknowledged(broker.address)
            assert there(models) == [] and downlink.problem is None
            await offer(broker.address, 8)
            await until(lambda: there(models) and not downlink.refused)

    asyncio.run(story())
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == len({*told}) == 5
    assert not any("\x1b" in text or "\n" in text for text in told)


def test_a_server_that_is_killed_while_it_is_asked_is_asked_again(tmp_path, broker, models):
    port = int(broker.address.rpartition(":")[2])

    async def story():
        async with hearing(broker.address, models) as downlink:
            await until(lambda: downlink.problem is None)
            broker.process.send_signal(signal.SIGKILL)
            broker.process.wait()
            broker.stop()
            await until(lambda: "none answers" in (downlink.problem or ""))
            again = await asyncio.to_thread(Broker, tmp_path / "nats", port)
            try:
                await offer(again.address, 2)
                await until(lambda: there(models) and downlink.problem is None)
                await acknowledged(again.address)
            finally:
                again.stop()

    asyncio.run(story())


def test_a_server_that_lost_its_disk_is_heard_and_no_model_comes_twice(tmp_path, broker, models):
    port = int(broker.address.rpartition(":")[2])

    async def story():
        async with hearing(broker.address, models) as downlink:
            for version in (1, 2):
                await offer(broker.address, version)
            await until(lambda: there(models) == [("sac_actor_v02", ACCEPTED)])
            await acknowledged(broker.address)
            (model,) = OfferedModels(models).all()
            OfferedModels(models).change(model, DONE, "promoted")
            broker.stop()
            await until(lambda: downlink.problem is not None)
            again = await asyncio.to_thread(Broker, tmp_path / "other", port)
            try:
                await prepare(again.address)
                await offer(again.address, 2)
                await acknowledged_when_heard(again.address, downlink)
                assert there(models) == [("sac_actor_v02", DONE)]
                await offer(again.address, 3)
                await until(lambda: ("sac_actor_v03", ACCEPTED) in there(models))
            finally:
                again.stop()

    asyncio.run(story())


async def acknowledged_when_heard(address, downlink):
    await until(lambda: downlink.problem is None)
    await acknowledged(address)


def test_a_server_without_streams_is_named_and_used_once_it_has_them(tmp_path, models):
    async def story(address):
        async with hearing(address, models) as downlink:
            await until(lambda: "it has no stream MODELS" in (downlink.problem or ""))
            await prepare(address)
            await offer(address, 1)
            await until(lambda: there(models) and downlink.problem is None)

    with Broker(tmp_path / "nats", port=0) as broker:
        asyncio.run(story(broker.address))


def test_a_file_that_never_comes_is_asked_for_again_until_a_newer_offer(
    broker, models, monkeypatch
):
    monkeypatch.setattr(offers, "STALL_S", 0.2)

    async def story():
        made = await offer(broker.address, 4, b"lost")
        async with connected(broker.address) as jetstream:
            store = await jetstream.object_store(MODEL_FILES)
            nuid = (await store.get_info(made.onnx.sha256)).nuid
            await jetstream.purge_stream(f"OBJ_{MODEL_FILES}", subject=f"$O.{MODEL_FILES}.C.{nuid}")
        async with hearing(broker.address, models) as downlink:
            await until(lambda: "no answer in time" in (downlink.problem or ""))
            assert there(models) == []
            await offer(broker.address, 5)
            await until(lambda: there(models) == [("sac_actor_v05", ACCEPTED)])
            await acknowledged(broker.address)
            assert downlink.problem is None

    asyncio.run(story())


def test_a_disk_that_takes_nothing_is_named_and_tried_again(broker, models):
    (models / "offered").write_text("in the way")

    async def story():
        async with hearing(broker.address, models) as downlink:
            await offer(broker.address, 1)
            await until(lambda: "expected nothing there" in (downlink.problem or ""))
            (models / "offered").unlink()
            await until(lambda: there(models) and downlink.problem is None)
            await acknowledged(broker.address)

    asyncio.run(story())


@pytest.mark.parametrize("accepts", [True, False])
def test_only_a_trusted_address_needs_no_word_of_the_operator(broker, models, accepts):
    async def story():
        async with hearing(broker.address, models, accepts):
            await offer(broker.address, 1)
            await until(lambda: there(models))

    asyncio.run(story())
    assert there(models) == [("sac_actor_v01", ACCEPTED if accepts else WAITING)]


def test_what_is_newer_is_so_by_clock_or_by_count():
    now = datetime.datetime(2026, 11, 30, 12, 0)
    hour = datetime.timedelta(hours=1)
    done = _Order(now, 5)
    assert _Order(now + hour, 1).is_after(done), "a server that lost its disk"
    assert _Order(now - hour, 6).is_after(done), "a clock that was set back"
    assert not _Order(now - hour, 4).is_after(done)
    assert not done.is_after(done)
