"""What a trainer writes for a rover: the noise that it asks for."""

import numpy as np
import pytest

from tractor_core.errors import ModelError
from tractor_inference.model.onnx import model as onnx_model
from tractor_training.export import export
from tractor_training.network import make_network

pytest.importorskip("torch", reason="making an actor needs torch")


@pytest.mark.parametrize("scale", [None, 0.0, 0.3, 1, 1e-9, np.float32(0.3)])
def test_the_noise_that_is_asked_for_is_read_again(contract, tmp_path, scale):
    path = tmp_path / "actor.onnx"
    export(make_network(contract), contract, path, scale)
    assert onnx_model.inspect(path, contract).exploration_scale == scale


@pytest.mark.parametrize("scale", [-0.1, 1.1, np.nan, np.inf])
def test_noise_beyond_an_action_is_refused_and_nothing_is_written(contract, tmp_path, scale):
    with pytest.raises(ModelError, match=r"exploration_scale: expected 0\.\.1 or None, found"):
        export(make_network(contract), contract, tmp_path / "actor.onnx", scale)
    assert not any(tmp_path.iterdir())
