"""What sampling adds to a control tick: 100 ticks a second, each an inference and an offered frame.

Runs without a sampler and with one are alternated in one process: a sampler with an empty folder,
and one whose folder holds a thousand samples. Writes bench_output/sampling.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tractor_core import contract as contract_module
from tractor_core import samples
from tractor_core.contract import Contract, normalize
from tractor_core.paths import default_params_file
from tractor_core.samples import Sample
from tractor_inference.model.backends import open_backend
from tractor_inference.recording.sampler import Sampler, SamplerParameters

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "sac_actor_reference.onnx"
TICK_S = 0.01
FULL_FOLDER = 1000


def random_frame(rng: np.random.Generator, contract: Contract) -> Sample:
    """Draw a frame with walls at random places."""
    bev = np.zeros(contract.bev_shape, np.float32)
    for channel in bev:
        row, column = rng.integers(4, 90, 2)
        channel[row : row + 3, column : column + 30] = 1.0
    mean, std = np.array(contract.proprio_mean), np.array(contract.proprio_std)
    vector = mean + std * rng.uniform(-1.0, 1.0, len(mean))
    return Sample(bev, vector.astype(np.float32), time.time_ns())


def drive(
    ticks: int, frames: Sequence[Sample], contract: Contract, sampler: Sampler | None
) -> tuple[list[float], list[float]]:
    """Return the costs of the ticks and of the offers in them, us."""
    backend = open_backend("onnx", MODEL, contract)
    tick_us, offer_us = [], []
    next_s = time.perf_counter()
    for i in range(ticks):
        next_s += TICK_S
        time.sleep(max(0.0, next_s - time.perf_counter()))
        start_s = time.perf_counter()
        frame = frames[i % len(frames)]
        backend.infer(frame.bev[None], normalize(contract, frame.proprio)[None])
        # As in the actor, a frame of its own: the sampler keeps it.
        sample = Sample(frame.bev.copy(), frame.proprio, time.time_ns())
        before_s = time.perf_counter()
        if sampler is not None:
            sampler.offer(sample)
        end_s = time.perf_counter()
        tick_us.append((end_s - start_s) * 1e6)
        offer_us.append((end_s - before_s) * 1e6)
    return tick_us, offer_us


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench_output/sampling.json"))
    parser.add_argument("--seconds", type=float, default=10.0, help="a run of one setting")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each setting, in turn")
    arguments = parser.parse_args(argv)
    contract = contract_module.load(default_params_file())
    rng = np.random.default_rng(0)
    frames = [random_frame(rng, contract) for _ in range(500)]
    ticks = round(arguments.seconds / TICK_S)
    settings = ("without", "empty folder", f"{FULL_FOLDER} samples")
    ticks_us: dict[str, list[float]] = {name: [] for name in settings}
    offers_us: dict[str, list[float]] = {name: [] for name in settings}
    with tempfile.TemporaryDirectory() as name:
        full = Path(name, "full")
        for _ in range(FULL_FOLDER):
            samples.write(full, random_frame(rng, contract), contract)
        for number in range(arguments.rounds):
            folders = {"empty folder": Path(name, str(number)), f"{FULL_FOLDER} samples": full}
            for setting in settings:
                sampler = None
                if setting in folders:
                    parameters = SamplerParameters(calibration_dir=str(folders[setting]))
                    sampler = Sampler(parameters, contract)
                tick_us, offer_us = drive(ticks, frames, contract, sampler)
                if sampler is not None:
                    sampler.close()
                ticks_us[setting] += tick_us
                offers_us[setting] += offer_us
            print(f"measured round {number + 1}", file=sys.stderr)
    rows = []
    for setting in settings:
        tick, offer = (np.percentile(found[setting], [50, 99]) for found in (ticks_us, offers_us))
        rows.append(
            {"name": setting, "tick_p50_us": tick[0], "tick_p99_us": tick[1],
             "offer_p50_us": offer[0], "offer_p99_us": offer[1]}
        )  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"results": rows}, indent=1) + "\n")
    print(f"{'us':16}{'tick p50':>10}{'p99':>8}{'offer p50':>12}{'p99':>8}")
    for row in rows:
        print(
            f"{row['name']:16}{row['tick_p50_us']:10.0f}{row['tick_p99_us']:8.0f}"
            f"{row['offer_p50_us']:12.1f}{row['offer_p99_us']:8.1f}"
        )
    print(f"wrote {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
