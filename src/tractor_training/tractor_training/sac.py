"""Soft actor-critic with automatic temperature (Haarnoja et al. 2018, arXiv:1812.05905).

    learner = Sac(policy, Critics((256, 1024, 6, 2)), SacParameters(), device="cpu")
    figures = learner.update(batch)

An update is in the order of stable-baselines3, which is its oracle: temperature, critics, policy,
targets. Tests give both the same batch and weights and compare losses, gradients and targets.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tractor_core.errors import TractorError

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
    """Policy, critics, their targets and the temperature, with their optimisers.

    `average` follows the policy as the targets follow the critics, and is what is to drive: from
    one update to the next a policy swings by more than it learns (Polyak and Juditsky 1992).

    Args:
        policy: obs -> (mean, log of the standard deviation) of the action before tanh, (b, a).
        critics: (obs, action) -> their values (critics, b).
    """

    def __init__(
        self, policy: nn.Module, critics: nn.Module, parameters: SacParameters, device: str = "cpu"
    ) -> None:
        super().__init__()
        self._own = parameters
        self.policy, self.critics = policy, critics
        self.targets = copy.deepcopy(self.critics).requires_grad_(False)
        self.average = copy.deepcopy(self.policy).requires_grad_(False)
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
        normal = torch.distributions.Normal(mean, std, validate_args=False)
        before = normal.rsample()
        action = torch.tanh(before)
        log_prob = normal.log_prob(before) - torch.log(1.0 - action**2 + EPSILON)
        return action, log_prob.sum(dim=1)

    def update(self, batch: Batch) -> dict[str, float]:
        """Learn from one batch; return losses and means by name.

        Raises:
            TractorError: one of them is not finite; weights are not to be saved then.
        """
        temperature = self.log_temperature.detach().exp()
        action, log_prob = self.sample(batch.obs)
        wanted = (log_prob + self._own.target_entropy).detach()
        temperature_loss = -(self.log_temperature * wanted).mean()
        self._step("temperature", temperature_loss)

        target = self.target(batch, temperature)
        values = self.critics(batch.obs, batch.action)
        critic_loss = 0.5 * ((values - target) ** 2).mean(dim=1).sum()
        self._step("critics", critic_loss)

        # The critics' own gradients are not wanted here, and would take a fifth of the time.
        self.critics.requires_grad_(False)
        value = self.critics(batch.obs, action).amin(dim=0)
        policy_loss = (temperature * log_prob - value).mean()
        self._step("policy", policy_loss)
        self.critics.requires_grad_(True)

        self.updates += 1
        _lead(self.targets, self.critics, self._own.tau)
        # At first the mean of all: what it begins with is soon forgotten.
        _lead(self.average, self.policy, max(self._own.average_tau, 1.0 / (1.0 + self.updates)))
        figures = {
            "loss/critic": critic_loss, "loss/policy": policy_loss,
            "loss/temperature": temperature_loss, "sac/temperature": temperature,
            "sac/entropy": -log_prob.mean(), "sac/value": values[0].mean(),
            "sac/target": target.mean(), "sac/reward": batch.reward.mean(),
        }  # fmt: skip
        # A GPU is waited for once.
        numbers = torch.stack([figure.detach() for figure in figures.values()]).tolist()
        found = dict(zip(figures, numbers))
        if not all(map(math.isfinite, numbers)):
            raise TractorError(f"learning: expected finite numbers, found {found}")
        return found

    @torch.no_grad()
    def target(self, batch: Batch, temperature: Tensor) -> Tensor:
        """Return what the critics should say, (b,)."""
        action, log_prob = self.sample(batch.next_obs)
        value = self.targets(batch.next_obs, action).amin(dim=0)
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


@torch.no_grad()
def _lead(follower: nn.Module, leader: nn.Module, share: float) -> None:
    torch._foreach_lerp_([*follower.parameters()], [*leader.parameters()], share)


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


class Critics(nn.Module):
    """The values of an action, by critics that are computed together: half of the operations.

    Layers are normalised, which keeps values of actions that were never tried within bounds
    (Ball et al. 2023, arXiv:2302.02948). The first one is a sum over the parts of what is seen and
    the action: where the action alone is to be changed, no gradient goes to the rest.

    Args:
        sizes: of the parts of an observation and, at the end, of the action.
        count: critics.
        width: of both hidden layers.
    """

    def __init__(self, sizes: tuple[int, ...], count: int = 2, width: int = 256) -> None:
        super().__init__()
        # As nn.Linear begins, for each critic one over all parts.
        layers = [
            [nn.Linear(before, after) for _ in range(count)]
            for before, after in ((sum(sizes), width), (width, width), (width, 1))
        ]
        first, second, last = (
            torch.stack([layer.weight.detach() for layer in row]) for row in layers
        )
        biases = [torch.stack([layer.bias.detach() for layer in row]) for row in layers]
        parts = first.flatten(0, 1).split(sizes, dim=1)
        self.first = nn.ParameterList(part.contiguous() for part in parts)
        self.second, self.last = (
            nn.Parameter(second.mT.contiguous()),
            nn.Parameter(last.mT.contiguous()),
        )
        self.biases = nn.ParameterList([biases[0], biases[1][:, None], biases[2][:, None]])
        self.scales = nn.ParameterList(torch.ones(count, 1, width) for _ in range(2))
        self.shifts = nn.ParameterList(torch.zeros(count, 1, width) for _ in range(2))

    def forward(self, obs: tuple[Tensor, ...], action: Tensor) -> Tensor:
        """Return the values (critics, b)."""
        count, width = self.biases[0].shape
        sums = self.biases[0].flatten()
        for part, weight in zip((*obs, action), self.first, strict=True):
            sums = torch.addmm(sums, part, weight.T)
        hidden = self._activated(sums.view(-1, count, width).transpose(0, 1), 0)
        hidden = self._activated(torch.baddbmm(self.biases[1], hidden, self.second), 1)
        return torch.baddbmm(self.biases[2], hidden, self.last).squeeze(2)

    def _activated(self, sums: Tensor, layer: int) -> Tensor:
        normal = functional.layer_norm(sums, sums.shape[-1:])
        return functional.relu(torch.addcmul(self.shifts[layer], normal, self.scales[layer]))
