"""A trainer makes the updates that experience allows, keeps the encoder, and gives actors."""

import numpy as np
import pytest
from experience_file import make

from tractor_core import contract as contracts
from tractor_core import robot as robots
from tractor_core.errors import ModelError
from tractor_core.paths import default_params_file
from tractor_inference.model.onnx import model as onnx_model

torch = pytest.importorskip("torch", reason="learning needs torch")

from tractor_training.export import read_weights  # noqa: E402
from tractor_training.network import make_network  # noqa: E402
from tractor_training.sac_parameters import SacParameters  # noqa: E402
from tractor_training.trainer import LearnerParameters, Trainer  # noqa: E402

CONTRACT = contracts.load(default_params_file())


@pytest.fixture
def actor(repository):
    return repository / "models" / "sac_actor_reference.onnx"


def trainer_of(encoder, heads=False):
    own = LearnerParameters(buffer_size=1000, learning_starts=25)
    robot = robots.load(default_params_file())
    return Trainer(CONTRACT, robot, encoder, heads, own, sac=SacParameters(batch_size=8))


def test_updates_follow_experience_and_leave_the_encoder_alone(actor, tmp_path):
    trainer = trainer_of(actor)
    before = {k: v.clone() for k, v in trainer._network.state_dict().items()}
    trainer.take(make(CONTRACT, 61, first=0))
    assert trainer.decisions == pytest.approx(20.33, abs=0.01) and trainer.due == 0
    trainer.take(make(CONTRACT, 61, first=61))
    assert trainer.due == 20
    while trainer.due:
        assert np.isfinite(list(trainer.learn().values())).all()
    assert trainer.sac.updates == 20
    after = trainer._network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and not any(name.startswith("grid.") for name in changed)
    trainer.export(tmp_path / "candidate.onnx")
    onnx_model.inspect(tmp_path / "candidate.onnx", CONTRACT)
    exported = make_network(CONTRACT)
    read_weights(exported, tmp_path / "candidate.onnx")
    for name, is_it in (("average", True), ("policy", False)):
        found = getattr(trainer.sac, name)
        assert torch.allclose(exported.head[0].bias, found.trunk[0].bias) is is_it


def test_it_begins_with_new_heads_or_with_those_that_were_learnt(actor, tmp_path):
    observation = torch.zeros(1, 2, 128, 128), torch.zeros(1, 6)
    fresh, learnt = (trainer_of(actor, keep)._network.eval() for keep in (False, True))
    assert torch.equal(fresh.grid(observation[0]), learnt.grid(observation[0]))
    assert not torch.equal(fresh(*observation), learnt(*observation))
    trainer_of(actor, heads=True).export(tmp_path / "same.onnx")
    again = trainer_of(tmp_path / "same.onnx", heads=True)._network.eval()
    assert torch.allclose(again(*observation), learnt(*observation), atol=1e-2)


def test_an_encoder_of_another_network_is_refused(actor, tmp_path):
    import onnx

    other = onnx.load(actor)
    del other.graph.initializer[0]
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(ModelError, match="expected the weights of the suite's own network"):
        trainer_of(tmp_path / "other.onnx")
