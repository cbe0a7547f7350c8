"""The card of an actor: how it was made, what it reaches, what it does not."""

from __future__ import annotations

from pathlib import Path

from tractor_sim.rollout import Verdict

from .imitation import DAGGER_ROUNDS, DAGGER_WORLDS, IMITATION_WORLDS

REQUIRED_FREE_SHARE, REQUIRED_DISTANCE_SHARE = 0.975, 0.97


def good_enough(actor: Verdict, expert: Verdict) -> bool:
    """Return whether an actor drives as it must: of 40 runs 39 without a collision, and far enough.

    Of fewer than 40 runs none may have one.
    """
    return (
        actor.free_runs >= REQUIRED_FREE_SHARE * actor.runs
        and actor.mean_m >= REQUIRED_DISTANCE_SHARE * expert.mean_m
    )


def card(model: Path, command: str, facts: dict[str, str], actor: Verdict, expert: Verdict) -> str:
    """Return the model's card as Markdown: how it was made, what it reaches, what it does not."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    share = actor.mean_m / expert.mean_m
    figures = "\n".join(
        f"| {driver} | {verdict.free_runs} of {verdict.runs} | {verdict.collisions} "
        f"| {verdict.mean_m:.2f} | {verdict.least_m:.2f}, {verdict.least_world} |"
        for driver, verdict in (("this actor", actor), ("expert", expert))
    )
    return f"""# {model.stem}

A small SAC-style actor for the rover's observation contract, made to have something that drives
before a trained model arrives. It was **not** trained by reinforcement: it imitates a
follow-the-gap expert in the simulator.

## How it was made

```
{command}
```

| | |
|---|---|
{rows}

The expert sees an exact scan that includes low obstacles and overhangs; the actor sees only the
grid and the proprioception. First it imitates the expert in {IMITATION_WORLDS} worlds that are
disturbed by bursts of random commands, then in {DAGGER_ROUNDS} rounds it drives {DAGGER_WORLDS}
worlds itself and learns the expert's answers (DAgger). Losses and numbers are in
`src/tractor_training/tractor_training/imitation.py`.

The network is made for INT8: `src/tractor_training/tractor_training/network.py` describes it.
Inputs `bev` (1, 2, 128, 128) and `proprio` (1, 6) normalised; output `action` (1, 2), the left and
right track.

## What it reaches

{actor.runs} worlds that training has not seen, {actor.seconds:g} s each at 30 Hz, with the full
848x100 depth image (the floor is in it), the scan at 10 Hz, sensor noise, dropouts and slip.

| driver | runs without a collision | collisions | mean, m | least, m, and its world |
|---|---|---|---|---|
{figures}

The actor drives {share:.1%} of the expert's mean distance. Required are
{REQUIRED_FREE_SHARE:.1%} of the runs without a collision and {REQUIRED_DISTANCE_SHARE:.1%} of the
expert's distance: {"reached" if good_enough(actor, expert) else "**not reached**"}. Measure it
again with `python -m tractor_sim rollout --model {model.name}`, and the expert with `--expert`.

## What it does not cover

- It has never been on a real rover, nor seen a real sensor.
- The floor is flat and the mounting is exactly the one in `config/sac_rover.yaml`; pitch and roll
  of the body, moving obstacles, glass, ledges, stairs and slopes are not simulated.
- It has no memory. A low obstacle that has left the camera's view is forgotten; the camera looks
  forward only, so what is low beside or behind the rover is never seen.
- It wanders and avoids; it has no goal. Where it got stuck, the least distance above shows it.
- One seed and one set of worlds were judged; other seeds may reach less.
"""
