"""Soft actor-critic with automatic temperature (Haarnoja et al. 2018, arXiv:1812.05905).

    learner = Sac(policy, critics, SacParameters(), device="cpu")
    figures = learner.update(batch)

An update is in the order of stable-baselines3, which is its oracle: temperature, critics, policy,
targets. Tests give both the same batch and weights and compare losses, gradients and targets.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .sac_parameters import SacParameters

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
# Within the logarithm of the change of variables, as stable-baselines3 has it.
EPSILON = 1e-6


@dataclasses.dataclass(frozen=True)
class Batch:
    """Transitions, (b, ...) float32.

    `obs` and `next_obs` are what the policy takes; `discount` (b,) is what the value of the
    latter counts, 0 where the episode ended with an outcome.
    """

    obs: tuple[Tensor, ...]
    action: Tensor
    reward: Tensor
    next_obs: tuple[Tensor, ...]
    discount: Tensor


# In one pass over all weights.
Adam = functools.partial(torch.optim.Adam, fused=True)


class Sac(nn.Module):
    """Policy, two critics, their targets and the temperature, with their optimisers.

    Args:
        policy: obs -> (mean, log of the standard deviation) of the action before tanh, (b, a).
        critics: two modules, (obs, action) -> value (b,).
    """

    def __init__(
        self, policy: nn.Module, critics: tuple[nn.Module, nn.Module], parameters: SacParameters,
        device: str = "cpu",
    ) -> None:  # fmt: skip
        super().__init__()
        self._own = parameters
        self.policy, self.critics = policy, nn.ModuleList(critics)
        self.targets = copy.deepcopy(self.critics).requires_grad_(False)
        first = torch.tensor(parameters.initial_temperature)
        self.log_temperature = nn.Parameter(torch.log(first))
        self.to(device)
        self.optimizers = {
            "policy": Adam(self.policy.parameters(), parameters.policy_lr),
            "critics": Adam(self.critics.parameters(), parameters.critic_lr),
            "temperature": Adam([self.log_temperature], parameters.temperature_lr),
        }
        self.updates = 0

    def sample(self, obs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return actions (b, a) in -1..1 and the logarithms of their densities (b,)."""
        mean, log_std = self.policy(*obs)
        std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).exp()
        normal = torch.distributions.Normal(mean, std)
        before = normal.rsample()
        action = torch.tanh(before)
        log_prob = normal.log_prob(before) - torch.log(1.0 - action**2 + EPSILON)
        return action, log_prob.sum(dim=1)

    def update(self, batch: Batch) -> dict[str, float]:
        """Learn from one batch; return losses and means by name."""
        temperature = self.log_temperature.detach().exp()
        action, log_prob = self.sample(batch.obs)
        wanted = (log_prob + self._own.target_entropy).detach()
        temperature_loss = -(self.log_temperature * wanted).mean()
        self._step("temperature", temperature_loss)

        target = self.target(batch, temperature)
        values = [critic(batch.obs, batch.action) for critic in self.critics]
        losses = [functional.mse_loss(value, target) for value in values]
        critic_loss = 0.5 * torch.stack(losses).sum()
        self._step("critics", critic_loss)

        # The critics' own gradients are not wanted here, and would take a fifth of the time.
        self.critics.requires_grad_(False)
        value = torch.minimum(*(critic(batch.obs, action) for critic in self.critics))
        policy_loss = (temperature * log_prob - value).mean()
        self._step("policy", policy_loss)
        self.critics.requires_grad_(True)

        with torch.no_grad():
            for new, old in zip(self.critics.parameters(), self.targets.parameters()):
                old.lerp_(new, self._own.tau)
        self.updates += 1
        return {
            "loss/critic": critic_loss.item(), "loss/policy": policy_loss.item(),
            "loss/temperature": temperature_loss.item(), "sac/temperature": temperature.item(),
            "sac/entropy": -log_prob.mean().item(), "sac/value": values[0].mean().item(),
            "sac/target": target.mean().item(), "sac/reward": batch.reward.mean().item(),
        }  # fmt: skip

    @torch.no_grad()
    def target(self, batch: Batch, temperature: Tensor) -> Tensor:
        """Return what the critics should say, (b,)."""
        action, log_prob = self.sample(batch.next_obs)
        value = torch.minimum(*(critic(batch.next_obs, action) for critic in self.targets))
        return batch.reward + batch.discount * (value - temperature * log_prob)

    def _step(self, name: str, loss: Tensor) -> None:
        self.optimizers[name].zero_grad(set_to_none=True)
        loss.backward()
        self.optimizers[name].step()

    def state(self) -> dict[str, Any]:
        """Return all that it takes to go on as if nothing had happened, but the random numbers."""
        return {
            "modules": self.state_dict(), "updates": self.updates,
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        self.load_state_dict(state["modules"])
        for name, optimizer in self.optimizers.items():
            (now,) = [group["lr"] for group in optimizer.param_groups]
            optimizer.load_state_dict(state["optimizers"][name])
            for group in optimizer.param_groups:  # as the parameters say now, not as then
                group["lr"] = now
        self.updates = state["updates"]


class Policy(nn.Module):
    """The actor's branches behind its encoder, with a standard deviation that is not exported.

    Args:
        network: see `network.make_network`; its encoder is not used here.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.body: nn.Module = network.body
        self.trunk: nn.Module = network.head[:-1]
        self.mean: nn.Linear = network.head[-1]
        self.log_std = nn.Linear(self.mean.in_features, self.mean.out_features)

    def forward(self, features: Tensor, coarse: Tensor, proprio: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log of the standard deviation before tanh; `coarse` is the critics'."""
        hidden = self.trunk(features + self.body(proprio))
        return self.mean(hidden), self.log_std(hidden)


class Critic(nn.Module):
    """The value of an action, of features, a coarse grid and the proprioception.

    Layers are normalised, which keeps values of actions that were never tried within bounds
    (Ball et al. 2023, arXiv:2302.02948).
    """

    def __init__(self, inputs: int, width: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, width), nn.LayerNorm(width), nn.ReLU(),
            nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU(),
            nn.Linear(width, 1),
        )  # fmt: skip

    def forward(self, obs: tuple[Tensor, ...], action: Tensor) -> Tensor:
        """Return the values (b,)."""
        return self.layers(torch.cat([*obs, action], dim=1)).squeeze(1)
