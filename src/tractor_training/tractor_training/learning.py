"""All that was learnt and from what, in a folder from which a killed learner goes on the same way.

| in the folder | |
|---|---|
| `chunks/` | the experience, in the order in which it is learnt from |
| `checkpoint.pt` | weights, targets, optimisers, temperature, random numbers; up to which chunk |
| `run.json` | configuration, versions of the libraries, commit, seed |
| `models/`, `refused/` | candidates that passed the gate, and that did not, each with its card |
| `candidates.jsonl` | a line for each of them: when, after how much, and what it reached |
| `latest.onnx` | the averaged actor of now, judged by nobody; simulated rovers explore with it |
| `tensorboard/` | curves |

All updates that a chunk allows are made before the next one is taken: what is learnt depends on the
order of the chunks alone, and not on when they came or who was killed.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import io
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from tractor_core import experience
from tractor_core.contract import Contract
from tractor_core.errors import ExperienceError, TractorError
from tractor_core.files import lock, replace_file
from tractor_core.robot import Robot
from tractor_core.text import printable

from .chunk_log import ChunkLog
from .config import Configuration
from .replay import by_policy
from .trainer import Trainer

log = logging.getLogger(__name__)

CHECKPOINT, CHUNKS, LOCK, RUN = "checkpoint.pt", "chunks", "lock", "run.json"
MODELS, REFUSED = "models", "refused"
FORMAT = 2
# Read again before those that are drawn from: the judge remembers what was seen before.
MEMORY_STEPS = 10_000
# Between two looks at whether to end; a second or so.
UPDATES_AT_ONCE = 20


class FolderUsedError(TractorError):
    """Another trainer has the folder."""


@dataclasses.dataclass
class Progress:
    """What else a learner must remember.

    Attributes:
        steps: control steps that were learnt from.
        updates: made until then.
        last: id of the chunk that was learnt from last; empty before the first.
        version: of the last model that passed the gate.
        best: what that reached there, see `gate.Score.as_json`; None before the first.
        judged_at: decisions at the last candidate.
        candidates, passed: how many were judged, and passed.
    """

    steps: int = 0
    updates: int = 0
    last: str = ""
    version: int = 0
    best: dict[str, Any] | None = None
    judged_at: float = 0.0
    candidates: int = 0
    passed: int = 0


class Learning:
    """A trainer with its experience on disk; one at a time has the folder.

        learning = Learning(folder, configuration, contract, robot, encoder)
        learning.add([data])  # durable when it returns
        while learning.step(): ...
        learning.save()

    Args:
        encoder: see `Trainer`.
        device: of torch.

    Raises:
        FolderUsedError: another trainer has the folder.
        TractorError: its checkpoint is of another contract or encoder or is damaged, or the encoder
            cannot be used.
        OSError: the folder cannot be read or written.

    Attributes:
        figures: of the last update, by name.
    """

    def __init__(
        self, folder: Path, configuration: Configuration, contract: Contract, robot: Robot,
        encoder: Path, device: str = "cpu",
    ) -> None:  # fmt: skip
        self.folder, self.contract = folder, contract
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = locked(folder)
        own = configuration
        self.trainer = Trainer(
            contract, robot, encoder, own.start.keep_heads, own.learner, own.reward,
            own.sac, device,
        )  # fmt: skip
        # What a checkpoint must agree with; a changed reward judges all experience anew.
        self._made_for = {"contract": contract.digest, "encoder": self.trainer.encoder_digest}
        self._reward = own.reward.digest
        self.progress = Progress()
        self.figures: dict[str, float] = {}
        self.terms: collections.deque[dict[str, float]] = collections.deque(maxlen=100)
        self._log = ChunkLog(folder / CHUNKS, round(own.server.chunks_max_gb * 1e9))
        self._seen: set[str] = set()
        # As files: unpacked they take forty times the memory.
        self._pending: collections.deque[bytes] = collections.deque()
        if own.start.experience:
            self._take_prior(Path(own.start.experience))
        self._restore()

    def close(self) -> None:
        """Let another have the folder; `save` before."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def waiting(self) -> int:
        """Chunks that were added and not learnt from yet."""
        return len(self._pending)

    def add(self, chunks: list[bytes]) -> list[str | None]:
        """Add chunks of anybody; they survive a loss of power when this returns.

        Returns:
            Of each why it cannot be learnt from, or None; one that was there already is fine.

        Raises:
            OSError: the disk takes none; nothing was added.
        """
        whys: list[str | None] = []
        new: dict[str, bytes] = {}
        for data in chunks:
            try:
                chunk = experience.parse(data, self.contract)
            except ExperienceError as error:
                whys.append(str(error))
                continue
            whys.append(None)
            if chunk.id not in self._seen:
                new.setdefault(chunk.id, data)
        self._log.append([*new.values()])
        self._seen |= set(new)
        self._pending += new.values()
        return whys

    def step(self) -> bool:
        """Make some of the updates that are due, or else take the next chunk.

        Returns:
            Whether there was anything to do.
        """
        if self.trainer.due > 0:
            for _ in range(min(self.trainer.due, UPDATES_AT_ONCE)):
                self.figures = self.trainer.learn()
            self.progress.updates = self.trainer.sac.updates
            return True
        if not self._pending:
            return False
        chunk = experience.parse(self._pending.popleft(), self.contract)
        rewards = self.trainer.take(chunk)
        self.progress.steps += len(chunk)
        self.progress.last = chunk.id
        evaluates = by_policy(chunk)
        said = {f"reward/{name}": float(values.mean()) for name, values in rewards.terms.items()}
        for name, chosen in (("policy", evaluates), ("exploring", ~evaluates)):
            if chosen.any():
                said[f"reward of {name}"] = float(rewards.total[chosen].mean())
        self.terms.append(said)
        return True

    def save(self) -> None:
        """Write the checkpoint, whole or not at all.

        Raises:
            OSError: the folder cannot be written.
        """
        import torch

        state = {
            "format": FORMAT, "made_for": self._made_for, "reward": self._reward,
            "progress": json.dumps(dataclasses.asdict(self.progress)),
            "trainer": self.trainer.state(),
        }  # fmt: skip
        data = io.BytesIO()
        torch.save(state, data)
        replace_file(self.folder / CHECKPOINT, data.getvalue())

    def export(self, path: Path, exploration_scale: float) -> None:
        """Write the averaged actor, whole or not at all."""
        temporary = path.with_suffix(".tmp.onnx")
        self.trainer.export(temporary, exploration_scale)
        temporary.replace(path)

    def _restore(self) -> None:
        state = read_checkpoint(self.folder / CHECKPOINT)
        if state is not None:
            self._require_same(state["made_for"])
            self.progress = Progress(**json.loads(state["progress"]))
            if state["reward"] != self._reward:
                log.warning("the reward was changed: all experience is judged anew")
        started_s = time.monotonic()
        skipped, learnt = self._look_through()
        count = 0
        for number, data in enumerate(self._log):
            if number >= learnt:
                self._pending.append(data)
            elif number >= skipped:
                with contextlib.suppress(ExperienceError):  # which was said
                    self.trainer.take(experience.parse(data, self.contract))
                    count += 1
        if state is not None:
            self._restore_trainer(state)
        if count:
            took_s = time.monotonic() - started_s
            log.info("%d chunks of experience read again in %.0f s", count, took_s)

    def _look_through(self) -> tuple[int, int]:
        """Note the ids of the log; return how many of its chunks are too old, and are learnt from.

        Of those that were learnt from only the newest are drawn from still.
        """
        steps: list[int] = []
        learnt = 0
        for number, data in enumerate(self._log):
            try:
                chunk = experience.describe(data)
            except ExperienceError as error:
                log.warning("a chunk of %s is left out: %s", CHUNKS, error)
                steps.append(0)
                continue
            self._seen.add(chunk.id)
            steps.append(chunk.steps)
            if chunk.id == self.progress.last:
                learnt = number + 1
        if self.progress.last and not learnt:
            log.warning("the chunk that was learnt from last is not there: all count as learnt")
            learnt = len(steps)
        skipped, kept = learnt, 0
        while skipped and kept < self.trainer.buffer_size + MEMORY_STEPS:
            skipped -= 1
            kept += steps[skipped]
        return skipped, learnt

    def _require_same(self, made_for: dict[str, str]) -> None:
        for name, wanted in self._made_for.items():
            found = made_for.get(name)
            if found != wanted:
                raise TractorError(
                    f"expected a checkpoint of {name} {wanted}, found one of {found}: what was "
                    "learnt fits no other; --fresh begins anew, and keeps it aside",
                    self.folder / CHECKPOINT,
                )

    def _restore_trainer(self, state: dict[str, Any]) -> None:
        try:
            self.trainer.restore(state["trainer"])
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise TractorError(
                f"expected a checkpoint of this version of the suite, found another ({error}): "
                "--fresh begins anew, and keeps it aside",
                self.folder / CHECKPOINT,
            ) from error

    def _take_prior(self, folder: Path) -> None:
        count = 0
        for path in files_of(folder):
            try:
                self.trainer.take_prior(experience.read(path, self.contract))
                count += 1
            except ExperienceError as error:
                log.warning("left out: %s", error)
        if not count:
            raise TractorError("expected chunks of experience of this contract, found none", folder)
        log.info("%d chunks of %s make half of each batch", count, printable(folder))


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return the state in a checkpoint, or None where there is none.

    Raises:
        TractorError: it is damaged, or of another format.
    """
    import torch

    if not path.exists():
        return None
    try:
        # weights_only: a checkpoint of others runs no code.
        state = torch.load(path, map_location="cpu", weights_only=True)
        number = state["format"]
        dict(state["made_for"]), Progress(**json.loads(state["progress"]))
    except Exception as error:  # torch raises what the damage makes of it
        text = printable(str(error).split("\n")[0])[:200]
        raise TractorError(
            f"expected a checkpoint, found a damaged one ({text}): --fresh begins anew, and keeps "
            "it aside",
            path,
        ) from error
    if number != FORMAT:
        raise TractorError(
            f"expected a checkpoint of format {FORMAT}, found {number}: --fresh begins anew, and "
            "keeps it aside",
            path,
        )
    return state


def progress_of(folder: Path) -> Progress:
    """Return what a checkpoint says of its run, which another may go on with.

    Raises:
        TractorError: it is damaged, or there is none.
    """
    state = read_checkpoint(folder / CHECKPOINT)
    if state is None:
        raise TractorError("expected a checkpoint, found none", folder)
    return Progress(**json.loads(state["progress"]))


def files_of(folder: Path) -> list[Path]:
    """Return the chunks of a folder and of those below, in the order of their names."""
    return sorted(folder.rglob(f"*{experience.SUFFIX}"), key=lambda path: path.name)


def locked(folder: Path) -> int:
    """Return the descriptor of a run's lock; raises FolderUsedError where another has it."""
    try:
        return lock(folder / LOCK)
    except BlockingIOError as error:
        raise FolderUsedError("another trainer uses this folder: end it first", folder) from error
