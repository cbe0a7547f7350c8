"""The card of a candidate: what it learnt from, to which end, and what the gate found."""

from __future__ import annotations

import json
from typing import Any

from .gate import Judgement, Score


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
