"""Which frames calibrate: INT8 error of the reference actor by how its calibration set was chosen.

Simulated drives give the frames, other worlds the frames that judge. Each set goes through
rknn-toolkit2 and its simulator. Writes bench_output/selection.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tractor_calibration.conversion import toolkit_child
from tractor_calibration.conversion.validation import agreement
from tractor_calibration.samples import selection
from tractor_calibration.samples.reference import reference_actions
from tractor_core import contract as contract_module
from tractor_core.diversity import DiverseSet, embedding
from tractor_core.paths import default_params_file
from tractor_core.samples import Sample
from tractor_inference.model import rknn_toolkit
from tractor_inference.model.backends import open_backend
from tractor_inference.model.policy import Policy
from tractor_sim.senses import CONTROL_HZ, Senses, Setup
from tractor_sim.simulation import Simulation
from tractor_sim.workers import in_processes

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "sac_actor_reference.onnx"
FIRST_WORLD, WORLDS, JUDGING_WORLDS = 500_000, 34, 10
SECONDS, EVERY_TICKS = 24, 30
KEPT, RANDOM_SIZES, SEEDS = 100, (10, 20, 50, 100), 5
LIMITS, TARGET = toolkit_child.Limits(600.0, "", 8000.0), "rk3588"


def drive(seed: int) -> list[Sample]:
    """Drive one world with the reference actor and return a frame a second."""
    setup = Setup.load(default_params_file())
    simulation = Simulation(seed, setup.robot)
    senses = Senses(simulation, setup)
    policy = Policy(setup.contract, setup.robot, open_backend("onnx", MODEL, setup.contract))
    frames = []
    for tick in range(SECONDS * CONTROL_HZ):
        senses.tick()
        seen = senses.observe()
        decision = policy.step(seen)
        senses.executed(decision.velocity)
        if tick % EVERY_TICKS == 0:
            stamp_ns = seed * 10**12 + round(simulation.time_s * 1e9)
            frames.append(Sample(np.ascontiguousarray(seen.bev), seen.proprio, stamp_ns))
        simulation.step(*decision.velocity, 1.0 / CONTROL_HZ)
    return frames


def by_coverage(frames: Sequence[Sample], count: int, contract) -> list[Sample]:
    """Choose as `convert` does."""
    found = selection.activations(MODEL.read_bytes(), contract, frames, TARGET)
    return [frames[i] for i in selection.by_coverage(found.lows, found.highs, count)]


def kept_by_coverage(frames: Sequence[Sample], contract) -> list[Sample]:
    """Keep as the sampler does with `sample_retention: coverage`."""
    kept = DiverseSet(KEPT)
    for i, frame in enumerate(frames):
        kept.offer(i, embedding(frame.bev, frame.proprio, contract))
    return [frames[i] for i in sorted(kept.keys)]


def judge(chosen: Sequence[Sample], held_out: Sequence[Sample], contract) -> dict[str, float]:
    """Build INT8 with these frames and compare it with the ONNX on the others."""
    onnx = MODEL.read_bytes()
    reference = reference_actions(onnx, contract, held_out)
    job = toolkit_child.Job(
        onnx, TARGET, contract, held_out, reference, chosen, {"int8": rknn_toolkit.QUANTIZED}
    )
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder, "work")
        work.mkdir()
        outcome = toolkit_child.run(job, work, Path(folder, "log"), LIMITS)
    return dataclasses.asdict(agreement(reference, outcome.builds["int8"].actions))


def main(argv: list[str] | None = None) -> int:
    """Collect, choose, convert, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench_output/selection.json"))
    parser.add_argument("--seeds", type=int, default=SEEDS, help="random sets of each size")
    arguments = parser.parse_args(argv)
    contract = contract_module.load(default_params_file())
    worlds = range(FIRST_WORLD, FIRST_WORLD + WORLDS + JUDGING_WORLDS)
    drives = list(in_processes(drive, worlds, 2))
    frames = [frame for frames in drives[:WORLDS] for frame in frames]
    held_out = [frame for frames in drives[WORLDS:] for frame in frames]
    print(f"{len(frames)} frames, {len(held_out)} of other worlds judge", file=sys.stderr)

    def random_set(count: int) -> Callable[[int], list[Sample]]:
        return lambda seed: random.Random(seed).sample(frames, count)

    kept = kept_by_coverage(frames, contract)
    sets: dict[str, tuple[Callable[[int], list[Sample]], int]] = {
        "all": (lambda _: frames, 1),
        "coverage of all, 50 at most": (lambda _: by_coverage(frames, 50, contract), 1),
        "sampler keeps 100 by coverage, of them 50": (
            lambda _: by_coverage(kept, 50, contract), 1,
        ),
        "sampler keeps the first 100, of them 50": (
            lambda _: by_coverage(frames[:KEPT], 50, contract), 1,
        ),
    }  # fmt: skip
    sets |= {f"random {n}": (random_set(n), arguments.seeds) for n in RANDOM_SIZES}
    rows = []
    for name, (choose, times) in sets.items():
        for seed in range(times):
            chosen = choose(seed)
            row = {"set": name, "seed": seed, "frames": len(chosen)}
            rows.append(row | judge(chosen, held_out, contract))
            print(f"{name}, {seed}: {rows[-1]['sqnr_db']:.2f} dB", file=sys.stderr)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"results": rows}, indent=1) + "\n")
    print("| calibrated with | frames | SQNR, dB | MAE | largest error |\n|---|---|---|---|---|")
    for name in sets:
        found = [row for row in rows if row["set"] == name]
        cells = [span([row["frames"] for row in found], "{:.0f}")]
        cells += [span([row["sqnr_db"] for row in found], "{:.2f}")]
        cells += [span([row[key] for row in found], "{:.4f}") for key in ("mae", "max")]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(f"\nwrote {arguments.out}", file=sys.stderr)
    return 0


def span(values: Sequence[float], form: str) -> str:
    """Return one value, or the smallest to the largest."""
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"


if __name__ == "__main__":
    sys.exit(main())
