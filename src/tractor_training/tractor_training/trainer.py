"""A learner with its replay: chunks in, updates made, actors out."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import logging
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import ACTION_SIZE, Contract
from tractor_core.errors import TractorError
from tractor_core.experience import Chunk
from tractor_core.parameters import param
from tractor_core.robot import Robot

from .export import export, read_weights
from .network import make_network, round_weights
from .replay import COARSE_CELLS, Replay, Transitions
from .reward import DECISION_S, Judge, RewardParameters, Rewards
from .sac_parameters import SacParameters

log = logging.getLogger(__name__)

FEATURES = 256
# What the drivers of NVIDIA and AMD make.
GPUS = ("/dev/nvidia0", "/dev/kfd")
BUILDS = "docs/training.md says how to get a torch for it"
# Of so many sessions the judge remembers what their cameras saw.
SESSIONS = 256


@dataclasses.dataclass(frozen=True)
class LearnerParameters:
    """What it learns from and how much."""

    buffer_size: int = param(
        "Steps that batches are drawn from, the newest.",
        1_000_000,
        minimum=1000,
        maximum=100_000_000,
    )
    learning_starts: int = param(
        "Decisions, of a tenth of a second each, before the first update.",
        1000, minimum=1, maximum=1_000_000,
    )  # fmt: skip
    utd_ratio: float = param(
        "Updates for each decision, of a tenth of a second.", 0.5, minimum=0.001, maximum=100.0
    )
    n_steps: int = param("Decisions that a transition goes over.", 3, minimum=1, maximum=100)
    seed: int = param("Of weights and draws.", 0, minimum=0)


class Trainer:
    """Learns an actor's heads behind the encoder of another.

        trainer = Trainer(contract, robot, encoder=Path("models/sac_actor_reference.onnx"))
        trainer.take(chunk)
        while trainer.due:
            figures = trainer.learn()
        trainer.export(Path("candidate.onnx"))

    Args:
        encoder: an ONNX of the suite's network, whose encoder is kept as it is.
        keep_heads: whether its heads are where learning begins, too.
        own, reward, sac: LearnerParameters, RewardParameters, SacParameters; None: the defaults.
        device: of torch.
    """

    def __init__(
        self, contract: Contract, robot: Robot, encoder: Path, keep_heads: bool = False,
        own: LearnerParameters | None = None, reward: RewardParameters | None = None,
        sac: SacParameters | None = None, device: str = "cpu",
    ) -> None:  # fmt: skip
        import torch

        from .sac import Critics, Policy, Sac

        self._contract, self._robot, self._device = contract, robot, device
        self._own = own = own or LearnerParameters()
        self.buffer_size = own.buffer_size
        self._reward = reward or RewardParameters()
        self._sac_parameters = sac or SacParameters()
        torch.manual_seed(own.seed)
        self._rng = np.random.default_rng(own.seed)
        self._network = make_network(contract)
        fresh = {k: v.clone() for k, v in self._network.state_dict().items()}
        read_weights(self._network, encoder)
        if not keep_heads:
            kept = {k: v for k, v in self._network.state_dict().items() if k.startswith("grid.")}
            self._network.load_state_dict(fresh | kept)
        # Of its weights: a file that says the same in other bytes is the same.
        self.encoder_digest = digest_of(self._network.grid)
        self.encoder = self._network.grid.to(device).eval().requires_grad_(False)
        sizes = FEATURES, COARSE_CELLS**2, contract.proprio_size, ACTION_SIZE
        self.sac = Sac(Policy(self._network), Critics(sizes), self._sac_parameters, device)
        self.replay = Replay(own.buffer_size, contract, self._encode, FEATURES, own.n_steps)
        self.prior: Replay | None = None
        self._judges: collections.OrderedDict[str, Judge] = collections.OrderedDict()
        self.decisions = 0.0

    def take(self, chunk: Chunk) -> Rewards:
        """Add a chunk to what is learnt from; return what it was worth."""
        rewards = self._judge(chunk)
        self.replay.add(chunk, rewards)
        stamps = chunk.rows["stamp_ns"]
        self.decisions += float(stamps[-1] - stamps[0]) * 1e-9 / DECISION_S
        return rewards

    def take_prior(self, chunk: Chunk) -> None:
        """Add a chunk of earlier experience, which makes half of each batch.

        Ball et al. 2023, "Efficient Online Reinforcement Learning with Offline Data"
        (arXiv:2302.02948). It allows no updates of its own.
        """
        if self.prior is None:
            self.prior = Replay(
                self._own.buffer_size, self._contract, self._encode, FEATURES, self._own.n_steps
            )
        self.prior.add(chunk, self._judge(chunk))

    def _judge(self, chunk: Chunk) -> Rewards:
        judge = self._judges.pop(chunk.session, None)
        if judge is None:
            judge = Judge(self._reward, self._contract, self._robot)
        self._judges[chunk.session] = judge
        if len(self._judges) > SESSIONS:
            self._judges.popitem(last=False)
        return judge.rewards(chunk)

    @property
    def due(self) -> int:
        """Updates that the experience so far allows and that are not made yet."""
        if self.decisions < self._own.learning_starts:
            return 0
        return int(self._own.utd_ratio * self.decisions) - self.sac.updates

    def learn(self) -> dict[str, float]:
        """Make one update; return its figures."""
        from .sac import Batch

        batch, gamma = self._sac_parameters.batch_size, self._sac_parameters.gamma
        own = batch if self.prior is None else batch - batch // 2
        drawn = [self.replay.sample(own, gamma, self._rng)]
        if self.prior is not None:
            drawn.append(self.prior.sample(batch - own, gamma, self._rng))
        tensors = [
            self._tensor(np.concatenate([getattr(part, f.name) for part in drawn]))
            for f in dataclasses.fields(Transitions)
        ]
        features, coarse, proprio, action, reward, *then, discount = tensors
        return self.sac.update(
            Batch((features, coarse, proprio), action, reward, tuple(then), discount)
        )

    def state(self) -> dict[str, Any]:
        """Return all that it takes to go on as if nothing had happened, but the experience."""
        import torch

        on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {
            "sac": self.sac.state(), "decisions": self.decisions,
            "draws": self._rng.bit_generator.state, "torch": torch.get_rng_state(),
            "cuda": on_gpu,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from such a state; the experience until then was taken already.

        Raises:
            KeyError, RuntimeError: it is of another network.
        """
        import torch

        self.sac.restore(state["sac"])
        self.decisions = state["decisions"]
        self._rng.bit_generator.state = state["draws"]
        torch.set_rng_state(state["torch"])
        if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
            torch.cuda.set_rng_state_all(state["cuda"])

    def export(self, path: Path, exploration_scale: float | None = None) -> None:
        """Write the averaged actor; it asks rovers that explore for noise of this scale."""
        import copy

        network, average = copy.deepcopy(self._network).cpu().eval(), cast(Any, self.sac.average)
        network.body.load_state_dict(average.body.state_dict())
        network.head[:-1].load_state_dict(average.trunk.state_dict())
        network.head[-1].load_state_dict(average.mean.state_dict())
        round_weights(network)
        export(network, self._contract, path, exploration_scale)

    def _encode(self, grids: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        with torch.no_grad():
            return self.encoder(self._tensor(grids.astype(np.float32))).cpu().numpy()

    def _tensor(self, values: NDArray) -> Any:
        import torch

        return torch.from_numpy(values).to(self._device)


def choose_device(wanted: str, threads: int) -> str:
    """Return what torch computes on, and say it.

    Args:
        wanted: auto, cpu or cuda; ROCm is cuda.
        threads: on a CPU.

    Raises:
        TractorError: cuda is wanted, and torch has none.
    """
    import torch

    torch.set_num_threads(threads)
    if wanted != "cpu" and torch.cuda.is_available():
        log.info("torch %s computes on %s", torch.__version__, torch.cuda.get_device_name())
        return "cuda"
    if wanted == "cuda":
        raise TractorError(
            f"device: expected a GPU, torch {torch.__version__} finds none; {BUILDS}"
        )
    log.info("torch %s computes on the CPU, %d threads", torch.__version__, threads)
    if wanted == "auto" and (unused := [path for path in GPUS if Path(path).exists()]):
        log.warning(
            "THIS MACHINE HAS A GPU (%s) AND TORCH %s DOES NOT USE IT; %s", ", ".join(unused),
            torch.__version__, BUILDS,
        )  # fmt: skip
    return "cpu"


def digest_of(module: Any) -> str:
    """Return the sha256 (hex) of a module's weights."""
    digest = hashlib.sha256()
    for name, values in sorted(module.state_dict().items()):
        digest.update(name.encode() + values.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
