"""The builder node that fails in the state that FAULT names, until a file mended is there."""

import os
import sys
from pathlib import Path

from tractor_inference.nodes.base.run import run
from tractor_inference.nodes.bev_builder_node import BevBuilderNode


def fail(where):
    if where in os.environ["FAULT"].split() and not Path("mended").exists():
        raise OSError(f"the device is gone while {where}")


class Erring(BevBuilderNode):
    def on_activate(self, state):
        fail("activating")
        return super().on_activate(state)

    def on_deactivate(self, state):
        fail("deactivating")
        return super().on_deactivate(state)

    def set_up(self, prepared):
        super().set_up(prepared)
        fail("configuring")

    def release(self):
        fail("releasing")


if __name__ == "__main__":
    sys.exit(run(Erring))
