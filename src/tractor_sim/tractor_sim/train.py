"""Makes the reference actor: imitation of the expert in the simulator, then DAgger.

`python -m tractor_sim.train --seed 0 --out models/sac_actor_reference.onnx` trains, exports, judges
in closed loop and writes the model's card beside it. DAgger: Ross, Gordon and Bagnell, "A Reduction
of Imitation Learning and Structured Prediction to No-Regret Online Learning", AISTATS 2011.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import itertools
import logging
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_core import cli as commands
from tractor_core.contract import (
    ACTION_OUTPUT,
    BEV_INPUT,
    PROPRIO_INPUT,
    Contract,
    normalize,
)
from tractor_core.errors import ContractError, SensorError, TractorError
from tractor_core.files import replace_file
from tractor_core.kinematics import action_to_velocity
from tractor_core.observation import Observation
from tractor_core.system_error import explain
from tractor_core.text import printable, printable_message
from tractor_inference.backends import open_backend
from tractor_inference.policy import Policy

from .expert import Expert
from .rollout import (
    CONTROL_HZ,
    FIRST_UNSEEN_SEED,
    SCAN_EVERY_TICKS,
    Senses,
    Setup,
    Verdict,
    in_processes,
    judge,
    summary,
)
from .simulation import Simulation

IMITATION_WORLDS, DAGGER_WORLDS, DAGGER_ROUNDS = 120, 80, 4
IMITATION_FRAMES, DAGGER_FRAMES = 100, 200
IMITATION_TICKS, DAGGER_TICKS = 6, 3
IMITATION_STEPS, DAGGER_STEPS, LAST_STEPS = 600, 400, 600
# Random commands, half a second to one and a half, lead to where the expert would never go.
BURST_RATE, BURST_TICKS = 0.006, (10, 45)
BATCH = 128
IMITATION_RATE, DAGGER_RATE = 7e-4, 5e-4
LABEL_LIMIT = 0.95
LOSS_BETA = 0.3
TURNING_WEIGHT = 3.0
ACTION_NOISE, ACTION_NOISE_SHARE = 0.5, 0.25
SEEDS_A_RUN = 10_000
REQUIRED_FREE_SHARE, REQUIRED_DISTANCE_SHARE = 0.95, 0.85

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Frames:
    """Observations with the expert's answers.

    `bev` is (n, 4096) uint8, the grids with eight cells a byte; `proprio` (n, 6) float32 raw;
    `label` (n, 2) float32 track commands.
    """

    bev: NDArray[np.uint8]
    proprio: NDArray[np.float32]
    label: NDArray[np.float32]

    @classmethod
    def join(cls, parts: list[Frames]) -> Frames:
        """Return all frames of the parts in order."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclasses.dataclass(frozen=True)
class Collection:
    """One world to collect from; `model` None lets a varied expert drive, else the actor does."""

    seed: int
    params_file: str
    model: str | None


def collect(task: Collection) -> Frames:
    """Drive one world, with bursts of random commands, and label what is seen with the expert."""
    setup = Setup.load(task.params_file)
    rng = np.random.default_rng([task.seed, 7])
    simulation = Simulation(task.seed, setup.robot)
    senses = Senses(simulation, setup, int(rng.integers(SCAN_EVERY_TICKS)))
    teacher = Expert(setup.robot)
    varied = Expert(setup.robot, margin_m=float(rng.uniform(0.02, 0.25)))
    policy = None
    if task.model is not None:
        backend = open_backend("onnx", Path(task.model), setup.contract)
        policy = Policy(setup.contract, setup.robot, backend)
    period = IMITATION_TICKS if policy is None else DAGGER_TICKS
    count = IMITATION_FRAMES if policy is None else DAGGER_FRAMES
    grids, vectors, labels = [], [], []
    action = np.zeros(2, np.float32)
    burst_ticks, burst_action = 0, action
    for tick in range(count * period):
        senses.tick()
        last_turn = float(action[1] - action[0]) / 2
        if burst_ticks > 0:
            burst_ticks -= 1
        elif rng.random() < BURST_RATE:
            burst_ticks = int(rng.integers(*BURST_TICKS))
            burst_action = rng.uniform(-1.0, 1.0, 2).astype(np.float32)
            if rng.random() < 0.7:
                burst_action = np.clip(burst_action + 0.5, -1.0, 1.0)
        if tick % period == 0:
            seen = _seen(senses)
            if seen is not None:
                grids.append(np.packbits(seen.bev.astype(bool)))
                vectors.append(seen.proprio)
                labels.append(teacher.act(simulation.privileged_scan(), last_turn))
            if policy is not None:
                # As on the rover: without an observation it stands.
                action = np.zeros(2, np.float32) if seen is None else policy.step(seen).action
        if burst_ticks > 0:
            action = burst_action
        elif policy is None:
            action = varied.act(simulation.privileged_scan(), last_turn)
        senses.executed(action)
        velocity = action_to_velocity(action, setup.contract, setup.robot)
        simulation.step(velocity.linear, velocity.angular, 1.0 / CONTROL_HZ)
    return Frames(np.array(grids), np.array(vectors), np.array(labels))


def _seen(senses: Senses) -> Observation | None:
    try:
        return senses.observe()
    except SensorError:  # nothing is learnt from what the rover does not see
        return None


def make_network(contract: Contract) -> Any:
    """Return the actor: bev (n, 2, 128, 128), proprio (n, 6) normalised -> action before tanh.

    Four stride-2 convolutions 2->32->64->64->64 give 8 x 8 x 64 = 4096 features; joined with a
    32-32 proprio branch they go through 256-128-2.
    """
    from torch import nn

    class Actor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = (contract.bev_shape[0], 32, 64, 64, 64)
            layers: list[nn.Module] = []
            for before, after in itertools.pairwise(widths):
                layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
            self.grid = nn.Sequential(*layers, nn.Flatten())
            self.body = nn.Sequential(
                nn.Linear(contract.proprio_size, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()
            )
            features = widths[-1] * (contract.grid_cells // 16) ** 2 + 32
            self.head = nn.Sequential(
                nn.Linear(features, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(),
                nn.Linear(128, 2),
            )  # fmt: skip

        def forward(self, bev: Any, proprio: Any) -> Any:
            import torch

            return self.head(torch.cat([self.grid(bev), self.body(proprio)], dim=1))

    return Actor()


def fit(
    network: Any, frames: Frames, contract: Contract, steps: int, rate: float, seed: int
) -> None:
    """Train the network in place on the expert's answers.

    The loss is on the output before tanh, against atanh of the label: on the output itself a
    constant near full speed already looks good. Large errors count by their size, not its square:
    where left and right are both good answers, squares teach the way between them, which collides.
    Half of every batch is mirrored left to right; a quarter of the previous actions are noisy, or
    the network would only repeat them; more noise would make it forget which way it was turning.
    """
    import torch

    rng = np.random.default_rng([seed, len(frames.label)])
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for step in range(steps):
        bev, proprio, label = _batch(frames, contract, rng)
        weight = 1.0 + (TURNING_WEIGHT - 1.0) * (np.abs(label[:, 0] - label[:, 1]) > 0.2)
        target = np.arctanh(np.clip(label, -LABEL_LIMIT, LABEL_LIMIT))
        answer = network(
            torch.from_numpy(bev).to(memory_format=torch.channels_last), torch.from_numpy(proprio)
        )
        error = torch.nn.functional.smooth_l1_loss(
            answer, torch.from_numpy(target), reduction="none", beta=LOSS_BETA
        ).mean(dim=1)
        loss = (error * torch.from_numpy(weight.astype(np.float32))).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            spread = torch.tanh(answer.detach()).std(dim=0).tolist()
            log.info("step %d: loss %.4f, action spread %.2f %.2f", step + 1, loss.item(), *spread)
    network.eval()


def _batch(
    frames: Frames, contract: Contract, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    chosen = rng.integers(len(frames.label), size=BATCH)
    bev = np.unpackbits(frames.bev[chosen], axis=1).reshape(BATCH, *contract.bev_shape)
    proprio, label = frames.proprio[chosen], frames.label[chosen].copy()
    mirrored = rng.random(BATCH) < 0.5
    bev[mirrored] = bev[mirrored, :, :, ::-1]
    proprio[mirrored] = mirror(proprio[mirrored])
    label[mirrored] = label[mirrored, ::-1]
    proprio = normalize(contract, proprio)
    noise = ACTION_NOISE * rng.standard_normal((BATCH, 2))
    proprio[:, 1:3] += noise * (rng.random((BATCH, 1)) < ACTION_NOISE_SHARE)
    limit = contract.proprio_clip
    return bev.astype(np.float32), np.clip(proprio, -limit, limit), label


def mirror(proprio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return raw vectors (n, 6) as seen in a mirror: tracks swapped, turn and gap negated."""
    swapped = proprio[:, [0, 2, 1, 3, 4, 5]]
    swapped[:, 4:] *= -1.0
    return swapped


def export(network: Any, contract: Contract, path: Path) -> None:
    """Write the network with its tanh as ONNX, inputs and output named as the contract says."""
    import torch

    class WithTanh(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, bev: Any, proprio: Any) -> Any:
            return torch.tanh(self.network(bev, proprio))

    examples = tuple(torch.zeros(shape) for shape in contract.input_shapes.values())
    with warnings.catch_warnings():
        # The older exporter is announced to go, but it needs nothing beyond torch and onnx.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            WithTanh().eval(), examples, str(path), dynamo=False, opset_version=13,
            input_names=[BEV_INPUT, PROPRIO_INPUT], output_names=[ACTION_OUTPUT],
        )  # fmt: skip


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step.

    Giving the activations of each step back to the system and faulting them in again costs more
    than 40 % of the time (measured: 33 s against 19 s a hundred steps).
    """
    c_library = ctypes.CDLL(None)
    if hasattr(c_library, "mallopt"):
        m_trim_threshold, m_mmap_max = -1, -4  # malloc.h
        c_library.mallopt(m_mmap_max, 0)
        c_library.mallopt(m_trim_threshold, 2**31 - 1)


def train(out: Path, params_file: str, seed: int, processes: int) -> int:
    """Make the actor and write it to `out`; return the number of frames it has learnt from.

    Raises:
        ContractError: the parameter file asks for another action space than tracks.
    """
    import torch

    setup = Setup.load(params_file)
    if setup.contract.action_space != "tracks":
        raise ContractError(
            "action_space: the expert answers in tracks, so the reference actor needs 'tracks', "
            f"found {setup.contract.action_space!r}"
        )
    keep_freed_memory()
    torch.manual_seed(seed)
    torch.set_num_threads(processes)
    network = make_network(setup.contract).to(memory_format=torch.channels_last)
    parts: list[Frames] = []
    first_seed = seed * SEEDS_A_RUN
    with tempfile.TemporaryDirectory() as folder:
        student = Path(folder) / "student.onnx"
        for round_index in range(1 + DAGGER_ROUNDS):
            imitation = round_index == 0
            worlds = IMITATION_WORLDS if imitation else DAGGER_WORLDS
            model = None if imitation else str(student)
            tasks = [Collection(first_seed + i, params_file, model) for i in range(worlds)]
            first_seed += worlds
            log.info("round %d: driving %d worlds, some minutes", round_index, worlds)
            parts += in_processes(collect, tasks, processes)
            frames = Frames.join(parts)
            log.info("round %d: %d frames in all", round_index, len(frames.label))
            if imitation:
                fit(network, frames, setup.contract, IMITATION_STEPS, IMITATION_RATE, seed)
            else:
                steps = LAST_STEPS if round_index == DAGGER_ROUNDS else DAGGER_STEPS
                fit(network, frames, setup.contract, steps, DAGGER_RATE, seed)
            export(network, setup.contract, student)
        out.write_bytes(student.read_bytes())
    return len(frames.label)


def good_enough(actor: Verdict, expert: Verdict) -> bool:
    """Return whether an actor drives as it must: free of collisions, and far enough."""
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
        f"| {verdict.mean_m:.2f} | {verdict.least_m:.2f} |"
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
`src/tractor_sim/tractor_sim/train.py`.

Architecture: four stride-2 convolutions 2->32->64->64->64 (4096 features), a 32-32 branch for the
proprioception, then 256-128-2 and tanh. Inputs `bev` (1, 2, 128, 128) and `proprio` (1, 6)
normalised; output `action` (1, 2), the left and right track.

## What it reaches

{actor.runs} worlds that training has not seen, {actor.seconds:g} s each at 30 Hz, with the full
848x100 depth image (the floor is in it), the scan at 10 Hz, sensor noise, dropouts and slip.

| driver | runs without a collision | collisions | mean, m | least, m |
|---|---|---|---|---|
{figures}

The actor drives {100 * share:.0f} % of the expert's mean distance. Required are
{REQUIRED_FREE_SHARE:.0%} of the runs without a collision and {REQUIRED_DISTANCE_SHARE:.0%} of the
expert's distance: {"reached" if good_enough(actor, expert) else "**not reached**"}. Measure it
again with `python -m tractor_sim.rollout --model {model.name}`, and the expert with `--expert`.

## What it does not cover

- It has never been on a real rover, nor seen a real sensor.
- The floor is flat and the mounting is exactly the one in `config/sac_rover.yaml`; pitch and roll
  of the body, moving obstacles, glass, ledges, stairs and slopes are not simulated.
- It has no memory. A low obstacle that has left the camera's view is forgotten; the camera looks
  forward only, so what is low beside or behind the rover is never seen.
- It wanders and avoids; it has no goal.
- One seed and one set of worlds were judged; other seeds may reach less.
"""


@commands.printing
def main(argv: list[str] | None = None) -> int:
    """Make, judge and describe the reference actor.

    Exit status: 0 made and good enough; 1 could not be made; 2 wrong usage; 3 made, but it does not
    drive well enough: the file at `--out` stays as it was; 130 interrupted.
    """
    parser = argparse.ArgumentParser(prog="python -m tractor_sim.train", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="0 to 99; draws worlds and weights")
    parser.add_argument("--out", type=Path, required=True, help="ONNX file to write")
    parser.add_argument("--params", help="shared parameter file")
    parser.add_argument("--processes", type=int, default=2, help="processes and threads to use")
    parser.add_argument("--worlds", type=int, default=40, help="unseen worlds to judge it in")
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.seed < FIRST_UNSEEN_SEED // SEEDS_A_RUN:
        parser.error(f"--seed: expected 0 to 99, found {arguments.seed}")
    if min(arguments.worlds, arguments.processes) < 1:
        parser.error("--worlds and --processes: expected more than 0")
    if arguments.out.suffix != ".onnx":
        parser.error(f"--out: expected a name that ends in .onnx, found {arguments.out}")
    if not arguments.out.absolute().parent.is_dir():
        parser.error(f"--out: expected a file in a folder that exists, found {arguments.out}")
    commands.set_up_log("%(asctime)s %(message)s")
    out: Path = arguments.out
    candidate = out.with_name(f"{out.stem}.candidate.onnx")
    try:
        params_file = str(commands.params_file(arguments.params))
        started_s = time.monotonic()
        frames = train(candidate, params_file, arguments.seed, arguments.processes)
        made_s = time.monotonic() - started_s
        processor_s = sum(os.times()[:4])
        log.info("made in %.0f s; judging", made_s)
        expert, actor = (
            judge(model, params_file, arguments.worlds, processes=arguments.processes)
            for model in (None, str(candidate))
        )
    except (TractorError, OSError, ImportError) as error:
        text = explain(error, out.parent) if isinstance(error, OSError) else error
        print(printable_message(text), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return commands.INTERRUPTED
    print(f"actor: {summary(actor)}\nexpert: {summary(expert)}")
    facts = {
        "seed": str(arguments.seed),
        "frames": str(frames),
        "time to make, without judging": f"{made_s / 60:.1f} min, {arguments.processes} processes",
        "processor time of that": f"{processor_s / 60:.1f} min",
        "size": f"{candidate.stat().st_size} bytes",
        "contract": Setup.load(params_file).contract.digest,
    }
    command = f"python -m tractor_sim.train --seed {arguments.seed} --out {out}"
    text = card(out, command, facts, actor, expert)
    place = candidate if not good_enough(actor, expert) else out
    try:
        replace_file(place.with_suffix(".md"), text)
        if place == out:
            candidate.replace(out)
    except OSError as error:
        reason = printable_message(explain(error, out.parent))
        print(f"made, and it stays at {printable(candidate)}: {reason}", file=sys.stderr)
        return 1
    if place == candidate:
        print(
            f"not good enough: expected {REQUIRED_FREE_SHARE:.0%} of the runs without a collision "
            f"and {REQUIRED_DISTANCE_SHARE:.0%} of the expert's distance; it stays at "
            f"{printable(candidate)}, with its card beside it",
            file=sys.stderr,
        )
        return 3
    print(f"wrote {printable(out)} and {printable(out.with_suffix('.md'))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
