"""What is offered arrives as it was, and what is no offer is refused with all that is wrong."""

import asyncio
import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import connected

from tractor_core.errors import LinkError
from tractor_link import offers
from tractor_link.offers import File, Offer
from tractor_link.streams import MODEL_FILES, MODELS

DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
FILES = st.builds(File, DIGESTS, st.integers(1, offers.MAX_CARD_BYTES))
OFFERS = st.builds(
    Offer,
    version=st.integers(1, offers.MAX_VERSION),
    onnx=FILES,
    contract=DIGESTS,
    reward=st.just("") | DIGESTS,
    steps=st.integers(0, offers.MAX_STEPS),
    scores=st.dictionaries(
        st.text(max_size=20), st.floats(allow_nan=False, allow_infinity=False), max_size=5
    ),
    card=st.none() | FILES,
)
ONNX, CARD = bytes(range(256)) * 2000, b"# A model\n"
OFFER = Offer(7, File.of(ONNX), "ab" * 32, card=File.of(CARD), scores={"metres": 9.3})


@settings(max_examples=50)
@given(OFFERS)
def test_an_offer_is_read_back_as_it_was_said(offer):
    assert offers.parse(offer.encode()) == offer


def test_what_it_says_beyond_the_table_is_passed_over():
    data = json.loads(OFFER.encode()) | {"trainer": "of somebody", "onnx_version": 17}
    assert offers.parse(json.dumps(data).encode()) == OFFER


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_bytes_that_are_no_offer_are_refused(data):
    with pytest.raises(LinkError, match="not an offer of a model"):
        offers.parse(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=200)
@given(st.sampled_from(["version", "onnx", "card", "contract", "reward", "steps", "scores"]), JSON)
def test_whatever_a_value_is_it_fits_or_is_named(key, value):
    data = json.dumps(json.loads(OFFER.encode()) | {key: value}).encode()
    try:
        offers.parse(data)
    except LinkError as error:
        assert "\n" not in str(error) and len(str(error)) < 500


def test_everything_that_is_wrong_is_named_at_once():
    data = json.loads(OFFER.encode())
    data |= {"version": 0, "onnx": {"sha256": "ab" * 32, "bytes": 10**12}, "card": None}
    del data["contract"]
    with pytest.raises(LinkError) as refusal:
        offers.parse(json.dumps(data).encode())
    for text in (
        "contract: missing", "version: expected a whole number, 1..", "card: expected sha256",
        f"bytes, at most {offers.MAX_MODEL_BYTES}, found",
    ):  # fmt: skip
        assert text in str(refusal.value)


def test_a_name_has_two_digits_at_least():
    assert (OFFER.name, Offer(120, OFFER.onnx, "").name) == ("sac_actor_v07", "sac_actor_v120")


def test_what_is_published_is_fetched_whole_and_said_once(broker):
    async def story():
        async with connected(broker.address) as jetstream:
            for _ in range(2):
                await offers.publish(jetstream, OFFER, ONNX, CARD)
            assert (await jetstream.stream_info(MODELS)).state.messages == 1
            message = await jetstream.get_last_msg(MODELS, "models.offered")
            heard = offers.parse(message.data)
            assert heard == OFFER
            return [await offers.fetch(jetstream, file) for file in (heard.onnx, heard.card)]

    assert asyncio.run(story()) == [ONNX, CARD]


async def damaged(address, file, **changes):
    """Fetch a file whose record in the store says something else."""
    async with connected(address) as jetstream:
        store = await jetstream.object_store(MODEL_FILES)
        info = await store.put(file.sha256, ONNX)
        name = base64.urlsafe_b64encode(file.sha256.encode()).decode()
        record = info.as_dict() | changes
        subject = f"$O.{MODEL_FILES}.M.{name}"
        await jetstream.publish(
            subject, json.dumps(record).encode(), headers={"Nats-Rollup": "sub"}
        )
        return await offers.fetch(jetstream, file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 5}, "expected a file of 512000 bytes in the store, found 5"),
        ({"size": None}, "expected a file of 512000 bytes"),
        ({"digest": "SHA-256=AAAA"}, "not whole in the store"),
        ({"digest": None}, "damaged"),
        ({"digest": 7}, "damaged"),
        ({"options": {"link": {"bucket": "other"}}}, "found a link"),
        ({"options": 5}, "damaged"),
    ],
)
def test_a_store_that_says_something_else_is_refused(broker, changes, message):
    with pytest.raises(LinkError, match=message):
        asyncio.run(damaged(broker.address, OFFER.onnx, **changes))


def test_no_more_than_was_announced_is_taken(broker):
    few = File(OFFER.onnx.sha256, 1000)
    with pytest.raises(LinkError, match="expected a file of 1000 bytes in the store, found more"):
        asyncio.run(damaged(broker.address, few, size=1000))


def test_other_bytes_under_a_name_are_refused(broker):
    async def story():
        async with connected(broker.address) as jetstream:
            store = await jetstream.object_store(MODEL_FILES)
            await store.put(OFFER.onnx.sha256, ONNX[::-1])
            await offers.fetch(jetstream, OFFER.onnx)

    with pytest.raises(LinkError, match=r"expected a file of sha256 .* not whole"):
        asyncio.run(story())


def test_a_file_that_is_not_there_or_never_comes_is_named(broker, monkeypatch):
    monkeypatch.setattr(offers, "STALL_S", 0.3)

    async def story():
        async with connected(broker.address) as jetstream:
            with pytest.raises(LinkError, match=r"expected a file .* in the store, found none"):
                await offers.fetch(jetstream, OFFER.onnx)
            store = await jetstream.object_store(MODEL_FILES)
            info = await store.put(OFFER.onnx.sha256, ONNX)
            await jetstream.purge_stream(
                f"OBJ_{MODEL_FILES}", subject=f"$O.{MODEL_FILES}.C.{info.nuid}"
            )
            with pytest.raises(asyncio.TimeoutError):
                await offers.fetch(jetstream, OFFER.onnx)

    asyncio.run(story())
