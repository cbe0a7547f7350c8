"""Models that are offered to rovers: what is said of one, and its files.

An offer is a message on `models.offered`, JSON; its files lie in the object store `models`, each
under its sha256. Whoever keeps the contract may offer one:

| key | |
|---|---|
| `version` | whole number from 1 on; a rover keeps the model as `sac_actor_vNN.onnx` |
| `onnx`, `card` | of each file: `sha256`, hex, and `bytes`; `card` (Markdown) may be missing |
| `contract` | digest of the observation contract that it was trained for |
| `reward` | digest of what it was trained to reach; may be missing |
| `steps` | control steps that it has learnt from; may be missing |
| `scores` | names and numbers, such as what it reached in simulation; may be missing |
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import io
import json
import math
import re
from collections.abc import Callable
from typing import Any

from tractor_core import outside
from tractor_core.errors import LinkError
from tractor_core.offered import MAX_CARD_BYTES, MAX_MODEL_BYTES, MAX_VERSION, name_of

from .streams import MESSAGE_ID, MODEL_FILES, OFFERED

MAX_OFFER_BYTES = 16 * 1024
MAX_STEPS, MAX_SCORES = 2**53, 100
# Of a file of which nothing comes for so long the server is asked again later.
STALL_S = 5.0
_DIGEST = re.compile(r"[0-9a-f]{64}")
# In File the name is that of a field.
_Data = bytes


@dataclasses.dataclass(frozen=True)
class File:
    """A file of an offer: its sha256 in hex, which is its name in the store, and its size."""

    sha256: str
    bytes: int

    @classmethod
    def of(cls, data: _Data) -> File:
        """Return what is said of these bytes."""
        return cls(hashlib.sha256(data).hexdigest(), len(data))


@dataclasses.dataclass(frozen=True)
class Offer:
    """What is said of a model; see the table of this module.

    Attributes:
        reward: empty where nothing is said of it.
        card: None where there is none.
    """

    version: int
    onnx: File
    contract: str
    reward: str = ""
    steps: int = 0
    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    card: File | None = None

    @property
    def name(self) -> str:
        """What the model is called: sac_actor_vNN."""
        return name_of(self.version)

    def encode(self) -> bytes:
        """Return it as the bytes of a message."""
        fields = dataclasses.asdict(self)
        if self.card is None:
            del fields["card"]
        return json.dumps(fields, sort_keys=True).encode()


def parse(data: bytes) -> Offer:
    """Check the bytes of a message, which anybody may have sent, and return the offer in them.

    What it says beyond the table is passed over.

    Raises:
        LinkError: it is none; with everything that is wrong.
    """
    try:
        found = outside.json_value(data, MAX_OFFER_BYTES)
    except ValueError as error:
        raise LinkError(f"not an offer of a model: {error}") from error
    if not isinstance(found, dict):
        raise LinkError("not an offer of a model: expected a JSON object")
    problems = [f"{name}: missing" for name in _REQUIRED if name not in found]
    problems += [
        f"{name}: expected {expected}, found {json.dumps(found[name]):.120}"
        for name, (expected, fits) in _FIELDS.items()
        if name in found and not fits(found[name])
    ]
    if problems:
        raise LinkError(f"not an offer of a model: {'; '.join(problems)}")
    fields = {name: found[name] for name in _FIELDS if name in found}
    for name in ("onnx", "card"):
        if name in fields:
            fields[name] = File(fields[name]["sha256"], fields[name]["bytes"])
    return Offer(**fields)


async def publish(jetstream: Any, offer: Offer, onnx: bytes, card: bytes | None = None) -> None:
    """Put the files into the store, then say that they are there; a repeated call says it once.

    Raises:
        nats.errors.Error: the server refuses, or does not answer.
    """
    store = await jetstream.object_store(MODEL_FILES)
    for file, data in ((offer.onnx, onnx), (offer.card, card)):
        if file is not None and data is not None:
            await store.put(file.sha256, data)
    identity = f"{offer.version}-{offer.onnx.sha256}"
    await jetstream.publish(OFFERED, offer.encode(), headers={MESSAGE_ID: identity})


async def fetch(jetstream: Any, file: File) -> bytes:
    """Return the bytes of a file of an offer.

    What the server sends beyond the bytes that the offer names is not kept. An error leaves a
    subscription behind: the connection is to be closed then.

    Raises:
        LinkError: the store has none of this name, or other bytes under it.
        nats.errors.Error, OSError, TimeoutError: the server does not answer, or ends half-way.
    """
    from nats.js import errors

    store = await jetstream.object_store(MODEL_FILES)
    try:
        info = await store.get_info(file.sha256)
    except errors.ObjectNotFoundError as error:
        raise LinkError(f"expected a file {file.sha256} in the store, found none") from error
    except errors.BadObjectMetaError as error:
        raise LinkError(f"file {file.sha256}: what the store says of it is damaged") from error
    if info.size != file.bytes or info.is_link():
        found = "a link" if info.is_link() else info.size
        raise LinkError(f"expected a file of {file.bytes} bytes in the store, found {found!s:.40}")
    arrived = _Arrived(file.bytes)
    getting = asyncio.ensure_future(store.get(file.sha256, writeinto=arrived))
    try:
        while not getting.done():
            before = arrived.tell()
            await asyncio.wait([getting], timeout=STALL_S)
            if not getting.done() and arrived.tell() == before:
                raise asyncio.TimeoutError
        getting.result()
    except errors.DigestMismatchError as error:
        raise LinkError(f"file {file.sha256}: not whole in the store") from error
    except (AttributeError, TypeError, ValueError) as error:  # nats-py, of a digest that is none
        raise LinkError(f"file {file.sha256}: what the store says of it is damaged") from error
    finally:
        getting.cancel()
        await asyncio.wait([getting], timeout=STALL_S)
    data = arrived.getvalue()
    if len(data) < file.bytes:  # nats-py says nothing of a connection that ends meanwhile
        raise ConnectionError("ended half-way")
    if File.of(data) != file:
        found = File.of(data).sha256
        raise LinkError(f"expected a file of sha256 {file.sha256}, found {found}: not whole")
    return data


class _Arrived(io.BytesIO):
    """Takes what arrives, and no more of it than was announced; raises LinkError."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._limit:
            raise LinkError(f"expected a file of {self._limit} bytes in the store, found more")
        return super().write(data)


def _is_file(limit: int) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, dict)
        and set(value) >= {"sha256", "bytes"}
        and _is_digest(value["sha256"])
        and _is_count(value["bytes"], 1, limit)
    )


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _is_count(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_REQUIRED = ("version", "onnx", "contract")
_DIGEST_WORDS = "a sha256 in hex"
# Of each key: what is expected, and whether a value is that.
_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "version": (f"a whole number, 1..{MAX_VERSION}", lambda v: _is_count(v, 1, MAX_VERSION)),
    "onnx": (
        f"sha256 in hex and bytes, at most {MAX_MODEL_BYTES}", _is_file(MAX_MODEL_BYTES),
    ),
    "card": (f"sha256 in hex and bytes, at most {MAX_CARD_BYTES}", _is_file(MAX_CARD_BYTES)),
    "contract": (_DIGEST_WORDS, _is_digest),
    "reward": (f"{_DIGEST_WORDS}, or nothing", lambda v: v == "" or _is_digest(v)),
    "steps": (f"a whole number, 0..{MAX_STEPS}", lambda v: _is_count(v, 0, MAX_STEPS)),
    "scores": (
        f"at most {MAX_SCORES} names with a number each",
        lambda v: (
            isinstance(v, dict) and len(v) <= MAX_SCORES and all(map(_is_number, v.values()))
        ),
    ),
}  # fmt: skip
