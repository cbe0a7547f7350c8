"""What a validated conversion costs beside a bare script that calls rknn-toolkit2.

Both convert the reference actor to INT8 as whole processes, alternately: the bare script with every
sample that may calibrate, written out beforehand, and `convert` from the folder of samples. Memory
is the largest sum of resident memory of a process and its children. Writes
bench_output/conversion.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from tractor_calibration.samples.reading import read_folder
from tractor_core import contract as contract_module
from tractor_core import samples
from tractor_core.kinematics import Velocity
from tractor_core.paths import default_params_file
from tractor_inference.model import rknn_toolkit
from tractor_sim.senses import CONTROL_HZ, Senses, Setup
from tractor_sim.simulation import Simulation
from tractor_sim.workers import in_processes

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "sac_actor_reference.onnx"
# samples in the folder, of which `convert` holds some out
SIZES = {"100 samples": 100, "1000 samples": 1000}
FIRST_WORLD, WORLDS, TICKS_A_FRAME = 700_000, 50, 15
VELOCITY = Velocity(0.05, 0.6)
POLL_S = 0.02

RAW_SCRIPT = """
import sys
from rknn.api import RKNN
rknn = RKNN(verbose=False)
assert rknn.config(target_platform="rk3588", quantized_dtype="w8a8") == 0
assert rknn.load_onnx(model=sys.argv[1]) == 0
assert rknn.build(do_quantization=True, dataset=sys.argv[2]) == 0
assert rknn.export_rknn(sys.argv[3]) == 0
rknn.release()
"""


def drive(seed: int) -> list[samples.Sample]:
    """Turn on the spot and drive a little in one world; twenty frames."""
    setup = Setup.load(default_params_file())
    simulation = Simulation(seed, setup.robot)
    senses = Senses(simulation, setup)
    frames = []
    for tick in range(max(SIZES.values()) // WORLDS * TICKS_A_FRAME):
        senses.tick()
        if tick % TICKS_A_FRAME == 0:
            seen = senses.observe()
            stamp_ns = seed * 10**12 + seen.stamp_ns + 1
            frames.append(samples.Sample(np.ascontiguousarray(seen.bev), seen.proprio, stamp_ns))
        senses.executed(VELOCITY)
        simulation.step(*VELOCITY, 1.0 / CONTROL_HZ)
    return frames


def whole_process(command: list[str]) -> tuple[float, float]:
    """Run a command and return its seconds and the largest resident memory with its children, MB.

    Raises:
        SystemExit: it failed.
    """
    with tempfile.TemporaryFile("w+") as log:
        started_s = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        watched, largest = psutil.Process(process.pid), 0
        while process.poll() is None:
            resident = 0
            for one in (watched, *_children(watched)):
                try:
                    resident += one.memory_info().rss
                except psutil.Error:  # ended meanwhile
                    continue
            largest = max(largest, resident)
            time.sleep(POLL_S)
        seconds = time.perf_counter() - started_s
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"{command} failed:\n{log.read()}")
    return seconds, largest / 1e6


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def main(argv: list[str] | None = None) -> int:
    """Collect, convert in turn, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench_output/conversion.json"))
    parser.add_argument("--rounds", type=int, default=3, help="runs of each command, in turn")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    arguments = parser.parse_args(argv)
    contract = contract_module.load(default_params_file())
    worlds = range(FIRST_WORLD, FIRST_WORLD + WORLDS)
    frames = [frame for frames in in_processes(drive, worlds, 2) for frame in frames]
    results = []
    help_s = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands: dict[tuple[str, str], list[str]] = {}
        for size in arguments.sizes:
            home = folder / size.replace(" ", "_")
            collected, models = home / "calibration_data", home / "models"
            models.mkdir(parents=True)
            shutil.copy(MODEL, models / "actor.onnx")
            spread = np.linspace(0, len(frames) - 1, SIZES[size]).round().astype(int)
            for number, i in enumerate(spread, 1):
                # A second apart: none is left out for being near to one that is held out.
                stamped = dataclasses.replace(frames[i], stamp_ns=number * 10**9)
                samples.write(collected, stamped, contract)
            pool = read_folder(collected, contract).samples
            listed = rknn_toolkit.write_dataset(pool, contract, home / "raw")
            commands["bare script", size] = [
                sys.executable, "-c", RAW_SCRIPT, str(models / "actor.onnx"), str(listed),
                str(home / "raw.rknn"),
            ]  # fmt: skip
            commands["convert", size] = [
                sys.executable, "-m", "tractor_calibration", "convert", str(models / "actor.onnx"),
                "--quantize", "--calibration-dir", str(collected), "--accept-warnings", "--json",
            ]  # fmt: skip
        measured: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in commands}
        for number in range(arguments.rounds):
            for key, command in commands.items():
                measured[key].append(whole_process(command))
            help_command = [sys.executable, "-m", "tractor_calibration", "convert", "--help"]
            help_s.append(whole_process(help_command)[0])
            print(f"measured round {number + 1}", file=sys.stderr)
    for (name, size), found in measured.items():
        seconds, megabytes = np.array(found).T
        results.append(
            {"name": name, "size": size, "median_s": float(np.median(seconds)),
             "largest_s": float(seconds.max()), "peak_mb": float(megabytes.max())}
        )  # fmt: skip
    median_s = {(row["name"], row["size"]): row["median_s"] for row in results}
    more_s = {
        size: median_s["convert", size] - median_s["bare script", size] for size in arguments.sizes
    }
    found = {"results": results, "more_s": more_s, "help_s": float(np.median(help_s))}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{'':14}{'':14}{'median s':>10}{'largest s':>11}{'peak MB':>9}")
    for row in results:
        print(
            f"{row['size']:14}{row['name']:14}{row['median_s']:10.2f}{row['largest_s']:11.2f}"
            f"{row['peak_mb']:9.0f}"
        )
    for size, seconds in more_s.items():
        print(f"{size}: convert takes {seconds:+.2f} s against the bare script")
    print(f"convert --help: {found['help_s']:.2f} s\nwrote {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
