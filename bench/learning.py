"""What learning costs: updates beside stable-baselines3, replay, simulation, ingest, recorder.

One thread throughout. stable-baselines3 gets the same network, batch and data: the encoder of the
reference actor, which stays as it is, before its own policy and critics. Writes
bench_output/learning.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tractor_core import robot as robots
from tractor_core.experience import Chunk, encode, unpack_grids
from tractor_core.observation import Observation
from tractor_core.paths import default_params_file
from tractor_core.spool import Spool
from tractor_inference.recording.experience import ExperienceRecorder
from tractor_link import streams
from tractor_link.broker import Broker
from tractor_link.connection import connected
from tractor_link.uplink import Uplink
from tractor_sim.senses import Setup
from tractor_training import config
from tractor_training.headless import Trip, drive
from tractor_training.learning import Learning
from tractor_training.replay import Replay
from tractor_training.trainer import FEATURES, LearnerParameters, Trainer

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "sac_actor_reference.onnx"
SEED, BATCH = 600_000, 128
TRIP_S = 20.0
# Faster than a rover's, with time between two as there.
TICK_S = 0.01


def spent(work: Callable[[], Any], times: int) -> list[float]:
    """Return the seconds of each call."""
    found = []
    for _ in range(times):
        start_s = time.perf_counter()
        work()
        found.append(time.perf_counter() - start_s)
    return found


def trips(count: int, every: int, seconds: float = TRIP_S) -> tuple[list[Chunk], float]:
    """Return the chunks of so many worlds, and decisions a second of processor time."""
    start_s, chunks = time.process_time(), list[Chunk]()
    for seed in range(SEED, SEED + count):
        chunks += drive(Trip(seed, seconds, str(default_params_file()), str(MODEL), 0.3, every))
    return chunks, sum(map(len, chunks)) / (time.process_time() - start_s)


def filled(setup: Setup, chunks: list[Chunk]) -> Trainer:
    """Return a learner with these chunks."""
    own = LearnerParameters(buffer_size=20_000, learning_starts=1)
    trainer = Trainer(setup.contract, robots.load(default_params_file()), MODEL, own=own)
    for chunk in chunks:
        trainer.take(chunk)
    return trainer


def theirs(setup: Setup, trainer: Trainer, chunks: list[Chunk]) -> Any:
    """Return stable-baselines3's SAC with the same network and data."""
    import gymnasium
    import torch
    from gymnasium import spaces
    from stable_baselines3 import SAC
    from stable_baselines3.common.logger import configure
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

    shape, proprio = setup.contract.bev_shape, setup.contract.proprio_size

    class Extractor(BaseFeaturesExtractor):
        def __init__(self, space: Any) -> None:
            super().__init__(space, FEATURES + proprio)
            self.grid = trainer.encoder

        def forward(self, seen: Any) -> Any:
            with torch.no_grad():
                features = self.grid(seen["bev"])
            return torch.cat([features, seen["proprio"]], dim=1)

    class Nothing(gymnasium.Env):
        observation_space = spaces.Dict({
            "bev": spaces.Box(0, 1, shape, np.uint8),
            "proprio": spaces.Box(-3.0, 3.0, (proprio,), np.float32),
        })  # fmt: skip
        action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    count = sum(map(len, chunks))
    model = SAC(
        "MultiInputPolicy", Nothing(), batch_size=BATCH, buffer_size=count, device="cpu",
        policy_kwargs={
            "features_extractor_class": Extractor, "share_features_extractor": True,
            "net_arch": {"pi": [128], "qf": [256, 256]},
        },
    )  # fmt: skip
    model.set_logger(configure(None, []))
    for chunk in chunks:
        grids = unpack_grids(chunk.grids, setup.contract)
        rows = chunk.rows["proprio"].astype(np.float32)
        for i in range(len(chunk)):
            now, then = (
                {"bev": grids[j][None], "proprio": rows[j][None]} for j in (i, i + 1)
            )  # fmt: skip
            model.replay_buffer.add(
                now, then, chunk.executed[i][None], np.zeros(1), np.zeros(1, bool), [{}]
            )
    return model


def buffer_bytes(buffer: Any) -> int:
    """Return what stable-baselines3's replay takes."""
    found = 0
    for value in vars(buffer).values():
        parts = value.values() if isinstance(value, dict) else [value]
        found += sum(part.nbytes for part in parts if isinstance(part, np.ndarray))
    return found


def learner(setup: Setup, updates: int) -> dict[str, Any]:
    """Compare updates and replay."""
    chunks, _ = trips(4, every=4)
    trainer = filled(setup, chunks)
    other = theirs(setup, trainer, chunks)
    ours_s, theirs_s = list[float](), list[float]()
    for _ in range(3):  # in turn: what else the machine does meets both
        ours_s += spent(trainer.learn, updates)
        theirs_s += spent(
            lambda: other.train(gradient_steps=1, batch_size=BATCH), max(3, updates // 10)
        )
    replay: Replay = trainer.replay
    count = sum(map(len, chunks))
    return {
        "updates_per_s": 1.0 / float(np.median(ours_s)),
        "update_p99_ms": 1000 * float(np.percentile(ours_s, 99)),
        "sb3_updates_per_s": 1.0 / float(np.median(theirs_s)),
        "faster_than_sb3": float(np.median(theirs_s) / np.median(ours_s)),
        "replay_bytes_per_step": replay.nbytes / 20_000,
        "sb3_replay_bytes_per_step": buffer_bytes(other.replay_buffer) / count,
    }


def beside_simulation(setup: Setup, seconds: float) -> dict[str, Any]:
    """Drive and learn in turn, half an update a decision, on one core."""
    trainer = filled(setup, [])
    start_s, seed = time.perf_counter(), SEED + 100
    while time.perf_counter() - start_s < seconds:
        for chunk in drive(Trip(seed, TRIP_S, str(default_params_file()), str(MODEL), 0.3)):
            trainer.take(chunk)
        while trainer.due > 0:
            trainer.learn()
        seed += 1
    took_s, decisions = time.perf_counter() - start_s, trainer.decisions
    return {
        "decisions_per_s": decisions / took_s, "updates_per_s": trainer.sac.updates / took_s,
    }  # fmt: skip


def simulation(count: int) -> dict[str, Any]:
    """Compare decisions a second with few rays and with all."""
    few, whole = trips(count, every=4)[1], trips(count, every=1)[1]
    return {"decisions_per_s": few, "whole_image_per_s": whole, "faster": few / whole}


def ingest(setup: Setup, chunks: list[Chunk]) -> dict[str, Any]:
    """Time a chunk's way: on disk before it is acknowledged, and judged and encoded."""
    import psutil

    own = config.changed(config.load(), learner={"learning_starts": 1_000_000})
    with tempfile.TemporaryDirectory() as folder:
        learning = Learning(
            Path(folder), own, setup.contract, robots.load(default_params_file()), MODEL
        )
        durable, taken = list[float](), list[float]()
        for chunk in chunks:
            data = encode(chunk)
            durable += spent(lambda data=data: learning.add([data]), 1)
            taken += spent(learning.step, 1)
        learning.close()
    return {
        "durable_p50_ms": 1000 * float(np.median(durable)),
        "durable_p99_ms": 1000 * float(np.percentile(durable, 99)),
        "taken_p50_ms": 1000 * float(np.median(taken)),
        "taken_p99_ms": 1000 * float(np.percentile(taken, 99)),
        "memory_mb": psutil.Process().memory_info().rss / 1e6,
    }


def rover(setup: Setup, chunks: list[Chunk]) -> dict[str, Any]:
    """Measure the shares of a core that recorder and link take at 30 Hz, and a tick's wait."""
    with tempfile.TemporaryDirectory() as name:
        spool = Spool(Path(name, "experience"), 10**9)
        recorder = ExperienceRecorder(spool, setup.contract)
        wait_us, steps = list[float](), 0
        start_s = time.process_time()
        for chunk in chunks:
            grids = unpack_grids(chunk.grids, setup.contract).astype(np.float32)
            rows = chunk.rows
            for i in range(len(chunk)):
                seen = Observation(grids[i], rows["proprio"][i], int(rows["stamp_ns"][i]))
                seen.bev.sum()  # the model has just looked at it
                begun_s = time.perf_counter()
                recorder.take(
                    seen, tuple(rows["pose"][i]), rows["answer"][i], rows["requested"][i],
                    chunk.model, "policy",
                )  # fmt: skip
                wait_us.append(1e6 * (time.perf_counter() - begun_s))
                steps += 1
                time.sleep(TICK_S)
        recorder.close()
        recorded_s = time.process_time() - start_s
        sent_s, sent = asyncio.run(_send(Path(name), spool))
    return {
        "recorder_share_at_30_hz": 30.0 * recorded_s / steps,
        "tick_p50_us": float(np.median(wait_us)), "tick_p99_us": float(np.percentile(wait_us, 99)),
        "link_share_at_30_hz": sent_s / sent,
    }  # fmt: skip


async def _send(folder: Path, spool: Spool) -> tuple[float, int]:
    """Return the processor time of the link, and chunks sent: about one a second at 30 Hz."""
    with Broker(folder / "nats", port=0) as broker:
        async with connected(broker.address, "bench") as connection:
            await streams.set_up(connection.jetstream(), streams.StreamParameters())
        start_s = time.process_time()
        uplink = Uplink(broker.address, "bench", spool)
        task = asyncio.create_task(uplink.run())
        while spool.waiting():
            await asyncio.sleep(0.2)
        # And what it takes to wait for the next ones.
        await asyncio.sleep(5.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return time.process_time() - start_s, uplink.status.chunks


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench_output/learning.json"))
    parser.add_argument("--updates", type=int, default=100, help="of a round, three rounds")
    parser.add_argument("--seconds", type=float, default=30.0, help="of learning beside driving")
    parser.add_argument("--worlds", type=int, default=4, help="of 20 s, for simulation")
    arguments = parser.parse_args(argv)
    import torch

    torch.set_num_threads(1)
    setup = Setup.load(default_params_file())
    result = {"learner": learner(setup, arguments.updates)}
    print("measured the learner", file=sys.stderr)
    result["beside_simulation"] = beside_simulation(setup, arguments.seconds)
    result["simulation"] = simulation(arguments.worlds)
    print("measured the simulation", file=sys.stderr)
    chunks, _ = trips(arguments.worlds, every=4)
    result["ingest"] = ingest(setup, chunks)
    result["rover"] = rover(setup, chunks)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, found in result.items():
        for key, value in found.items():
            print(f"{name:20}{key:30}{value:12.3f}")
    print(f"wrote {arguments.out}")
    return 0


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(main())
