"""A learner with its replay: chunks in, updates made, actors out."""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import Contract
from tractor_core.experience import Chunk
from tractor_core.parameters import param
from tractor_core.robot import Robot

from .export import export, read_weights
from .network import make_network, round_weights
from .replay import COARSE_CELLS, Replay
from .reward import DECISION_S, Judge, RewardParameters

FEATURES = 256
# Of so many sessions the judge remembers what their cameras saw.
SESSIONS = 256


@dataclasses.dataclass(frozen=True)
class LearnerParameters:
    """What it learns from and how much."""

    replay_steps: int = param(
        "Steps that it draws from, the newest.", 1_000_000, minimum=1000, maximum=100_000_000
    )
    first_steps: int = param(
        "Seconds of experience before the first update, in tenths.",
        1000, minimum=1, maximum=1_000_000,
    )  # fmt: skip
    updates_a_decision: float = param(
        "Updates for each tenth of a second of experience.", 0.5, minimum=0.001, maximum=100.0
    )
    seed: int = param("Of weights and draws.", 0, minimum=0)


class Trainer:
    """Learns an actor's heads behind the encoder of another.

        trainer = Trainer(contract, robot, encoder=Path("models/sac_actor_reference.onnx"))
        trainer.take(chunk)
        figures = trainer.learn()
        trainer.export(Path("candidate.onnx"))

    Args:
        encoder: an ONNX of the suite's network, whose encoder is kept as it is.
        heads: whether its heads are where learning begins, too.
        own, reward, sac: LearnerParameters, RewardParameters, SacParameters; None: the defaults.
        device: of torch.
    """

    def __init__(
        self, contract: Contract, robot: Robot, encoder: Path, heads: bool = False,
        own: LearnerParameters | None = None, reward: RewardParameters | None = None,
        sac: Any = None, device: str = "cpu",
    ) -> None:  # fmt: skip
        import torch

        from .sac import Critic, Policy, Sac, SacParameters

        self._contract, self._robot, self._device = contract, robot, device
        self._own = own = own or LearnerParameters()
        self._reward = reward or RewardParameters()
        self._sac_parameters = sac or SacParameters()
        torch.manual_seed(own.seed)
        self._rng = np.random.default_rng(own.seed)
        self._network = make_network(contract)
        fresh = {k: v.clone() for k, v in self._network.state_dict().items()}
        read_weights(self._network, encoder)
        if not heads:
            kept = {k: v for k, v in self._network.state_dict().items() if k.startswith("grid.")}
            self._network.load_state_dict(fresh | kept)
        self._encoder = self._network.grid.to(device).eval().requires_grad_(False)
        inputs = FEATURES + COARSE_CELLS**2 + contract.proprio_size + 2
        self.sac = Sac(
            Policy(self._network), (Critic(inputs), Critic(inputs)), self._sac_parameters, device
        )
        self.replay = Replay(own.replay_steps, contract, self._encode, FEATURES)
        self._judges: collections.OrderedDict[str, Judge] = collections.OrderedDict()
        self.decisions = 0.0

    def take(self, chunk: Chunk) -> None:
        """Add a chunk to what is learnt from."""
        judge = self._judges.pop(chunk.session, None)
        if judge is None:
            judge = Judge(self._reward, self._contract, self._robot)
        self._judges[chunk.session] = judge
        if len(self._judges) > SESSIONS:
            self._judges.popitem(last=False)
        self.replay.add(chunk, judge.rewards(chunk))
        stamps = chunk.rows["stamp_ns"]
        self.decisions += float(stamps[-1] - stamps[0]) * 1e-9 / DECISION_S

    @property
    def due(self) -> int:
        """Updates that the experience so far allows and that are not made yet."""
        if self.decisions < self._own.first_steps:
            return 0
        return int(self._own.updates_a_decision * self.decisions) - self.sac.updates

    def learn(self) -> dict[str, float]:
        """Make one update; return its figures."""
        from .sac import Batch

        drawn = self.replay.draw(self._sac_parameters.batch, self._sac_parameters.gamma, self._rng)
        tensors = [self._tensor(getattr(drawn, f.name)) for f in dataclasses.fields(drawn)]
        features, coarse, proprio, action, reward, *then, discount = tensors
        return self.sac.update(
            Batch((features, coarse, proprio), action, reward, tuple(then), discount)
        )

    def export(self, path: Path) -> None:
        """Write the actor as it is now, without noise."""
        import copy

        network = copy.deepcopy(self._network).cpu().eval()
        round_weights(network)
        export(network, self._contract, path)

    def _encode(self, grids: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        with torch.no_grad():
            return self._encoder(self._tensor(grids.astype(np.float32))).cpu().numpy()

    def _tensor(self, values: NDArray) -> Any:
        import torch

        return torch.from_numpy(values).to(self._device)
