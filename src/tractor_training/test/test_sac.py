"""The learner does what stable-baselines3 does, to the fifth digit, and goes on where it was."""

import copy
import io

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="learning needs torch")
from torch import nn  # noqa: E402

from tractor_core import contract as contracts  # noqa: E402
from tractor_core.paths import default_params_file  # noqa: E402
from tractor_training.network import make_network  # noqa: E402
from tractor_training.sac import Batch, Critic, Policy, Sac, SacParameters  # noqa: E402

SEEN, ACTION, SIZE = 6, 2, 64


class TheirPolicy(nn.Module):
    """The policy of stable-baselines3, with its own weights."""

    def __init__(self, actor):
        super().__init__()
        self.actor = copy.deepcopy(actor)

    def forward(self, seen):
        mean, log_std, _ = self.actor.get_action_dist_params(seen)
        return mean, log_std


class TheirCritic(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = copy.deepcopy(network)

    def forward(self, seen, action):
        return self.network(torch.cat([*seen, action], dim=1)).squeeze(1)


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

    ours = Sac(
        TheirPolicy(theirs.actor),
        (TheirCritic(theirs.critic.qf0), TheirCritic(theirs.critic.qf1)),
        SacParameters(),
    )
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
            *((ours.critics[i].network, getattr(theirs.critic, f"qf{i}")) for i in (0, 1)),
            *((ours.targets[i].network, getattr(theirs.critic_target, f"qf{i}")) for i in (0, 1)),
        ]  # fmt: skip
        for mine, other in pairs:
            for a, b in zip(mine.parameters(), other.parameters(), strict=True):
                assert torch.allclose(a, b, atol=1e-5)
        for mine, other in ((ours.policy.actor, theirs.actor),):
            for a, b in zip(mine.parameters(), other.parameters(), strict=True):
                assert torch.allclose(a.grad, b.grad, atol=1e-5)
        # Theirs adds the policy's gradients to those of the critics, which it never uses.
        for i in (0, 1):
            pairs = zip(
                ours.critics[i].network.parameters(),
                getattr(theirs.critic, f"qf{i}").parameters(), strict=True,
            )  # fmt: skip
            for a, b in pairs:
                mine, other = (
                    optimizer.state[parameter]["exp_avg"]
                    for optimizer, parameter in (
                        (ours.optimizers["critics"], a), (theirs.critic.optimizer, b),
                    )
                )  # fmt: skip
                assert torch.allclose(mine, other, atol=1e-5)
        assert torch.allclose(ours.log_temperature, theirs.log_ent_coef, atol=1e-5)


def small(seed=0):
    torch.manual_seed(seed)
    network = make_network(contracts.load(default_params_file()))
    critics = Critic(256 + 1024 + 6 + 2), Critic(256 + 1024 + 6 + 2)
    return Sac(Policy(network), critics, SacParameters(batch_size=16))


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
    learner = Sac(Tiny(), (Critic(3, 32), Critic(3, 32)), parameters)
    for _ in range(400):
        seen = torch.rand(64, 2)
        action = torch.rand(64, 1) * 2.0 - 1.0
        reward = -((action[:, 0] - 0.5) ** 2)
        learner.update(Batch((seen,), action, reward, (seen,), torch.zeros(64)))
    mean, _ = learner.policy(torch.rand(64, 2))
    assert torch.tanh(mean).mean().item() == pytest.approx(0.5, abs=0.1)
