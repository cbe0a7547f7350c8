"""Imitation of the expert in the simulator, then DAgger.

DAgger: Ross, Gordon and Bagnell, "A Reduction of Imitation Learning and Structured Prediction to
No-Regret Online Learning", AISTATS 2011.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import Contract, normalize
from tractor_core.errors import ContractError, SensorError
from tractor_core.experience import pack_grid, unpack_grids
from tractor_core.kinematics import action_to_velocity
from tractor_core.observation import Observation
from tractor_inference.model.backends import open_backend
from tractor_inference.model.policy import Policy
from tractor_sim.disturbance import Disturbance
from tractor_sim.expert import Expert
from tractor_sim.senses import CONTROL_HZ, SCAN_EVERY_TICKS, Senses, Setup
from tractor_sim.simulation import Simulation
from tractor_sim.workers import in_processes

from .export import export
from .network import make_network, round_weights

IMITATION_WORLDS, DAGGER_WORLDS, DAGGER_ROUNDS = 120, 80, 4
IMITATION_FRAMES, DAGGER_FRAMES = 100, 200
IMITATION_TICKS, DAGGER_TICKS = 6, 3
IMITATION_STEPS, DAGGER_STEPS, LAST_STEPS = 1000, 700, 2000
# Bursts of random commands begin with this probability a tick.
BURST_RATE = 0.006
BATCH = 128
IMITATION_RATE, DAGGER_RATE = 7e-4, 5e-4
LABEL_LIMIT = 0.95
LOSS_BETA = 0.3
TURNING_WEIGHT = 3.0
ACTION_NOISE, ACTION_NOISE_SHARE = 0.5, 0.25
SEEDS_A_RUN = 10_000
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
    disturbance = Disturbance(rng, BURST_RATE)
    for tick in range(count * period):
        senses.tick()
        last_turn = float(action[1] - action[0]) / 2
        disturbed = disturbance.tick()
        if tick % period == 0:
            seen = _seen(senses)
            if seen is not None:
                grids.append(pack_grid(seen.bev))
                vectors.append(seen.proprio)
                labels.append(teacher.act(simulation.privileged_scan(), last_turn))
            if policy is not None:
                # As on the rover: without an observation it stands.
                action = np.zeros(2, np.float32) if seen is None else policy.step(seen).action
        if disturbed is not None:
            action = disturbed
        elif policy is None:
            action = varied.act(simulation.privileged_scan(), last_turn)
        velocity = action_to_velocity(action, setup.contract, setup.robot)
        senses.executed(velocity)
        simulation.step(velocity.linear, velocity.angular, 1.0 / CONTROL_HZ)
    return Frames(np.array(grids), np.array(vectors), np.array(labels))


def _seen(senses: Senses) -> Observation | None:
    try:
        return senses.observe()
    except SensorError:  # nothing is learnt from what the rover does not see
        return None


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
    bev = unpack_grids(frames.bev[chosen], contract)
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
    round_weights(network)
    export(network, setup.contract, out)
    return len(frames.label)
