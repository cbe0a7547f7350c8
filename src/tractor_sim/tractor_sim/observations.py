"""Make the reference observations: varied frames of simulated drives, for one contract and robot.

The expert drives, with bursts of random commands; of all that the rover would see the most diverse
frames are kept, as many of worlds that calibrate as of worlds that validate.

Exit codes:
  0  made
  1  could not be made
  2  wrong usage
  130  interrupted
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tractor_core import cli as commands
from tractor_core import diversity, reference_observations
from tractor_core.diversity import DiverseSet
from tractor_core.errors import SensorError
from tractor_core.kinematics import action_to_velocity
from tractor_core.packed import PackedSamples
from tractor_core.samples import Sample
from tractor_core.text import printable

from .disturbance import Disturbance
from .expert import Expert
from .senses import CONTROL_HZ, SCAN_EVERY_TICKS, Senses, Setup
from .simulation import Simulation
from .workers import ENDS, ended_by, in_processes
from .world import REGULAR, TIGHT, WIDE, make_world

# Worlds that neither training, judging nor the demo draws: theirs stay below.
FIRST_SEED = 5_000_000
WORLDS_A_SEED = 10_000
WORLDS, FRAMES_A_WORLD, FRAME_TICKS = 60, 60, 10
BURST_RATE = 0.02
# In turn, two worlds each: one that calibrates and one that validates.
STYLES = (REGULAR, TIGHT, WIDE)

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Drive:
    """One world to drive through."""

    seed: int
    params_file: str
    frames: int = FRAMES_A_WORLD


def observe(drive: Drive) -> PackedSamples:
    """Drive through one world and return what the rover would have seen, three times a second.

    Scans do not fade: a set keeps zeros and ones.
    """
    setup = Setup.load(drive.params_file)
    setup = dataclasses.replace(setup, builder=dataclasses.replace(setup.builder, scan_decay_s=0.0))
    rng = np.random.default_rng([drive.seed, 11])
    world = make_world(drive.seed, STYLES[drive.seed // 2 % len(STYLES)])
    simulation = Simulation(drive.seed, setup.robot, world)
    phase = int(rng.integers(SCAN_EVERY_TICKS))
    expert = Expert(setup.robot, margin_m=float(rng.uniform(0.02, 0.25)))
    disturbance = Disturbance(rng, BURST_RATE)

    def act(last: NDArray[np.float32]) -> NDArray[np.float32]:
        disturbed = disturbance.tick()
        if disturbed is not None:
            return disturbed
        return expert.act(simulation.privileged_scan(), float(last[1] - last[0]) / 2)

    return seen(simulation, setup, act, drive.frames, phase)


def seen(
    simulation: Simulation,
    setup: Setup,
    act: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    frames: int,
    phase: int = 0,
) -> PackedSamples:
    """Drive and return what the rover would have seen, three times a second.

    Args:
        simulation: the rover in its world.
        setup: how it observes.
        act: gives the track commands of a tick, (2,) in [-1, 1], from those of the last.
        frames: so many thirds of a second; those without an observation are left out.
        phase: see `Senses`.
    """
    # Commands are tracks, whatever the actor's are to be.
    tracks = dataclasses.replace(setup.contract, action_space="tracks")
    senses = Senses(simulation, setup, phase)
    found = PackedSamples()
    action = np.zeros(2, np.float32)
    for tick in range(frames * FRAME_TICKS):
        senses.tick()
        if tick % FRAME_TICKS == 0:
            frame = _observation(senses)
            if frame is not None:
                found.append(frame)
        action = act(action)
        velocity = action_to_velocity(action, tracks, setup.robot)
        senses.executed(velocity)
        simulation.step(velocity.linear, velocity.angular, 1.0 / CONTROL_HZ)
    return found


def _observation(senses: Senses) -> Sample | None:
    try:
        found = senses.observe()
    except SensorError as error:
        log.info("no observation: %s", error)
        return None
    return Sample(found.bev, found.proprio, found.stamp_ns)


def make(
    params_file: str, seed: int, frames: int, worlds: int, processes: int
) -> tuple[list[Sample], list[int]]:
    """Drive and choose.

    Args:
        frames: half of them are of worlds of even number, which calibrate.
        worlds: to drive through.

    Returns:
        The frames, and the number of the world of each.
    """
    contract = Setup.load(params_file).contract
    first = FIRST_SEED + seed * WORLDS_A_SEED
    drives = [Drive(number, params_file) for number in range(first, first + worlds)]
    halves = [DiverseSet(frames // 2), DiverseSet(frames // 2)]
    drives_seen: dict[int, PackedSamples] = {}
    for drive, found in zip(drives, in_processes(observe, drives, processes)):
        drives_seen[drive.seed] = found
        log.info("world %d of %d: %d frames", len(drives_seen), worlds, len(found))
        for i, frame in enumerate(found):
            point = diversity.embedding(frame.bev, frame.proprio, contract)
            halves[reference_observations.calibrates(drive.seed)].offer((drive.seed, i), point)
    chosen = sorted(key for half in halves for key in half.keys)
    return [drives_seen[world][i] for world, i in chosen], [world for world, _ in chosen]


@commands.printing
def main(argv: list[str] | None = None) -> int:
    """Make and write the reference observations.

    Exit status: 0 made, 1 could not be made, 2 wrong usage, 130 interrupted.
    """
    parser = argparse.ArgumentParser(
        prog=reference_observations.COMMAND, description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="file to write, .npz")
    parser.add_argument("--params", help="shared parameter file")
    parser.add_argument("--seed", type=int, default=0, help="0 to 99; draws worlds and drives")
    parser.add_argument("--frames", type=int, default=400, help="frames to keep")
    parser.add_argument("--worlds", type=int, default=WORLDS, help="worlds to drive through")
    parser.add_argument("--processes", type=int, default=2, help="processes to use")
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.seed < 100:
        parser.error(f"--seed: expected 0 to 99, found {arguments.seed}")
    if not 2 <= arguments.worlds <= WORLDS_A_SEED or arguments.processes < 1:
        parser.error(f"--worlds: expected 2 to {WORLDS_A_SEED}; --processes: at least 1")
    least = 2 * reference_observations.LEAST_A_HALF
    if not least <= arguments.frames <= reference_observations.MAX_FRAMES:
        parser.error(f"--frames: expected {least} to {reference_observations.MAX_FRAMES}")
    commands.require_output(parser, "--out", arguments.out, ".npz")
    commands.set_up_log("%(message)s")
    out: Path = arguments.out
    try:
        params_file = str(commands.params_file(arguments.params))
        setup = Setup.load(params_file)
        frames, worlds = make(
            params_file, arguments.seed, arguments.frames, arguments.worlds, arguments.processes
        )
        made_by = (
            f"{reference_observations.COMMAND} --seed {arguments.seed} --frames {arguments.frames} "
            f"--worlds {arguments.worlds}"
        )
        if arguments.params:
            made_by += f" --params {arguments.params}"
        origin = reference_observations.Origin.load(params_file)
        reference_observations.write(out, frames, worlds, made_by, origin)
    except ENDS as error:
        return ended_by(error, out)
    print(table(frames, setup))
    print(
        f"{len(frames)} frames, {out.stat().st_size / 1000:.0f} kB, contract "
        f"{setup.contract.digest}: {printable(out)}"
    )
    return 0


def table(frames: list[Sample], setup: Setup) -> str:
    """Return how many frames lie in which region, and how far the proprioception reaches."""
    contract = setup.contract
    counts: Counter[tuple[str, str]] = Counter()
    for frame in frames:
        counts.update(diversity.regions(frame.bev, frame.proprio, contract).items())
    lines = [
        f"{feature:12}{region:26}{counts[feature, region]:6}"
        for feature, names in diversity.all_regions(contract).items()
        for region in names
    ]
    proprio: NDArray[np.float32] = np.array([frame.proprio for frame in frames])
    lines += [
        f"{name:14}{low:9.3f} to {high:.3f}"
        for name, low, high in zip(contract.proprio_names, proprio.min(axis=0), proprio.max(axis=0))
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
