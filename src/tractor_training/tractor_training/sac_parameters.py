"""How soft actor-critic learns; apart from `sac`, so that nothing but learning needs torch."""

from __future__ import annotations

import dataclasses

from tractor_core.parameters import param


@dataclasses.dataclass(frozen=True)
class SacParameters:
    """How it learns."""

    batch_size: int = param("Transitions an update.", 128, minimum=1, maximum=65_536)
    gamma: float = param("Discount of a tenth of a second.", 0.97, minimum=0.0, maximum=0.99999)
    tau: float = param("Share of a new critic in its target.", 0.005, minimum=1e-5, maximum=1.0)
    average_tau: float = param(
        "Share of a new policy in the average that drives; 1: the newest drives.",
        0.005, minimum=1e-5, maximum=1.0,
    )  # fmt: skip
    policy_lr: float = param("Learning rate of the policy.", 3e-4, minimum=1e-7, maximum=1.0)
    critic_lr: float = param("Learning rate of the critics.", 3e-4, minimum=1e-7, maximum=1.0)
    temperature_lr: float = param(
        "Learning rate of the temperature.", 3e-4, minimum=1e-7, maximum=1.0
    )
    initial_temperature: float = param(
        "Temperature at the beginning.", 0.1, minimum=1e-6, maximum=100.0
    )
    target_entropy: float = param(
        "Entropy that the temperature is led to.", -2.0, minimum=-100.0, maximum=100.0
    )
