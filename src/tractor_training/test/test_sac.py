"""The learner does what stable-baselines3 does, to the fifth digit, and goes on where it was."""

import copy
import io

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="learning needs torch")
from torch import nn  # noqa: E402

from tractor_core import contract as contracts  # noqa: E402
from tractor_core.errors import TractorError  # noqa: E402
from tractor_core.paths import default_params_file  # noqa: E402
from tractor_training.network import make_network  # noqa: E402
from tractor_training.sac import Batch, Critics, Policy, Sac, SacParameters  # noqa: E402

SEEN, ACTION, SIZE = 6, 2, 64


class TheirPolicy(nn.Module):
    """The policy of stable-baselines3, with its own weights."""

    def __init__(self, actor):
        super().__init__()
        self.actor = copy.deepcopy(actor)

    def forward(self, seen):
        mean, log_std, _ = self.actor.get_action_dist_params(seen)
        return mean, log_std


class TheirCritics(nn.Module):
    def __init__(self, critics):
        super().__init__()
        self.own = copy.deepcopy(critics)

    def forward(self, seen, action):
        return torch.stack(self.own(torch.cat(seen, dim=1), action)).squeeze(2)


@pytest.fixture
def theirs():
    pytest.importorskip("stable_baselines3", reason="the oracle: requirements/training.txt")
    import gymnasium
    from stable_baselines3 import SAC

    class Still(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1.0, 1.0, (SEEN,), np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION,), np.float32)

    model = SAC(
        "MlpPolicy", Still(), gamma=0.97, tau=0.005, ent_coef="auto_0.1", target_entropy=-2.0,
        policy_kwargs={"net_arch": [32, 32]}, seed=0, buffer_size=100, device="cpu",
    )  # fmt: skip
    from stable_baselines3.common.logger import configure

    model.set_logger(configure(None, []))
    return model


def batch_of(seed):
    rng = np.random.default_rng(seed)

    def numbers(*shape):
        return torch.tensor(rng.uniform(-1.0, 1.0, shape), dtype=torch.float32)

    done = torch.tensor(rng.random(SIZE) < 0.2, dtype=torch.float32)
    seen, then = numbers(SIZE, SEEN), numbers(SIZE, SEEN)
    return Batch((seen,), numbers(SIZE, ACTION), numbers(SIZE), (then,), 0.97 * (1.0 - done))


def test_losses_gradients_targets_and_temperature_are_those_of_stable_baselines3(theirs):
    from stable_baselines3.common.type_aliases import ReplayBufferSamples

    ours = Sac(TheirPolicy(theirs.actor), TheirCritics(theirs.critic), SacParameters())
    for seed in range(5):
        batch = batch_of(seed)
        column = (slice(None), None)
        samples = ReplayBufferSamples(
            batch.obs[0], batch.action, batch.next_obs[0], 1.0 - batch.discount[column] / 0.97,
            batch.reward[column],
        )  # fmt: skip
        theirs.replay_buffer.sample = lambda *_, samples=samples, **__: samples
        torch.manual_seed(seed)
        theirs.train(gradient_steps=1, batch_size=SIZE)
        torch.manual_seed(seed)
        figures = ours.update(batch)
        logged = theirs.logger.name_to_value
        for name, key in (
            ("loss/critic", "train/critic_loss"), ("loss/policy", "train/actor_loss"),
            ("loss/temperature", "train/ent_coef_loss"), ("sac/temperature", "train/ent_coef"),
        ):  # fmt: skip
            assert figures[name] == pytest.approx(logged[key], abs=1e-5), name
        pairs = [
            (ours.policy.actor, theirs.actor),
            (ours.critics.own, theirs.critic), (ours.targets.own, theirs.critic_target),
        ]  # fmt: skip
        for mine, other in pairs:
            for a, b in zip(mine.parameters(), other.parameters(), strict=True):
                assert torch.allclose(a, b, atol=1e-5)
        for mine, other in ((ours.policy.actor, theirs.actor),):
            for a, b in zip(mine.parameters(), other.parameters(), strict=True):
                assert torch.allclose(a.grad, b.grad, atol=1e-5)
        # Theirs adds the policy's gradients to those of the critics, which it never uses.
        pairs = zip(ours.critics.parameters(), theirs.critic.parameters(), strict=True)
        for a, b in pairs:
            mine, other = (
                optimizer.state[parameter]["exp_avg"]
                for optimizer, parameter in (
                    (ours.optimizers["critics"], a), (theirs.critic.optimizer, b),
                )
            )  # fmt: skip
            assert torch.allclose(mine, other, atol=1e-5)
        assert torch.allclose(ours.log_temperature, theirs.log_ent_coef, atol=1e-5)


def test_critics_that_are_computed_together_are_those_that_torch_computes_alone():
    sizes, width = (5, 3, 2), 8
    torch.manual_seed(0)
    critics = Critics(sizes, width=width)
    with torch.no_grad():  # as after some learning
        for parameter in critics.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    alone = []
    for i in range(2):
        layers = nn.Sequential(
            nn.Linear(sum(sizes), width), nn.LayerNorm(width), nn.ReLU(),
            nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, 1),
        )  # fmt: skip
        first = torch.cat([part.view(2, width, -1)[i] for part in critics.first], dim=1)
        wanted = [
            first, critics.biases[0][i], critics.scales[0][i, 0], critics.shifts[0][i, 0],
            critics.second[i].T, critics.biases[1][i, 0], critics.scales[1][i, 0],
            critics.shifts[1][i, 0], critics.last[i].T, critics.biases[2][i, 0],
        ]  # fmt: skip
        with torch.no_grad():
            for parameter, values in zip(layers.parameters(), wanted, strict=True):
                parameter.copy_(values)
        alone.append(layers)
    obs, action = (torch.randn(16, 5), torch.randn(16, 3)), torch.randn(16, 2, requires_grad=True)
    values = critics(obs, action)
    theirs = torch.stack([layers(torch.cat([*obs, action], dim=1))[:, 0] for layers in alone])
    assert torch.allclose(values, theirs, atol=1e-6)
    (mine,) = torch.autograd.grad(values.sum(), action, retain_graph=True)
    (other,) = torch.autograd.grad(theirs.sum(), action)
    assert torch.allclose(mine, other, atol=1e-6)


def test_critics_begin_as_torch_begins():
    torch.manual_seed(0)
    critics = Critics((256, 1024, 6, 2))
    bound = (256 + 1024 + 6 + 2) ** -0.5
    for part in critics.first:
        assert part.abs().max() <= bound
        assert part.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert not torch.equal(critics.second[0], critics.second[1])


def small(seed=0):
    torch.manual_seed(seed)
    network = make_network(contracts.load(default_params_file()))
    return Sac(Policy(network), Critics((256, 1024, 6, 2)), SacParameters(batch_size=16))


def rover_batch(seed):
    generator = torch.Generator().manual_seed(seed)

    def seen():
        return (
            torch.rand(16, 256, generator=generator),
            (torch.rand(16, 1024, generator=generator) < 0.1).float(),
            torch.randn(16, 6, generator=generator),
        )

    action = torch.rand(16, 2, generator=generator) * 2.0 - 1.0
    return Batch(seen(), action, torch.rand(16, generator=generator), seen(), torch.ones(16))


def test_what_is_restored_goes_on_as_if_nothing_had_happened():
    learner = small()
    for step in range(3):
        learner.update(rover_batch(step))
    file = io.BytesIO()
    torch.save(learner.state(), file)
    file.seek(0)
    other = small(seed=1)
    other.restore(torch.load(file, weights_only=True))
    for step in range(3, 6):
        torch.manual_seed(step)
        mine = learner.update(rover_batch(step))
        torch.manual_seed(step)
        assert other.update(rover_batch(step)) == mine
    assert other.updates == 6


def test_the_average_is_at_first_the_mean_of_all_policies():
    learner = small()
    policies = [[p.detach().clone() for p in learner.policy.parameters()]]
    for step in range(5):
        learner.update(rover_batch(step))
        policies.append([p.detach().clone() for p in learner.policy.parameters()])
    for average, *values in zip(learner.average.parameters(), *policies):
        assert torch.allclose(average, torch.stack(values).mean(dim=0), atol=1e-6)


def test_numbers_that_are_not_finite_end_learning():
    learner, batch = small(), rover_batch(0)
    batch.reward[3] = float("nan")
    with pytest.raises(TractorError, match="expected finite numbers, found"):
        learner.update(batch)


def test_it_learns_what_pays():
    """The reward is how near the first action is to one half, wherever it is."""
    torch.manual_seed(0)

    class Tiny(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))

        def forward(self, seen):
            return self.layers(seen).chunk(2, dim=1)

    parameters = SacParameters(
        gamma=0.0, policy_lr=3e-3, critic_lr=3e-3, temperature_lr=3e-3, target_entropy=-2.0
    )
    learner = Sac(Tiny(), Critics((2, 1), width=32), parameters)
    for _ in range(400):
        seen = torch.rand(64, 2)
        action = torch.rand(64, 1) * 2.0 - 1.0
        reward = -((action[:, 0] - 0.5) ** 2)
        learner.update(Batch((seen,), action, reward, (seen,), torch.zeros(64)))
    mean, _ = learner.policy(torch.rand(64, 2))
    assert torch.tanh(mean).mean().item() == pytest.approx(0.5, abs=0.1)
