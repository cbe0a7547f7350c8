"""Is a verdict right beyond the samples? Eighteen sample sets are converted, each model measured.

Sets of one kind of driving, of few and of many samples, of sensors that see little, of recorded
sensors and of others' making. For each: the grade of its samples, the verdict, how far the INT8
model is from the ONNX on 500 frames of worlds that nothing else has seen, and how it drives there.
Writes bench_output/verdicts.json. Ends with 1 where a set got "pass" whose model errs by more than
0.15 on one of those frames, or turns an action's sign around.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_calibration.conversion import stages, validation
from tractor_calibration.parameters import ConvertParameters, Request
from tractor_calibration.samples.reference import reference_actions
from tractor_core import cli, parameters, samples
from tractor_core.contract import normalize
from tractor_core.motion import OdometrySample
from tractor_core.observation import Arrival, Observer
from tractor_core.packed import PackedSamples
from tractor_core.paths import default_params_file
from tractor_core.reference_observations import Origin
from tractor_core.samples import Sample
from tractor_inference.model.backends import open_backend
from tractor_inference.model.onnx import model as onnx_model
from tractor_sim import rollout
from tractor_sim.expert import Expert
from tractor_sim.observations import Drive, observe, seen
from tractor_sim.replay import DEPTH_PERIOD_S, read_recording
from tractor_sim.senses import Setup
from tractor_sim.simulation import Simulation
from tractor_sim.world import REGULAR, TIGHT, WIDE, Style, make_world

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "sac_actor_reference.onnx"
RECORDINGS = ROOT / "src" / "tractor_sim" / "test" / "recordings"
# Worlds of the sets, and of the frames that judge; reference observations have other ones.
FIRST_SET, FIRST_UNSEEN = 4_000_000, 3_000_000
UNSEEN_WORLDS, UNSEEN_A_WORLD = 25, 20
FULL, SPACING_NS = 104, 333_000_000
MAX_ERROR = 0.15

Act = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def constant(left: float, right: float) -> Callable[[Simulation, Setup], Act]:
    """Return who gives one command for ever."""
    return lambda simulation, setup: lambda last: np.array([left, right], np.float32)


def alternating(*commands: tuple[float, float]) -> Callable[[Simulation, Setup], Act]:
    """Return who gives each command for two seconds, in turn."""

    def begin(simulation: Simulation, setup: Setup) -> Act:
        def act(last: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.array(commands[int(simulation.time_s / 2) % len(commands)], np.float32)

        return act

    return begin


def expert(simulation: Simulation, setup: Setup) -> Act:
    """Let the expert drive."""
    teacher = Expert(setup.robot)

    def act(last: NDArray[np.float32]) -> NDArray[np.float32]:
        return teacher.act(simulation.privileged_scan(), float(last[1] - last[0]) / 2)

    return act


class Maker:
    """Makes the sample sets; each drives through worlds of its own."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._next = FIRST_SET

    def drives(
        self,
        begin: Callable[[Simulation, Setup], Act] = expert,
        style: Style = REGULAR,
        count: int = FULL,
        worlds: int = 1,
    ) -> Iterator[Sample]:
        """Yield so many samples of drives through so many worlds."""
        for world in range(worlds):
            self._next += 1
            place = make_world(self._next, style)
            simulation = Simulation(self._next, self._setup.robot, place)
            share = count * (world + 1) // worlds - count * world // worlds
            yield from seen(simulation, self._setup, begin(simulation, self._setup), share)

    def turning(self, sign: float) -> Iterator[Sample]:
        """Yield samples of the expert's turns to one side."""
        found = 0
        while found < FULL:
            for sample in self.drives():
                if sign * sample.proprio[4] > 0.1 and found < FULL:
                    found += 1
                    yield sample

    def dim(self, kept: float) -> Iterator[Sample]:
        """Yield samples whose depth channel is empty, but for a share of them."""
        for i, sample in enumerate(self.drives(worlds=4)):
            bev = sample.bev.copy()
            if i % round(1 / kept) if kept else True:
                bev[1] = 0.0
            yield dataclasses.replace(sample, bev=bev)

    def recorded(self) -> Iterator[Sample]:
        """Yield what the rover would have seen with the recorded sensors, standing."""
        setup = self._setup
        observer = Observer(setup.contract, setup.robot, setup.builder, setup.max_input_age_s)
        recording = read_recording(RECORDINGS)
        for number, frame in enumerate(recording.frames()):
            time_ns = round(number * DEPTH_PERIOD_S * 1e9)

            def arrival(frame_id: str, time_ns: int = time_ns) -> Arrival:
                return Arrival(frame_id, time_ns, time_ns, time_ns / 1e9)

            observer.take_odometry(OdometrySample(time_ns, 0, 0, 0, 0, 0), arrival("odom"))
            if frame.scan is not None:
                observer.take_scan(frame.scan, arrival("laser"))
            found = observer.observe(frame.depth, arrival("camera_depth_optical_frame"))
            if number % 3 == 0:
                yield Sample(found.bev.copy(), found.proprio)


def sets(maker: Maker, shared: Path | None) -> Iterator[tuple[str, Callable[[], Iterator[Sample]]]]:
    """Yield each set's name and what makes it; two of others' making where they are there."""
    makers: dict[str, Callable[[], Iterator[Sample]]] = {
        "straight only": lambda: maker.drives(constant(1.0, 1.0), WIDE, worlds=4),
        "one drive": maker.drives,
        "one tight room": lambda: maker.drives(style=TIGHT),
        "one wide hall": lambda: maker.drives(style=WIDE),
        "one corridor": lambda: maker.drives(style=Style(layouts=("corridor",))),
        "ten drives": lambda: maker.drives(worlds=10),
        "ten drives, 1,000 samples": lambda: maker.drives(count=1000, worlds=10),
        "12 samples": lambda: maker.drives(count=12),
        "50 samples": lambda: maker.drives(count=50, worlds=5),
        "pivots to both sides": lambda: maker.drives(alternating((-1, 1), (1, -1)), worlds=4),
        "pivots to the left": lambda: maker.drives(constant(-1.0, 1.0), worlds=4),
        "turns to the left": lambda: maker.turning(1.0),
        "turns to the right": lambda: maker.turning(-1.0),
        "backwards": lambda: maker.drives(alternating((-1, -1), (-1, -0.5)), WIDE, worlds=4),
        "standing": lambda: maker.drives(constant(0.0, 0.0), worlds=4),
        "depth mostly empty": lambda: maker.dim(0.1),
        "depth always empty": lambda: maker.dim(0.0),
        "recorded sensors": maker.recorded,
    }
    yield from makers.items()
    if shared is not None:
        for archive in sorted((shared / "int8_verdict").glob("*.zip")):
            yield archive.stem, lambda archive=archive: _unpacked(archive)


def _unpacked(archive: Path) -> Iterator[Sample]:
    contract = Setup.load(default_params_file()).contract
    with tempfile.TemporaryDirectory() as folder:
        shutil.unpack_archive(archive, folder)
        for file in sorted(Path(folder).rglob("*.npz")):
            yield samples.read(file, contract)


def unseen(params_file: str) -> PackedSamples:
    """Return the frames that judge, of worlds of every kind."""
    found = []
    rng = np.random.default_rng(0)
    for number in range(UNSEEN_WORLDS):
        frames = observe(Drive(FIRST_UNSEEN + number, params_file, 2 * UNSEEN_A_WORLD))
        chosen = rng.permutation(len(frames))[:UNSEEN_A_WORLD]
        found.append(frames.pick(sorted(chosen.tolist())))
    return PackedSamples.join(found)


@dataclasses.dataclass(frozen=True)
class Bench:
    """What every set is measured with."""

    params_file: str
    setup: Setup
    parameters: ConvertParameters
    frames: PackedSamples
    answers: NDArray[np.float32]
    worlds: int
    seconds: float

    def measure(self, name: str, made: Iterator[Sample], folder: Path) -> dict[str, Any]:
        """Convert one set and return its row."""
        where = folder / "samples"
        count = 0
        for count, sample in enumerate(made, 1):
            stamped = dataclasses.replace(sample, stamp_ns=sample.stamp_ns or count * SPACING_NS)
            samples.write(where, stamped, self.setup.contract)
        shutil.copy(MODEL, folder / "actor.onnx")
        request = Request(
            folder / "actor.onnx", folder / "actor.rknn", True, where, Path(self.params_file),
            Origin.load(self.params_file), self.parameters, accept_warnings=True,
        )  # fmt: skip
        row: dict[str, Any] = {"name": name, "samples": count}
        try:
            result = stages.convert(request)
        except stages.StageError as error:
            return row | {"verdict": f"refused: {error.stage}", "why": str(error).split("\n")[0]}
        found = result["validation"]
        row |= {
            "grade": result["samples"]["grade"],
            "verdict": found["verdict"],
            "why": "; ".join(found["reasons"]),
            "rung": found["rung"],
            "reference": result["samples"]["calibration_reference"],
            "calibration": result["samples"]["calibration"],
            "max_on_drives": found["int8"]["max"],
            "max_beyond": found["int8"]["beyond"]["max"],
        }
        row |= self._beyond(folder / "actor.rknn")
        if self.worlds:
            drove = rollout.judge(
                str(folder / "actor.rknn"), self.params_file, self.worlds, self.seconds,
                first_seed=FIRST_UNSEEN + 1000, backend="rknn_sim",
            )  # fmt: skip
            row |= {"mean_m": drove.mean_m, "collisions": drove.collisions}
        return row

    def _beyond(self, model: Path) -> dict[str, Any]:
        backend = open_backend("rknn_sim", model, self.setup.contract)
        actions = np.concatenate(
            [
                backend.infer(frame.bev[None], normalize(self.setup.contract, frame.proprio)[None])
                for frame in self.frames
            ]
        )
        backend.close()
        found = validation.agreement(self.answers, actions)
        signed = np.abs(self.answers) > validation.SIGN_FROM
        wrong = (np.sign(actions) != np.sign(self.answers)) & signed
        return {
            "unseen_max": found.max, "unseen_sqnr_db": found.sqnr_db,
            "unseen_within_0_05": found.within_0_05, "unseen_wrong_signs": int(wrong.sum()),
        }  # fmt: skip


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    start = f"{row['name']:28}{row['samples']:6}"
    if "grade" not in row:
        return f"{start}  {row['verdict']}: {row['why']}"
    text = (
        f"{start}{row['grade']:>6}{row['verdict']:>6}{row['max_on_drives']:8.3f}"
        f"{row['max_beyond']:8.3f}{row['unseen_max']:8.3f}{row['unseen_sqnr_db']:7.1f}"
        f"{row['unseen_within_0_05']:8.1%}{row['unseen_wrong_signs']:6}"
    )
    if "mean_m" in row:
        text += f"{row['mean_m']:8.2f}{row['collisions']:6}"
    return text


HEAD = (
    f"{'':28}{'n':>6}{'grade':>6}{'word':>6}{'drives':>8}{'beyond':>8}{'unseen':>8}{'dB':>7}"
    f"{'<=0.05':>8}{'signs':>6}{'m':>8}{'hits':>6}"
)


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench_output/verdicts.json"))
    parser.add_argument("--sets", default="", help="only sets whose name holds this")
    parser.add_argument("--worlds", type=int, default=2, help="to drive through with each model")
    parser.add_argument("--seconds", type=float, default=30.0, help="a drive")
    parser.add_argument("--shared", type=Path, help="folder with int8_verdict/*.zip")
    args = parser.parse_args()
    cli.set_up_log("%(message)s")
    params_file = str(default_params_file())
    setup = Setup.load(params_file)
    frames = unseen(params_file)
    onnx = onnx_model.inspect(MODEL, setup.contract).data
    bench = Bench(
        params_file, setup,
        parameters.from_values(ConvertParameters, parameters.read_file(params_file, "convert")),
        frames, reference_actions(onnx, setup.contract, frames), args.worlds, args.seconds,
    )  # fmt: skip
    rows = []
    print(HEAD, flush=True)
    for name, make in sets(Maker(setup), args.shared):
        if args.sets not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows.append(bench.measure(name, make(), Path(folder)))
        print(line(rows[-1]), flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"unseen_frames": len(frames), "results": rows}, indent=2))
    wrong = [
        row["name"]
        for row in rows
        if row["verdict"] == "pass" and (row["unseen_max"] > MAX_ERROR or row["unseen_wrong_signs"])
    ]
    print(f"passed and wrong beyond their samples: {', '.join(wrong) or 'none'}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
