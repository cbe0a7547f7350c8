"""The actor node with models that are a word: how they open, and answer from frame ten on."""

import hashlib
import sys
import time

import numpy as np

from tractor_inference import sac_actor_node
from tractor_inference.backends.fake import FakeBackend

FIRST = 10


def action(left, right):
    return np.array([[left, right]], np.float32)


def fail():
    raise RuntimeError("the runtime returned nothing")


WORDS = {
    "weave": lambda frame: action(0.5, 0.3 * (frame % 2)),
    "constant": lambda frame: action(0.5, 0.3),
    "nan": lambda frame: action(np.nan, 0.3),
    "inf": lambda frame: action(0.5, -np.inf),
    "range": lambda frame: action(0.5, 1.5),
    "none": lambda frame: np.zeros((0,), np.float32),
    "raise": lambda frame: fail(),
    "slowly": lambda frame: WORDS["weave"](frame),
    "late": lambda frame: time.sleep(0.06) or WORDS["weave"](frame),
}


def open_backend(kind, model, contract, core_mask):
    data = model.read_bytes()
    word = data.decode().split()[0]
    if word == "slowly":
        time.sleep(1.0)
    answer = WORDS[word]
    early = answer if word == "constant" else WORDS["weave"]
    backend = FakeBackend(contract, lambda frame: (early if frame < FIRST else answer)(frame))
    backend.digest = hashlib.sha256(data).hexdigest()
    return backend


if __name__ == "__main__":
    sac_actor_node.open_backend = open_backend
    sys.exit(sac_actor_node.main())
