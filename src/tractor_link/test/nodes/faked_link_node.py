"""rover_link with a fake converter, which does what the bytes of a model say."""

import functools
import sys
from pathlib import Path

from tractor_inference.nodes.base.run import run
from tractor_link.nodes.rover_link_node import RoverLinkNode

FAKE = (sys.executable, str(Path(__file__).parents[1] / "fake_convert.py"))

if __name__ == "__main__":
    sys.exit(run(functools.partial(RoverLinkNode, command=FAKE)))
