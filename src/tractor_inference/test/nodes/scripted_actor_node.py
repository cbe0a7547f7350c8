"""The actor node with models that are a word: how they open, and answer from frame ten on."""

import hashlib
import os
import sys
import time

import numpy as np

from tractor_core.errors import ContractError
from tractor_inference.model import opener
from tractor_inference.model.backends.fake import FakeBackend
from tractor_inference.nodes import sac_actor_node

FIRST = 10
OPEN_LIMIT_S = float(os.environ.get("OPEN_LIMIT_S", "3"))


def action(left, right):
    return np.array([[left, right]], np.float32)


def fail():
    raise RuntimeError("the runtime returned nothing")


def blame_the_observation():
    raise ContractError("cur_lin: expected a finite value")


WORDS = {
    "weave": lambda frame: action(0.5, 0.3 * (frame % 2)),
    "constant": lambda frame: action(0.5, 0.3),
    "nan": lambda frame: action(np.nan, 0.3),
    "inf": lambda frame: action(0.5, -np.inf),
    "range": lambda frame: action(0.5, 1.5),
    "none": lambda frame: np.zeros((0,), np.float32),
    "raise": lambda frame: fail(),
    "slowly": lambda frame: WORDS["weave"](frame),
    "stuck": lambda frame: WORDS["weave"](frame),
    "fragile": lambda frame: fail() if frame > 90 else WORDS["weave"](frame),
    "flaky": lambda frame: fail() if frame % 40 == 39 else WORDS["weave"](frame),
    "blind": lambda frame: blame_the_observation() if frame < 30 else WORDS["weave"](frame),
    "hang": lambda frame: time.sleep(3600),
    "late": lambda frame: time.sleep(0.06) or WORDS["weave"](frame),
}


class Scripted(FakeBackend):
    """Says that it is closed; a reluctant one takes its time before."""

    def _release(self):
        if "reluctant" in self.text:
            time.sleep(1.5)
        print(f"closed {self.text}", flush=True)


def open_backend(kind, model, contract, core_mask):
    data = model.read_bytes()
    word = data.decode().split()[0]
    while word == "stuck" and not model.with_name("loosened").exists():
        time.sleep(0.05)
    if word == "slowly":
        time.sleep(1.0)
    answer = WORDS[word]
    early = answer if word == "constant" else WORDS["weave"]
    backend = Scripted(contract, lambda frame: (early if frame < FIRST else answer)(frame))
    backend.text = data.decode()
    backend.digest = hashlib.sha256(data).hexdigest()
    return backend


if __name__ == "__main__":
    opener.open_backend = open_backend
    opener.OPEN_LIMIT_S = OPEN_LIMIT_S
    sys.exit(sac_actor_node.main())
