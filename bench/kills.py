"""What `kill -9` leaves: samplers and conversions, killed at random times, then started anew.

A process samples as fast as its disk takes the files, is killed within half a second, and the next
one starts in the same folder; the last one stays for as long as a start may take to tidy up. A
third of the conversions run the real toolkit; the others one that answers at once, and half of
those are killed while they publish. Each is killed without its children; after some of them a whole
conversion follows. Counts the files that cannot be read, and the files and processes that stay.
Writes bench_output/kills.json.

Exit codes:
  0  everything can be read, nothing stays
  1  a file cannot be read, or something stays
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
from sampling import random_frame

from tractor_calibration.conversion import stages, toolkit_child
from tractor_calibration.parameters import ConvertParameters, Request
from tractor_calibration.store import folder as models_folder
from tractor_core import contract as contract_module
from tractor_core import samples
from tractor_core.errors import TractorError
from tractor_core.observation import Observation
from tractor_core.paths import default_params_file
from tractor_core.reference_observations import Origin
from tractor_inference.model import limited, manifest
from tractor_inference.recording.recorder import Recorder, RecorderParameters
from tractor_inference.recording.sampler import RECOUNT_S

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "sac_actor_reference.onnx"
# What each process would import is there already.
FORKING = multiprocessing.get_context("fork")
SAMPLED_HZ, KEPT = 300.0, 40
LONGEST_S, START_LIMIT_S = 0.5, 60.0
# What is unfinished is removed within 15 s of a start.
TIDY_S = 15.0
CALIBRATING = 40
# So many conversions are killed, then one comes to its end.
WHOLE_EVERY = 5
# Answers as rknn-toolkit2's process does, with the actions of the ONNX.
QUICK_TOOLKIT = [
    sys.executable,
    "-c",
    f"""{limited.TIED_TO_STARTER}
import json
from pathlib import Path
import numpy as np
from tractor_inference.model.onnx import session as onnx_session
folder = Path(sys.argv[1])
builds = json.loads((folder / "job.json").read_text())["builds"]
frames, grids = np.load(folder / "frames.npz"), np.load(folder / "grids.npy")
for name in builds:
    session = onnx_session.open_session((folder / f"{{name}}.onnx").read_bytes())
    answers = [
        session.run(["action"], {{"bev": grid[None], "proprio": proprio[None]}})[0][0]
        for grid, proprio in zip(grids, frames["proprio"])
    ]
    np.savez(folder / f"{{name}}.npz", actions=answers, repeated=answers[:3])
    (folder / f"{{name}}.rknn").write_bytes(os.urandom(1000))
    builds[name] = {{"seconds": 1.0, "infer_ms": 1.0, "layers": [], "no_layers": "no toolkit"}}
result = {{"builds": builds, "toolkit": "2.5.0", "python": "3"}}
(folder / "result.json").write_text(json.dumps(result))
""",
]
# Processes of a conversion are found by this variable of their environment.
MARK = "KILLS_MARK"
GONE_LIMIT_S = 5.0


def sample(folder: Path, begun: Event, starter: int) -> None:
    """Sample random frames for as long as the process that started this one lives."""
    contract = contract_module.load(default_params_file())
    recorder = Recorder(contract)
    parameters = RecorderParameters(
        calibration_dir=str(folder), sample_probability=1.0, sample_keep=KEPT,
        sample_retention="reservoir", experience_dir="",
    )  # fmt: skip
    rng = np.random.default_rng()
    frames = [random_frame(rng, contract) for _ in range(50)]
    recorder.open(parameters, "/")
    begun.set()
    for frame in itertools.cycle(frames):
        if os.getppid() != starter:
            return
        recorder.take(Observation(frame.bev, frame.proprio, time.time_ns()), (), {})
        time.sleep(1.0 / SAMPLED_HZ)


def convert(folder: Path, quick: bool) -> None:
    """Convert in a folder of `Conversions`: to INT8 with the quick toolkit, or to FP16."""
    os.environ |= {"TMPDIR": str(folder / "temporary"), MARK: str(folder)}
    tempfile.tempdir = None
    file = default_params_file()
    request = Request(
        folder / "models" / "actor.onnx", folder / "models" / "actor.rknn",
        quick, folder / "samples" if quick else None, file,
        Origin.load(file), ConvertParameters(), accept_warnings=quick, allow_fp16=quick,
    )  # fmt: skip
    stages.convert(request, QUICK_TOOLKIT if quick else toolkit_child.CHILD)


def kill_samplers(count: int, folder: Path, rng: random.Random) -> Counter[str]:
    """Kill samplers of one folder, and return what was seen."""
    contract = contract_module.load(default_params_file())
    seen = Counter({"killed": 0, "unreadable files": 0, "orphans": 0})
    for number in range(count + 1):
        begun = FORKING.Event()
        process = FORKING.Process(target=sample, args=(folder, begun, os.getpid()))
        process.start()
        assert begun.wait(START_LIMIT_S), "the sampler did not start"
        last = number == count
        time.sleep(TIDY_S if last else rng.uniform(0.0, LONGEST_S))
        process.kill()
        process.join()
        seen["killed"] += not last
        if not last:
            seen["files unfinished before the last start"] = len(list(folder.glob(".*")))
        for file in samples.list_files(folder):
            try:
                samples.read(file, contract)
                seen["files read"] += 1
                # The next one begins to write at once, instead of reading what is there.
                file.unlink()
            except TractorError as error:
                seen["unreadable files"] += 1
                print(f"UNREADABLE: {error}", file=sys.stderr)
        print(f"\rsamplers killed: {seen['killed']}", end="", file=sys.stderr)
    # Of the last one, killed too, an unfinished file may be there: an older one may not.
    orphans = [p for p in folder.glob(".*") if time.time() - p.stat().st_mtime > RECOUNT_S]
    seen["orphans"] = len(orphans)
    return seen


class Conversions:
    """Conversions in a folder of their own that are killed, and what that leaves.

    Args:
        folder: an empty one.
        seen: counts.
    """

    def __init__(self, folder: Path, seen: Counter[str]) -> None:
        self._folder, self._seen = folder, seen
        self._contract = contract_module.load(default_params_file())
        self._models, self._samples, self._temporary = (
            folder / name for name in ("models", "samples", "temporary")
        )
        for made in (self._models, self._temporary):
            made.mkdir()
        (self._models / "actor.onnx").write_bytes(MODEL.read_bytes())
        frames_rng = np.random.default_rng(0)
        for _ in range(CALIBRATING):
            samples.write(self._samples, random_frame(frames_rng, self._contract), self._contract)

    def whole(self, quick: bool) -> float:
        """Run a conversion to its end, see that nothing else stays, and return how long it took."""
        started_s = time.monotonic()
        process = FORKING.Process(target=convert, args=(self._folder, quick))
        process.start()
        process.join()
        assert process.exitcode == 0, "a conversion failed"
        took_s = time.monotonic() - started_s
        self._require_model()
        self._count("orphans", [
            *self._models.glob(".*"), *self._samples.glob(".*"), *self._temporary.iterdir(),
        ])  # fmt: skip
        return took_s

    def kill(self, quick: bool, after_s: float, sign: Callable[[], bool] | None = None) -> None:
        """Kill a conversion some time after its start, or after a sign of it."""
        process = FORKING.Process(target=convert, args=(self._folder, quick))
        process.start()
        while sign is not None and process.is_alive() and not sign():
            time.sleep(0.0005)
        process.join(after_s)
        process.kill()
        process.join()
        self._seen["killed" if process.exitcode else "ended before"] += 1
        self._require_model()
        end_s = time.monotonic() + GONE_LIMIT_S
        while (left := processes_of(self._folder)) and time.monotonic() < end_s:
            time.sleep(0.01)
        self._count("orphans", left)

    def publishing(self) -> bool:
        """Return whether the one at work has written the version that it is about to publish."""
        return any(self._models.glob(".convert-*/actor.json"))

    def copying(self) -> bool:
        """Return whether the one at work copies the samples that calibrated."""
        return any(self._samples.glob(".rknn_dataset-*"))

    def _require_model(self) -> None:
        """Count what drives, and every version, that is not whole; the first has no model yet."""
        link = self._models / models_folder.LINK
        try:
            if self._seen["whole models read"] or link.exists():
                manifest.load(link, self._contract)
                self._seen["whole models read"] += 1
        except TractorError as error:
            self._count("unreadable files", [error])
        versions = models_folder.versions(self._models, self._contract)
        self._count("unreadable files", [one.broken for one in versions if one.broken])

    def _count(self, kind: str, found: list) -> None:
        self._seen[kind] += len(found)
        for one in found:
            print(f"\n{kind.upper()}: {one}", file=sys.stderr)


def processes_of(folder: Path) -> list[str]:
    """Return the processes that were started for a folder, and have not ended."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{MARK}={folder}".encode() in (place / "environ").read_bytes().split(b"\0"):
                found.append(f"{place.name} {(place / 'cmdline').read_bytes()[:200]!r}")
    return found


def kill_conversions(count: int, real: int, folder: Path, rng: random.Random) -> Counter[str]:
    """Kill so many conversions, so many of them with the real toolkit; return what was seen."""
    seen = Counter({"killed": 0, "unreadable files": 0, "orphans": 0})
    conversions = Conversions(folder, seen)
    quick_s = conversions.whole(quick=True)
    real_s = conversions.whole(quick=False) if real else 0.0
    number = 0
    # Some end before their time has come.
    while seen["killed"] < count:
        if number < real:
            # Each in a part of the time of its own.
            conversions.kill(False, real_s * (number + rng.random()) / real)
        elif number % 2:
            conversions.kill(True, rng.uniform(0.0, quick_s))
        else:
            sign = conversions.copying if number % 6 == 0 else conversions.publishing
            conversions.kill(True, rng.uniform(0.0, 0.05), sign)
        number += 1
        if number % WHOLE_EVERY == 0 or seen["killed"] == count:
            conversions.whole(quick=True)
        print(f"\rconversions killed: {seen['killed']}", end="", file=sys.stderr)
    return seen


def say(seen: dict[str, Counter[str]]) -> None:
    """Print what was seen."""
    print(file=sys.stderr)
    for kind, counts in seen.items():
        found = (f"{name}: {number}" for name, number in counts.items())
        print(f"{kind}: {'; '.join(found)}", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Kill, count, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("bench_output/kills.json"))
    parser.add_argument("--sampling", type=int, default=200, help="samplers to kill")
    parser.add_argument("--converting", type=int, default=50, help="conversions to kill")
    parser.add_argument("--real", type=int, default=16, help="of them with the real toolkit")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the times")
    args = parser.parse_args(argv)
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        sampling, converting = Path(name, "sampling"), Path(name, "converting")
        converting.mkdir()
        seen = {"sampling": kill_samplers(args.sampling, sampling, rng)}
        say(seen)
        seen["converting"] = kill_conversions(args.converting, args.real, converting, rng)
        say({"converting": seen["converting"]})
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"seed": args.seed, **seen}, indent=1) + "\n")
    print(f"wrote {args.out}")
    return int(any(one["unreadable files"] or one["orphans"] for one in seen.values()))


if __name__ == "__main__":
    sys.exit(main())
