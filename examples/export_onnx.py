"""Export a torch actor that `convert` takes.

.venv/bin/python examples/export_onnx.py actor.onnx
"""

import sys

import torch
from torch import nn

from tractor_core import load_contract

contract = load_contract("config/sac_rover.yaml")


class Actor(nn.Module):
    """An untrained actor: put yours in its place; `forward` answers tanh of the mean."""

    def __init__(self) -> None:
        super().__init__()
        # Bounded activations, and branches that are added: see docs/export.md, INT8.
        self.grid = nn.Sequential(
            nn.Conv2d(2, 16, 5, stride=4, padding=2), nn.ReLU6(),
            nn.Conv2d(16, 16, 5, stride=4, padding=2), nn.ReLU6(),
            nn.Flatten(), nn.Linear(16 * (contract.grid_cells // 16) ** 2, 64), nn.ReLU6(),
        )  # fmt: skip
        self.body = nn.Sequential(nn.Linear(contract.proprio_size, 64), nn.ReLU6())
        self.head = nn.Linear(64, 2)

    def forward(self, bev: torch.Tensor, proprio: torch.Tensor) -> torch.Tensor:
        """Answer bev (1, 2, N, N) and normalised proprio (1, 6) with an action (1, 2) in -1..1."""
        return torch.tanh(self.head(self.grid(bev) + self.body(proprio)))


inputs = {name: torch.zeros(shape) for name, shape in contract.input_shapes.items()}
torch.onnx.export(
    Actor().eval(), tuple(inputs.values()), sys.argv[1],
    input_names=list(inputs), output_names=["action"], opset_version=17, dynamo=False,
)  # fmt: skip
