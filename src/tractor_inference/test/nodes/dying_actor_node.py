"""The actor node one of whose threads, named by FAULT, raises while a file `broken` is there."""

import os
import sys
from pathlib import Path

from tractor_core import samples
from tractor_inference.model.slot import ModelSlot
from tractor_inference.nodes import sac_actor_node
from tractor_inference.nodes.standstill import Standstill
from tractor_inference.recording import sampler

# What each thread calls all the time.
CALLED = {
    "sampler": (samples, "remove_unfinished"),
    "watchdog": (Standstill, "step"),
    "model watch": (ModelSlot, "look"),
}


def break_thread(owner, name):
    original = getattr(owner, name)

    def broken(*arguments):
        if Path("broken").exists():
            raise RuntimeError("a fault that nobody thought of")
        return original(*arguments)

    setattr(owner, name, broken)


if __name__ == "__main__":
    sampler.RECOUNT_S = 0.2
    break_thread(*CALLED[os.environ["FAULT"]])
    sys.exit(sac_actor_node.main())
