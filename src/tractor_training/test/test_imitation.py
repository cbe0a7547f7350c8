"""Making the reference actor, and the one that was made."""

import dataclasses

import numpy as np
import pytest

from tractor_core import contract as contract_module
from tractor_core.errors import ContractError
from tractor_inference.model.onnx import model as onnx_model
from tractor_sim.rollout import Verdict
from tractor_training import card, imitate, imitation
from tractor_training.export import export
from tractor_training.network import make_network, round_weights

# Its weights are float32; the guide's INT8 models, a quarter of such a file, have about 600 kB.
LARGEST_ONNX = 1_600_000


@pytest.fixture(scope="module")
def actor(repository):
    return repository / "models" / "sac_actor_reference.onnx"


def test_mirror_swaps_tracks_and_negates_what_has_a_side():
    raw = np.array([[2.0, 0.1, 0.9, 0.1, 0.5, -0.3]], np.float32)
    assert imitation.mirror(raw) == pytest.approx(np.array([[2.0, 0.9, 0.1, 0.1, -0.5, 0.3]]))
    assert imitation.mirror(imitation.mirror(raw)) == pytest.approx(raw)


def test_collected_frames_are_the_contracts(params_file):
    frames = imitation.collect(imitation.Collection(1, str(params_file), None))
    contract = contract_module.load(params_file)
    assert len(frames.bev) == len(frames.proprio) == len(frames.label) == imitation.IMITATION_FRAMES
    assert frames.bev.shape[1] * 8 == np.prod(contract.bev_shape)
    assert np.abs(frames.label).max() <= 1.0
    assert np.isfinite(contract_module.normalize(contract, frames.proprio)).all()
    again = imitation.collect(imitation.Collection(1, str(params_file), None))
    assert (again.bev == frames.bev).all()
    assert (again.label == frames.label).all()


def test_export_follows_the_contract(params_file, tmp_path):
    pytest.importorskip("torch", reason="making an actor needs torch")
    contract = contract_module.load(params_file)
    path = tmp_path / "fresh.onnx"
    export(make_network(contract), contract, path)
    onnx_model.inspect(path, contract)
    assert path.stat().st_size <= LARGEST_ONNX


def test_activations_are_trained_as_int8_holds_them(params_file):
    torch = pytest.importorskip("torch", reason="making an actor needs torch")
    contract = contract_module.load(params_file)
    torch.manual_seed(0)
    network = make_network(contract)
    seen = []
    for branch in (network.grid, network.body):
        branch[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    inputs = [torch.randn(8, *shape[1:]) for shape in contract.input_shapes.values()]
    network.train()(*inputs).sum().backward()
    assert all(values.grad.abs().max() > 0.0 for values in network.parameters())
    network.eval()(*inputs)
    for rounded, exact in zip(seen[:2], seen[2:]):
        assert 0.0 <= rounded.min() < rounded.max() <= 1.0
        steps = rounded * 255
        assert (steps - steps.round()).abs().max() < 1e-3
        # Half a step, and what the layers before it passed on.
        assert 0.0 < (rounded - exact).abs().max() < 0.1


def test_weights_are_rounded_to_the_steps_of_their_channel(params_file):
    torch = pytest.importorskip("torch", reason="making an actor needs torch")
    torch.manual_seed(0)
    network = make_network(contract_module.load(params_file))
    with torch.no_grad():
        network.head[0].weight[3] = 0.0
        network.head[0].weight[4] = torch.linspace(0.2, 0.9, network.head[0].in_features)
    before = {name: values.clone() for name, values in network.named_parameters()}
    round_weights(network)
    rounded = {name: values.clone() for name, values in network.named_parameters()}
    for name, values in rounded.items():
        if name.endswith("bias"):
            assert (values == before[name]).all()
            continue
        channels, old = values.flatten(1), before[name].flatten(1)
        step = (old.amax(1).clamp(min=0.0) - old.amin(1).clamp(max=0.0)).clamp(min=1e-9) / 255
        numbers = channels / step[:, None]
        assert (numbers - numbers.round()).abs().max() < 1e-2
        assert numbers.amax(1).clamp(min=0.0).sub(numbers.amin(1).clamp(max=0.0)).max() < 255.5
        assert ((channels - old).abs().amax(1) <= 1.01 * step).all()
    round_weights(network)
    for name, values in network.named_parameters():
        assert torch.allclose(values, rounded[name], atol=1e-6)


def test_the_weights_of_the_reference_actor_are_on_steps(actor):
    onnx = pytest.importorskip("onnx")
    weights = [w for w in onnx.load(actor).graph.initializer if len(w.dims) > 1]
    assert len(weights) == 9
    for weight in map(onnx.numpy_helper.to_array, weights):
        assert max(len(np.unique(channel)) for channel in weight) <= 256


@pytest.mark.parametrize("cells", [16, 48, 100])
def test_a_grid_of_another_size_gets_a_network_too(params_file, cells):
    torch = pytest.importorskip("torch", reason="making an actor needs torch")
    contract = dataclasses.replace(contract_module.load(params_file), grid_cells=cells)
    inputs = [torch.zeros(shape) for shape in contract.input_shapes.values()]
    assert make_network(contract)(*inputs).shape == (1, 2)


def test_training_refuses_another_action_space(params_file, tmp_path):
    text = params_file.read_text().replace('action_space: "tracks"', 'action_space: "twist"')
    other = tmp_path / "twist.yaml"
    other.write_text(text)
    with pytest.raises(ContractError, match="tracks"):
        imitation.train(tmp_path / "x.onnx", str(other), 0, 1)


def test_reference_actor_follows_the_contract(actor, params_file):
    onnx_model.inspect(actor, contract_module.load(params_file))
    assert actor.stat().st_size <= LARGEST_ONNX


@pytest.mark.parametrize(
    ("free", "mean_m", "good"), [(39, 9.7, True), (38, 9.7, False), (40, 9.69, False)]
)
def test_a_reference_actor_drives_nearly_as_the_expert(free, mean_m, good):
    def drove(free_runs, mean_m):
        return Verdict(40, 60.0, mean_m, 1.0, 7, free_runs, 40 - free_runs, 0)

    assert card.good_enough(drove(free, mean_m), drove(40, 10.0)) == good


def test_card_states_the_contract_it_was_made_for(actor, params_file):
    assert contract_module.load(params_file).digest in actor.with_suffix(".md").read_text()


@pytest.mark.parametrize(
    ("out", "sentence"),
    [("a.txt", "ends in .onnx, found a.txt"), ("nowhere/a.onnx", "in a folder that exists")],
)
def test_where_an_actor_cannot_be_written_is_said_before_it_is_made(capsys, out, sentence):
    with pytest.raises(SystemExit) as ended:
        imitate.main(["--out", out])
    assert ended.value.code == 2 and sentence in capsys.readouterr().err


def test_help_comes_without_the_heavy_libraries(capsys):
    with pytest.raises(SystemExit) as end:
        imitate.main(["--help"])
    assert end.value.code == 0
    assert "--seed" in capsys.readouterr().out
