"""A chunk of experience as a rover could have made it."""

import numpy as np

from tractor_core import experience
from tractor_core.experience import ROW, Chunk

DIGEST = "0123456789abcdef" * 4


def make(contract, count=30, seed=0, **fields):
    """Return a chunk of a scene that changes a little from step to step."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(count + 1, ROW)
    rows["stamp_ns"] = 1_795_000_000_000_000_000 + 33_333_333 * np.arange(count + 1)
    rows["proprio"] = rng.uniform(0.0, 0.2, (count + 1, 6))
    rows["pose"] = rng.normal(size=(count + 1, 3))
    for name in experience.ACTIONS:
        rows[name][:-1] = rng.uniform(-1.0, 1.0, (count, 2))
    rows["driver"][:-1] = rng.integers(len(experience.DRIVERS), size=count)
    bev = np.zeros(contract.bev_shape, np.float32)
    grids = []
    for _ in range(count + 1):
        bev[tuple(rng.integers(contract.bev_shape))] = 1.0
        grids.append(experience.pack_grid(bev))
    header = {
        "session": "20261130T154012Z-0badcafe", "episode": 3, "first": 60, "model": DIGEST,
        "contract": contract.digest, "end": "",
    }  # fmt: skip
    return Chunk(**(header | fields), rows=rows, grids=np.stack(grids))
