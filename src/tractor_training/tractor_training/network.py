"""The network of the reference actor; torch is imported by who makes one."""

from __future__ import annotations

import itertools
import math
from typing import Any

from tractor_core.contract import Contract

# Between the least and the largest value of a tensor.
INT8_STEPS = 255


def make_network(contract: Contract) -> Any:
    """Return the actor: bev (n, 2, 128, 128), proprio (n, 6) normalised -> action before tanh.

    A 5x5 convolution of stride 4 and three 3x3 ones of stride 2, 2->16->32->64->64, give
    4 x 4 x 64 = 1024 features and of them 256; a branch 6->32->256 for the proprioception is added,
    and 128 units give the two outputs.

    It is made for INT8. Activations lie in [0, 1] and are rounded in training as INT8 rounds such a
    range (straight-through: Bengio, Leonard and Courville, arXiv:1308.3432), weights once they are
    learnt (`round_weights`); inputs and the sum of the branches are not. The branches are added
    after their activations: rknn-toolkit2 computes a layer over joined branches as a sum of two
    unbounded ones, each rounded.
    """
    import torch
    from torch import nn

    class Activation(nn.Module):
        def forward(self, x: Any) -> Any:
            x = torch.clamp(x, 0.0, 1.0)
            if self.training:
                x = x + (torch.round(x * INT8_STEPS) / INT8_STEPS - x).detach()
            return x

    class Actor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths, strides = (contract.bev_shape[0], 16, 32, 64, 64), (4, 2, 2, 2)
            layers: list[nn.Module] = []
            for (before, after), stride in zip(itertools.pairwise(widths), strides):
                size = stride // 2 * 2 + 1
                layers += [nn.Conv2d(before, after, size, stride, size // 2), Activation()]
            features = widths[-1] * math.ceil(contract.grid_cells / math.prod(strides)) ** 2
            self.grid = nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 256), Activation())
            self.body = nn.Sequential(
                nn.Linear(contract.proprio_size, 32), Activation(), nn.Linear(32, 256), Activation()
            )
            self.head = nn.Sequential(nn.Linear(256, 128), Activation(), nn.Linear(128, 2))
            for name, values in self.named_parameters():
                if name.endswith("bias"):
                    nn.init.zeros_(values)
                else:
                    nn.init.kaiming_normal_(values, nonlinearity="relu")

        def forward(self, bev: Any, proprio: Any) -> Any:
            return self.head(self.grid(bev) + self.body(proprio))

    return Actor()


def round_weights(network: Any) -> None:
    """Put each weight on one of the 256 steps that INT8 has for its output channel, in place.

    rknn-toolkit2 divides a channel from its least to its largest value, with zero on a step; what
    lies on the steps loses nothing when it is built: three actors reached 45.1, 39.3 and 42.3 dB on
    the reference observations without this, 44.9, 43.9 and 44.9 with it.
    """
    import torch
    from torch import nn

    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                weights = layer.weight.flatten(1)
                least = weights.amin(dim=1, keepdim=True).clamp(max=0.0)
                step = (weights.amax(dim=1, keepdim=True).clamp(min=0.0) - least) / INT8_STEPS
                step = step.clamp(min=torch.finfo(step.dtype).tiny)
                below = torch.round(-least / step)
                steps = torch.round(weights / step).clamp(-below, INT8_STEPS - below)
                layer.weight.copy_((steps * step).view_as(layer.weight))
