"""One drive of the demo: all worlds, or the recordings, with one model."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from tractor_core import outside, samples

from ..processes import Processes, StepError
from .monitor import Monitor
from .results import NAMES, Drive

# None from here on are those that the reference actor was made or judged with. In one room it goes
# round one way; in these six together it turns to both sides, which samples must show.
FIRST_SEED = 2_000_007
WORLDS, MOST_WORLDS = 6, 22
# Both drives take the same time; with fewer moving commands, in proportion, one was disturbed.
LEAST_SHARE = 0.5
# The toolkit's simulator builds its model anew before the actor is ready.
START_LIMIT_S = 120.0
MAX_RESULT_BYTES = 64 * 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Options:
    """What to run: simulated worlds of so many seconds each, or a folder of recordings."""

    output: Path
    params: Path
    actor: Path
    recordings: Path | None
    seconds: float
    wanted_samples: int

    @property
    def logs(self) -> Path:
        """The folder of the logs."""
        return self.output / "logs"


@dataclasses.dataclass(frozen=True)
class Scene:
    """A simulated world that writes its result and ends, or the recordings without end."""

    node: str
    parameters: dict[str, Any]
    note: str
    result_file: Path | None


class _Progress:
    """A bar on a terminal, a line per quarter elsewhere."""

    def __init__(self, total: int, unit: str) -> None:
        self._total, self._unit, self._quarter = total, unit, -1

    def __enter__(self) -> _Progress:
        from tqdm import tqdm

        form = "  [{bar:30}] {n_fmt}/{total_fmt} {unit}, {desc}"
        self._bar = tqdm(
            total=self._total, unit=self._unit, bar_format=form, ascii=".#", file=sys.stdout,
            disable=None, dynamic_ncols=True,
        )  # fmt: skip
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def show(self, done: int, note: str) -> None:
        """Show the state."""
        done = min(done, self._total)
        if not sys.stdout.isatty() and 4 * done // self._total != self._quarter:
            self._quarter = 4 * done // self._total
            print(f"  {done}/{self._total} {self._unit}, {note}", flush=True)
        self._bar.set_description_str(note, refresh=False)
        self._bar.n = done
        self._bar.refresh()


def drive(options: Options, label: str, backend: str, model: Path, keep: int) -> Drive:
    """Drive all worlds, or the looped recordings, with one model.

    Args:
        label: names the files of the drive.
        backend, model: as the actor's parameters take them.
        keep: samples to collect; 0 collects none.
    """
    result = Drive()
    folder = options.output / "calibration_data"
    scenes = WORLDS if options.recordings is None else 1
    total_s = max(1, round(scenes * options.seconds))
    with (
        _Progress(keep or total_s, "samples" if keep else "s") as progress,
        contextlib.closing(Monitor()) as monitor,
        contextlib.closing(Processes(options.params, options.logs)) as processes,
    ):
        processes.start_node("bev_builder", "tractor_inference.nodes.bev_builder_node")
        processes.start_node(
            "sac_actor", "tractor_inference.nodes.sac_actor_node", backend=backend,
            model=str(model), calibration_dir=str(folder), sample_keep=keep,
            experience_dir=str(options.output / "experience"), enable_stamped_cmd_vel=True,
        )  # fmt: skip
        # A recording does not do what it is told, and its surroundings do not yield.
        of_guard: dict[str, Any] = (
            {} if options.recordings is None else {"obstacle_stop": False, "stuck_stop_s": 0.0}
        )
        processes.start_node(
            "cmd_guard", "tractor_inference.nodes.cmd_guard_node", enable_stamped_cmd_vel=True,
            **of_guard,
        )  # fmt: skip
        result.actor_log = processes["sac_actor"].log
        progress.show(0, "starting")
        for name in ("bev_builder", "sac_actor"):
            _wait_until_active(name, processes, monitor)
        for number in range(MOST_WORLDS):
            kept = len(samples.list_files(folder))
            if number >= scenes and kept >= keep:
                break
            scene = _scene(options, label, number)
            # Even a slow machine that keeps one frame in sixty is in time.
            limit_s = 60.0 + 4.0 * options.seconds + 2.0 * keep
            for moved_s in _play(scene, processes, monitor, limit_s):
                kept = len(samples.list_files(folder))
                driven_s = number * options.seconds + min(moved_s, options.seconds)
                progress.show(kept if keep else int(driven_s), scene.note)
                # What is driven only for more samples is not compared.
                if number < scenes and (scene.result_file or moved_s < options.seconds):
                    result.latencies_ms = list(monitor.latencies_ms)
                if options.recordings and moved_s >= options.seconds and kept >= keep:
                    break
            processes.stop(scene.node)
            if number < scenes and scene.result_file is not None:
                text = outside.read_text(scene.result_file, MAX_RESULT_BYTES)
                result.runs.append(result_of(text, scene.node))
        progress.show(kept if keep else total_s, "done")
        result.drift = monitor.drift
        if kept < keep:
            raise StepError(f"expected {keep} samples, kept {kept}; {monitor.actor_state()}")
    if not result.latencies_ms:
        raise StepError(f"no command moved the rover; {monitor.actor_state()}")
    return result


def ensure_alike(drives: dict[str, Drive]) -> None:
    """Check that no drive mostly stood still while the other moved.

    Raises:
        StepError: one has less than LEAST_SHARE of the other's moving commands.
    """
    counts = {label: len(driven.latencies_ms) for label, driven in drives.items()}
    least, most = sorted(counts, key=lambda label: counts[label])
    if counts[least] < LEAST_SHARE * counts[most]:
        raise StepError(
            f"expected about as many moving commands in both drives, found {counts[least]} with "
            f"{NAMES[least]} and {counts[most]} with {NAMES[most]}; why the rover stood still is "
            f"in {drives[least].actor_log}"
        )


def _wait_until_active(name: str, processes: Processes, monitor: Monitor) -> None:
    deadline_s = time.monotonic() + START_LIMIT_S
    while True:
        processes.check()
        problem = monitor.states.get(name, "no diagnostics")
        state = monitor.life_cycle_state(name)
        if state == "active":
            return
        # The node would try again, but what it cannot open now will not come.
        failed = state == "unconfigured" and problem not in ("no diagnostics", "not configured")
        if failed:
            raise StepError(f"{name} cannot be set up; {processes[name].tail()}")
        if time.monotonic() > deadline_s:
            raise StepError(
                f"{name} is not active after {START_LIMIT_S:.0f} s: {problem}; "
                f"{processes[name].tail()}"
            )
        time.sleep(0.1)


def _scene(options: Options, label: str, number: int) -> Scene:
    if options.recordings is not None:
        parameters: dict[str, Any] = {"folder": str(options.recordings.resolve()), "loop": True}
        return Scene("replay", parameters, "recordings", None)
    note = f"world {number + 1} of {WORLDS}"
    if number >= WORLDS:
        note = f"world {number + 1}, for more samples"
    seed = FIRST_SEED + number
    result_file = options.output / "runs" / f"{label}_{seed}.json"
    parameters = {
        "world_seed": seed, "duration_s": options.seconds, "result_file": str(result_file),
        "enable_stamped_cmd_vel": True,
    }  # fmt: skip
    return Scene("sim", parameters, note, result_file)


def _play(scene: Scene, processes: Processes, monitor: Monitor, limit_s: float) -> Iterator[float]:
    """Start a scene; until its node ends yield for how long commands moved the rover, s."""
    heard = len(monitor.latencies_ms)
    module = f"tractor_sim.nodes.{scene.node}_node"
    process = processes.start_node(scene.node, module, **scene.parameters).process
    started_s = time.monotonic()
    moving_since_s = math.inf
    while process.poll() is None:
        processes.check(may_end=scene.node)
        now_s = time.monotonic()
        if now_s - started_s > limit_s:
            raise StepError(
                f"{scene.node} did not end within {limit_s:.0f} s; {monitor.actor_state()}"
            )
        if len(monitor.latencies_ms) > heard:
            moving_since_s = min(moving_since_s, now_s)
        yield max(0.0, now_s - moving_since_s)
        time.sleep(0.2)
    processes.check(may_end=scene.node)


def result_of(text: str | bytes, process: str) -> dict[str, Any]:
    """Return what a process has left as JSON; StepError when it is none."""
    try:
        return outside.json_value(text, MAX_RESULT_BYTES)
    except ValueError as error:
        raise StepError(f"{process}: expected its result as JSON: {error}") from error
