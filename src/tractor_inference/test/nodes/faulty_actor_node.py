"""The actor node with the shipped fake backend, which is made to fail once all have met."""

import os
import sys
import time

import numpy as np

from tractor_core.errors import ModelError
from tractor_inference.model import opener
from tractor_inference.model.backends.fake import FakeBackend
from tractor_inference.nodes import sac_actor_node

FIRST = 100
opened = 0


def script(frame):
    if frame < FIRST:
        return None
    fault = os.environ["FAULT"]
    if fault == "hang":
        time.sleep(3600)
    if fault == "raise":
        raise ModelError("the runtime returned nothing")
    if fault.startswith("open"):
        return None
    return {
        "nan": np.full((1, 2), np.nan, np.float32),
        "shape": np.zeros((2, 1), np.float32),
        "range": np.full((1, 2), 7.0, np.float32),
    }[fault]


def open_backend(kind, model, contract, core_mask):
    global opened
    opened += 1
    print(f"opened {opened} times", flush=True)
    if os.environ["FAULT"] == "open" or (os.environ["FAULT"] == "open again" and opened > 1):
        raise KeyError("vendor_enum")
    return FakeBackend(contract, script)


if __name__ == "__main__":
    opener.open_backend = open_backend
    sys.exit(sac_actor_node.main())
