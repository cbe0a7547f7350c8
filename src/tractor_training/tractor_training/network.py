"""The network of the reference actor; torch is imported by who makes one."""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

from tractor_core.contract import Contract


def make_network(contract: Contract) -> Any:
    """Return the actor: bev (n, 2, 128, 128), proprio (n, 6) normalised -> action before tanh.

    Four stride-2 convolutions 2->32->64->64->64 give 8 x 8 x 64 = 4096 features; joined with a
    32-32 proprio branch they go through 256-128-2.
    """
    from torch import nn

    class Actor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = (contract.bev_shape[0], 32, 64, 64, 64)
            layers: list[nn.Module] = []
            for before, after in itertools.pairwise(widths):
                layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
            self.grid = nn.Sequential(*layers, nn.Flatten())
            self.body = nn.Sequential(
                nn.Linear(contract.proprio_size, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()
            )
            features = widths[-1] * (contract.grid_cells // 16) ** 2 + 32
            self.head = nn.Sequential(
                nn.Linear(features, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(),
                nn.Linear(128, 2),
            )  # fmt: skip

        def forward(self, bev: Any, proprio: Any) -> Any:
            import torch

            return self.head(torch.cat([self.grid(bev), self.body(proprio)], dim=1))

    return Actor()


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step.

    Giving the activations of each step back to the system and faulting them in again costs more
    than 40 % of the time (measured: 33 s against 19 s a hundred steps).
    """
    c_library = ctypes.CDLL(None)
    if hasattr(c_library, "mallopt"):
        m_trim_threshold, m_mmap_max = -1, -4  # malloc.h
        c_library.mallopt(m_mmap_max, 0)
        c_library.mallopt(m_trim_threshold, 2**31 - 1)
