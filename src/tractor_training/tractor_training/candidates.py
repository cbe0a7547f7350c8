"""Candidates: judged by the gate, kept with their cards, and named when they pass."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from tractor_core.errors import TractorError
from tractor_core.files import replace_file
from tractor_core.system_error import explain
from tractor_link import offers

from . import gate
from .config import Configuration
from .curves import Curves
from .gate import Judgement, Score
from .learning import MODELS, REFUSED, Learning

log = logging.getLogger(__name__)

CANDIDATES = "candidates.jsonl"


class Candidates:
    """The candidates of a run.

    Args:
        params_file: the shared parameter file.
        encoder: the actor where learning begins.
        curves: get what each reached.
    """

    def __init__(
        self, own: Configuration, learning: Learning, params_file: str, encoder: Path,
        curves: Curves,
    ) -> None:  # fmt: skip
        self._own, self._learning, self._params_file = own, learning, params_file
        self._encoder, self._curves, self._folder = encoder, curves, learning.folder

    @property
    def due(self) -> bool:
        """Whether enough was learnt for another one."""
        trainer, progress = self._learning.trainer, self._learning.progress
        more = trainer.decisions - progress.judged_at
        return trainer.sac.updates > 0 and more >= self._own.gate.every_decisions

    async def judge(self, candidate: Path) -> bool:
        """Judge an exported candidate; where it passes, it becomes the newest version.

        Returns:
            Whether it could be judged and kept.
        """
        learning, progress = self._learning, self._learning.progress
        at, steps = learning.trainer.decisions, progress.steps
        updates = learning.trainer.sac.updates
        progress.judged_at = at
        try:
            best = await self._best()
            score = await gate.measure(candidate, self._params_file, self._own.gate)
            judgement = gate.judge(score, best)
            version = self.next_version(progress.version) if judgement.passed else 0
        except TractorError as error:
            log.error("the candidate at %d updates is not judged: %s", updates, error)
            return False
        name = offers.name_of(version) if version else f"sac_actor_at_{round(at):08d}"
        folder = self._folder / (MODELS if judgement.passed else REFUSED)
        text = candidate_card(name, score, judgement, steps, updates, self._own.as_json())
        try:
            folder.mkdir(exist_ok=True)
            replace_file(folder / f"{name}.md", text)
            replace_file(folder / f"{name}.onnx", candidate.read_bytes())
        except OSError as error:
            log.error("the candidate is not kept: %s", explain(error, folder))
            return False
        self._curves.add({f"gate/{k}": v for k, v in score.figures.items()}, steps)
        log.info("%s %s: %s", name, "passed" if judgement.passed else "refused", judgement.why)
        progress.candidates += 1
        if judgement.passed:
            progress.version, progress.best = version, score.as_json()
            progress.passed += 1
        self._note({
            "name": name, "passed": judgement.passed, "why": judgement.why, "steps": steps,
            "decisions": round(at), "updates": updates, "time": time.time(), **score.figures,
        })  # fmt: skip
        return True

    def _note(self, judged: dict[str, Any]) -> None:
        """Add a line to the list of all that were judged."""
        try:
            with (self._folder / CANDIDATES).open("a") as file:
                file.write(json.dumps(judged) + "\n")
        except OSError as error:
            log.error("%s is not noted: %s", CANDIDATES, explain(error, self._folder))

    async def _best(self) -> Score:
        """Return what the best so far reached: at first where learning began, or standing."""
        progress, own = self._learning.progress, self._own.gate
        if progress.best is not None:
            best = Score.from_json(progress.best)
            if gate.same_worlds(best, gate.standing(own)):
                return best
            log.info("the gate's worlds were changed: the best so far is judged anew")
            model = self._folder / MODELS / f"{offers.name_of(progress.version)}.onnx"
        elif self._own.start.keep_heads:
            model = self._encoder
        else:
            return gate.standing(own)
        return await gate.measure(model, self._params_file, own)

    def next_version(self, last: int) -> int:
        """Return a number that no model of this folder has: what was made is never overwritten.

        Raises:
            TractorError: rovers take none so high.
        """
        version = last + 1
        while (self._folder / MODELS / f"{offers.name_of(version)}.onnx").exists():
            version += 1
        if version > offers.MAX_VERSION:
            raise TractorError(
                f"expected a version up to {offers.MAX_VERSION}, found {last} as the last one: "
                "remove the offer from the stream MODELS",
            )
        return version


def candidate_card(
    name: str, score: Score, judgement: Judgement, steps: int, updates: int,
    configuration: dict[str, Any],
) -> str:  # fmt: skip
    """Return it as Markdown."""
    rows = "\n".join(
        f"| {drive.seed} | {drive.distance_m:.2f} | {drive.collisions} |" for drive in score.drives
    )
    return f"""# {name}

An actor of the suite's own training server: soft actor-critic, from {steps} control steps in
{updates} updates. It is deterministic; inputs and output are those of the observation contract.

The gate: **{"passed" if judgement.passed else "refused"}**. {judgement.why}.
In {len(score.drives)} simulated worlds that training has not seen it drove {score.mean_m:.2f} m a
world, {score.free_runs} of them without touching anything.

| world | m | collisions |
|---|---|---|
{rows}

Simulation says what an actor can do at best: no real sensor, floor or base was in it.

## Configuration

```json
{json.dumps(configuration, indent=1)}
```
"""
