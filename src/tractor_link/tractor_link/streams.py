"""What lies on the server, by which names, and how large it may grow: made here and nowhere else.

| name | subjects | what |
|---|---|---|
| stream `EXPERIENCE` | `experience.ROVER` | chunks that the trainer has not taken, by their ids |
| stream `REFUSED` | `refused.ROVER` | chunks that cannot be learnt from; header `Reason` |
| stream `MODELS` | `models.offered` | what is offered to rovers: JSON, see `offers` |
| object store `models` | | the files of these models, by the sha256 of each |
| key-value `status` | | what each rover and the trainer say of themselves: JSON |

Whoever keeps the contract may send and take here with any client.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tractor_core.parameters import param

EXPERIENCE, REFUSED, MODELS = "EXPERIENCE", "REFUSED", "MODELS"
OFFERED = "models.offered"
MODEL_FILES, STATUS = "models", "status"
REASON, MESSAGE_ID = "Reason", "Nats-Msg-Id"
GIGABYTE = 10**9
NOT_FOUND = 404


@dataclasses.dataclass(frozen=True)
class StreamParameters:
    """How large what lies on the server may grow."""

    experience_max_gb: float = param(
        "Chunks that the trainer does not have yet, GB; what is beyond waits on the rovers.",
        4.0, minimum=0.001, maximum=10_000.0,
    )  # fmt: skip
    refused_max_gb: float = param(
        "Chunks that cannot be learnt from, GB; the oldest go.", 0.1, minimum=0.001, maximum=1000.0
    )
    models_max_gb: float = param("Files of models, GB.", 2.0, minimum=0.001, maximum=10_000.0)
    duplicate_window_s: float = param(
        "A chunk that comes again within this time is stored once, s; the trainer counts each once "
        "whenever it comes.", 600.0, minimum=1.0, maximum=86_400.0,
    )  # fmt: skip
    acknowledge_s: float = param(
        "A chunk that the trainer does not acknowledge within this time is given to it again, s.",
        60.0, minimum=1.0, maximum=3600.0,
    )  # fmt: skip


def experience_of(rover: str) -> str:
    """Return the subject of a rover's chunks."""
    return f"experience.{rover}"


def refused_of(rover: str) -> str:
    """Return the subject of chunks of a rover that cannot be learnt from."""
    return f"refused.{rover}"


def rover_of(subject: str) -> str:
    """Return whose chunk it is."""
    return subject.rpartition(".")[2]


async def set_up(jetstream: Any, parameters: StreamParameters) -> None:
    """Make what is missing on the server, and bring what is there to these parameters.

    Args:
        jetstream: nats.js.JetStreamContext.

    Raises:
        nats.errors.Error: the server does not allow it, has no room for it, or does not answer.
    """
    from nats.js import api, errors

    def stream(name: str, subject: str, gigabytes: float, **other: Any) -> api.StreamConfig:
        return api.StreamConfig(
            name=name, subjects=[subject], storage=api.StorageType.FILE,
            max_bytes=round(gigabytes * GIGABYTE), **other,
        )  # fmt: skip

    wanted = [
        # A full one takes no more, and says so: nothing that was taken is ever pushed out.
        stream(
            EXPERIENCE, experience_of("*"), parameters.experience_max_gb,
            retention=api.RetentionPolicy.WORK_QUEUE, discard=api.DiscardPolicy.NEW,
            duplicate_window=parameters.duplicate_window_s,
        ),
        stream(REFUSED, refused_of("*"), parameters.refused_max_gb, discard=api.DiscardPolicy.OLD),
        stream(MODELS, OFFERED, 0.01, discard=api.DiscardPolicy.OLD, max_msgs=1000),
    ]  # fmt: skip
    for config in wanted:
        try:
            await jetstream.update_stream(config)
        except errors.NotFoundError:
            await jetstream.add_stream(config)
    limit = round(parameters.models_max_gb * GIGABYTE)
    try:
        await jetstream.object_store(MODEL_FILES)
        found = (await jetstream.stream_info(f"OBJ_{MODEL_FILES}")).config
        if found.max_bytes != limit:
            found.max_bytes = limit
            await jetstream.update_stream(found)
    except errors.NotFoundError:
        store = api.ObjectStoreConfig(max_bytes=limit, storage=api.StorageType.FILE)
        await jetstream.create_object_store(MODEL_FILES, store)
    try:
        await jetstream.key_value(STATUS)
    except errors.NotFoundError:
        values = api.KeyValueConfig(bucket=STATUS, storage=api.StorageType.FILE, history=1)
        await jetstream.create_key_value(values)
