"""A torch actor as an ONNX of the contract."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from tractor_core.contract import ACTION_OUTPUT, BEV_INPUT, PROPRIO_INPUT, Contract


def export(network: Any, contract: Contract, path: Path) -> None:
    """Write the network with its tanh as ONNX, inputs and output named as the contract says."""
    import torch

    class WithTanh(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, bev: Any, proprio: Any) -> Any:
            return torch.tanh(self.network(bev, proprio))

    examples = tuple(torch.zeros(shape) for shape in contract.input_shapes.values())
    with warnings.catch_warnings():
        # The older exporter is announced to go, but it needs nothing beyond torch and onnx.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            WithTanh().eval(), examples, str(path), dynamo=False, opset_version=13,
            input_names=[BEV_INPUT, PROPRIO_INPUT], output_names=[ACTION_OUTPUT],
        )  # fmt: skip
