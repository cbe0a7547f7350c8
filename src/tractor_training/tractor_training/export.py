"""A torch actor as an ONNX of the contract."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from tractor_core.contract import ACTION_OUTPUT, BEV_INPUT, PROPRIO_INPUT, Contract
from tractor_core.errors import ModelError
from tractor_inference.model.onnx.signature import EXPLORATION_SCALE


def export(
    network: Any, contract: Contract, path: Path, exploration_scale: float | None = None
) -> None:
    """Write the network with its tanh as ONNX, inputs and output named as the contract says.

    Args:
        exploration_scale: the noise that a rover is asked to add, 0..1 of an action; None: none.

    Raises:
        ModelError: a scale beyond 0..1.
    """
    if exploration_scale is not None and not 0.0 <= exploration_scale <= 1.0:
        raise ModelError(f"exploration_scale: expected 0..1 or None, found {exploration_scale}")
    import onnx
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
    if exploration_scale is not None:
        model = onnx.load(path)
        onnx.helper.set_model_props(model, {EXPLORATION_SCALE: repr(float(exploration_scale))})
        onnx.save(model, path)


def read_weights(network: Any, path: Path) -> None:
    """Give a network the weights of an ONNX that `export` wrote of one of the same shape.

    Raises:
        ModelError: it has others.
    """
    import onnx
    import torch

    found = {
        tensor.name.removeprefix("network."): onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(path).graph.initializer
    }
    wanted = network.state_dict()
    if unlike := [n for n, w in wanted.items() if n not in found or found[n].shape != w.shape]:
        raise ModelError(f"expected the weights of the suite's own network, lacks {unlike}", path)
    network.load_state_dict({name: torch.from_numpy(found[name].copy()) for name in wanted})
