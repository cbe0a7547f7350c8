"""drive: bev_builder and sac_actor in one process, the grid handed over by a direct call.

Both keep their names, parameters, life cycles and topics; the grid's topic is served only while
somebody subscribes. It saves the way through the middleware; when the process ends, both end. Exit
code 70 is that of sac_actor.
"""

from __future__ import annotations

import sys

from tractor_core.bev.parameters import BuilderParameters

from ..actor_parameters import ActorParameters
from .base.run import run
from .base.usage import usage
from .bev_builder_node import BevBuilderNode
from .sac_actor_node import SacActorNode


def main() -> None:
    """Run both nodes."""
    actors: list[SacActorNode] = []

    def make_actor() -> SacActorNode:
        actors.append(SacActorNode(direct=True))
        return actors[0]

    def make_builder() -> BevBuilderNode:
        return BevBuilderNode(take_grid=actors[0].take_grid)

    about = usage(
        "tractor_inference", "drive", __doc__,
        bev_builder=BuilderParameters, sac_actor=ActorParameters,
    )  # fmt: skip
    sys.exit(run(make_actor, make_builder, usage=about))


if __name__ == "__main__":
    main()
