"""Builder, actor and guard under load for minutes, and at the rates of a drive.

Depth at 100 Hz, scans at 40 Hz, odometry at 50 Hz, sampling on, and every 10 s another model takes
over. This process receives the actor's commands, which carry the stamp of the depth frame that they
answer. What must hold, after two minutes (a fifth of a shorter run) to warm up: every frame has its
command, every swap succeeds, no process grows by 1 % or more until the end, by the median slope of
its memory, and the p99 of the latency in the last tenth is that of the first. Then the same nodes
at 30 Hz, with scans at 10 Hz, for what a drive takes. Writes bench_output/soak.json.

Exit codes:
  0  all of it held
  1  something did not
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import latency
import numpy as np
import psutil
from bev import scenes
from latency import MODEL, ROOT, START_LIMIT_S, Receiver

from tractor_bringup.process import Process, stop_all
from tractor_core import robot as robot_module
from tractor_core.paths import default_params_file
from tractor_core.sensors import DepthImage, Intrinsics

SIZES = {
    "424x240": ((240, 424), Intrinsics(212.0, 212.0, 211.5, 119.5)),
    "640x480": ((480, 640), Intrinsics(380.0, 380.0, 319.5, 239.5)),
}
LOAD_HZ, DRIVE_HZ = (100.0, 40.0), (30.0, 10.0)
CONTROL_S = 1 / 30
SWAP_S, ANSWER_LIMIT_S = 10.0, 30.0
WARM_UP_S, WARM_UP_SHARE = 120.0, 0.2
# So many of the longest times between commands are told.
GAPS = 10
# Memory is looked at so often, but at least thirty times.
MEMORY_S, LOOKS = 10.0, 30
STATES = (
    "message", "grids", "depth received", "depth rejected", "bev received", "bev rejected",
    "latency p50 ms", "latency p99 ms", "model refused", "samples kept", "samples dropped",
)  # fmt: skip
MOST_GROWTH = 0.01
# Between two tenths of a run in which nothing changes p99 differs by so much.
MOST_P99_RATIO = 1.25
NODES = {
    "bev_builder": "bev_builder_node",
    "sac_actor": "sac_actor_node",
    "cmd_guard": "cmd_guard_node",
}


def source(size: str, depth_hz: str, scan_hz: str, file: str) -> None:
    """Publish a room with a camera's noise until SIGINT; then write the stamps of the frames."""
    shape, intrinsics = SIZES[size]
    height_m = robot_module.load(default_params_file()).camera.position[2]
    room = scenes(shape, intrinsics, height_m)["room"]
    rng = np.random.default_rng(0)
    frames = []
    for scan, _ in latency.simulated_frames():
        noisy = room * (1.0 + 0.002 * rng.standard_normal(shape))
        frames.append((scan, DepthImage(noisy.astype(np.uint16), intrinsics)))
    stamps = latency.publish(frames, float(depth_hz), float(scan_hz))
    np.array(stamps, np.int64).tofile(file)


class Rover(Receiver):
    """Receives commands and diagnostics, and asks for reloads.

    Attributes:
        commands: stamp (ns), time of arrival (s), latency (ms), whether it moves, a row each.
        states: the values of each node's last diagnostics.
        asked, reloads: how often, and what each answered.
        refusals: why models were not taken, or rolled back.
    """

    def __init__(self) -> None:
        super().__init__()
        from diagnostic_msgs.msg import DiagnosticArray
        from std_srvs.srv import Trigger

        self.commands: list[tuple[int, float, float, bool]] = []
        self.states: dict[str, dict[str, str]] = {}
        self.asked, self.reloads = 0, list[tuple[bool, str]]()
        self.refusals: set[str] = set()
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._client = self._node.create_client(Trigger, "/sac_actor/reload_model")

    def _receive(self, message: Any) -> None:
        super()._receive(message)
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        late_ms = (self._clock.now().nanoseconds - stamp_ns) * 1e-6
        moves = bool(message.twist.linear.x or message.twist.angular.z)
        self.commands.append((stamp_ns, time.monotonic(), late_ms, moves))

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            values = {value.key: value.value for value in status.values}
            self.states[status.name] = values | {"message": status.message}
            if refusal := values.get("model refused"):
                self.refusals.add(refusal)

    def reload(self) -> None:
        """Ask for a reload; the answer comes while it receives."""
        self.asked += 1
        future = self._client.call_async(self._client.srv_type.Request())
        future.add_done_callback(self._on_reload)

    def _on_reload(self, future: Any) -> None:
        self.reloads.append((future.result().success, future.result().message))


class Processes:
    """What the nodes take: memory (MB) at each look, and shares of a core since the first."""

    def __init__(self, processes: dict[str, Process]) -> None:
        self._found = {name: psutil.Process(p.process.pid) for name, p in processes.items()}
        self.begin()

    def begin(self) -> None:
        """Begin anew."""
        self.times_s: list[float] = []
        self.memory_mb: dict[str, list[float]] = {name: [] for name in self._found}
        self._began = {name: self._cpu_s(name) for name in self._found}
        self._began_s = time.monotonic()

    def look(self) -> None:
        """Take note of the memory."""
        self.times_s.append(time.monotonic())
        for name, process in self._found.items():
            self.memory_mb[name].append(process.memory_info().rss / 1e6)

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return share of a core (%), memory at the end and at each look (MB), its growth."""
        span_s = time.monotonic() - self._began_s
        return {
            name: {
                "core_percent": 100.0 * (self._cpu_s(name) - self._began[name]) / span_s,
                "memory_mb": self.memory_mb[name][-1],
                "memory_looks_mb": [round(value, 1) for value in self.memory_mb[name]],
                "growth": growth(self.times_s, self.memory_mb[name]),
            }
            for name in self._found
        }

    def _cpu_s(self, name: str) -> float:
        times = self._found[name].cpu_times()
        return times.user + times.system


def growth(times_s: list[float], values: list[float]) -> float:
    """Return by which share something grows from first to last, by the median of all slopes."""
    slopes = [
        (later - earlier) / (end - start)
        for (start, earlier), (end, later) in itertools.combinations(zip(times_s, values), 2)
    ]
    return float(np.median(slopes) * (times_s[-1] - times_s[0]) / np.median(values))


def two_models(folder: Path) -> list[str]:
    """Write the reference actor twice, of which one has another digest; return where they are."""
    import onnx

    model = onnx.load(MODEL)
    targets = []
    for name in ("one", "other"):
        model.doc_string = name
        targets.append(f"versions/{name}/actor.onnx")
        (folder / targets[-1]).parent.mkdir(parents=True)
        onnx.save(model, folder / targets[-1])
    return targets


def lead(link: Path, target: str) -> None:
    """Let a link lead elsewhere, at once."""
    new = link.with_name("new")
    new.symlink_to(target)
    new.replace(link)


def run(
    rover: Rover, seconds: float, size: str, rates_hz: tuple[float, float], swapping: bool
) -> dict[str, Any]:
    """Run the nodes for so long after they have warmed up, and return what was measured."""
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        targets, link = two_models(folder), folder / "drives.onnx"
        lead(link, targets[0])
        own = {
            "sac_actor": {
                "model": str(link), "backend": "onnx", "calibration_dir": str(folder / "samples"),
                "enable_stamped_cmd_vel": True,
            },
            # The odometry stands still, whatever it is told.
            "cmd_guard": {"enable_stamped_cmd_vel": True, "stuck_stop_s": 0.0},
        }  # fmt: skip
        nodes = {
            node: Process.of_node(
                node, f"tractor_inference.nodes.{module}", ROOT / "config" / "sac_rover.yaml",
                folder / f"{node}.log", cwd=folder, **own.get(node, {}),
            )
            for node, module in NODES.items()
        }  # fmt: skip
        stamps_file = folder / "stamps"
        part = [__file__, "--part", size, *map(str, rates_hz), str(stamps_file)]
        sensors = Process(part, folder / "source.log")
        processes = Processes(nodes)
        try:
            rover.wait_for_first(START_LIMIT_S, [*nodes.values(), sensors])
            rover.spin(min(WARM_UP_S, WARM_UP_SHARE * seconds))
            processes.begin()
            rover.commands, rover.asked, rover.reloads, rover.refusals = [], 0, [], set()
            began_s = swap_s = look_s = time.monotonic()
            swaps_s: list[float] = []
            while (now_s := time.monotonic()) < began_s + seconds:
                if now_s >= look_s:
                    processes.look()
                    look_s += min(MEMORY_S, seconds / LOOKS)
                if swapping and now_s >= swap_s:
                    swaps_s.append(now_s)
                    lead(link, targets[len(swaps_s) % 2])
                    rover.reload()
                    swap_s += SWAP_S
                rover.spin(0.05)
            found = {"processes": processes.figures()}
            commands, end_s = [*rover.commands], time.monotonic() + ANSWER_LIMIT_S
            while len(rover.reloads) < rover.asked and time.monotonic() < end_s:
                rover.spin(0.05)
            reloads, states = [*rover.reloads], dict(rover.states)
            refused = {text for success, text in reloads if not success} | rover.refusals
        finally:
            stop_all([sensors])
            stop_all(nodes.values())
        sent = np.fromfile(stamps_file, np.int64)
        found |= judged(commands, sent) | {"longest_gaps": longest_gaps(commands, swaps_s)}
        found["swaps_asked"], found["swaps"] = rover.asked, len(reloads)
        found["swaps_refused"] = sorted(refused)
        found["samples"] = len(list((folder / "samples").glob("calib_*.npz")))
        found["states"] = {
            node: {k: v for k, v in states.get(node, {}).items() if k in STATES} for node in NODES
        }
    return found


def judged(commands: list[tuple[int, float, float, bool]], sent: np.ndarray) -> dict[str, Any]:
    """Return frames, commands, what was missed, and the latency in tenths."""
    stamps = np.array([stamp for stamp, *_ in commands])
    arrivals_s = np.array([arrival for _, arrival, *_ in commands])
    moving = np.array([moves for *_, moves in commands])
    answered = np.isin(stamps, sent)
    if not answered.any():
        raise SystemExit("no command answers a frame: see the logs of the nodes")
    frames = sent[(sent >= stamps[answered][0]) & (sent <= stamps[answered][-1])]
    late_ms = np.array([late for *_, late, _ in commands])[answered]
    tenths = [np.percentile(tenth, [50, 99]) for tenth in np.array_split(late_ms, 10)]
    gaps_s = np.diff(arrivals_s[answered])
    return {
        "frames": len(frames),
        "commands": int(answered.sum()),
        "frames_without_command": int((~np.isin(frames, stamps)).sum()),
        "stops": int((~answered | ~moving).sum()),
        "control_ticks_missed": int((np.rint(gaps_s / CONTROL_S) - 1.0).clip(0.0).sum()),
        "longest_gap_ms": 1e3 * float(gaps_s.max()),
        "p50_ms": [float(p50) for p50, _ in tenths],
        "p99_ms": [float(p99) for _, p99 in tenths],
    }


def longest_gaps(
    commands: list[tuple[int, float, float, bool]], swaps_s: list[float]
) -> list[dict[str, float | None]]:
    """Return the longest times between commands (ms), when (s), and how long after a swap (s)."""
    arrivals_s = np.array([arrival for _, arrival, *_ in commands])
    gaps_s, found = np.diff(arrivals_s), []
    for i in np.argsort(-gaps_s)[:GAPS]:
        before = [swap_s for swap_s in swaps_s if swap_s <= arrivals_s[i + 1]]
        found.append({
            "ms": 1e3 * float(gaps_s[i]), "at_s": float(arrivals_s[i] - arrivals_s[0]),
            "after_swap_s": float(arrivals_s[i + 1] - before[-1]) if before else None,
        })  # fmt: skip
    return found


def claims(found: dict[str, Any]) -> dict[str, bool]:
    """Return what must hold of a run under load, and whether it did."""
    first, last = found["p99_ms"][0], found["p99_ms"][-1]
    return {
        "every frame has its command": found["frames_without_command"] == 0,
        "no stop": found["stops"] == 0,
        "every swap succeeded": (
            not found["swaps_refused"] and found["swaps"] == found["swaps_asked"]
        ),
        f"memory grows by less than {MOST_GROWTH:.0%}": all(
            row["growth"] < MOST_GROWTH for row in found["processes"].values()
        ),
        f"p99 at the end at most {MOST_P99_RATIO:g} times that at the start": (
            last <= MOST_P99_RATIO * first
        ),
    }


def say(name: str, found: dict[str, Any]) -> None:
    """Print a run."""
    print(
        f"{name}: {found['frames']} depth frames, {found['commands']} commands, "
        f"{found['frames_without_command']} frames without one, {found['stops']} stops, "
        f"{found['control_ticks_missed']} ticks of 1/30 s missed, longest gap "
        f"{found['longest_gap_ms']:.0f} ms, {found['swaps']} swaps"
    )
    print("  tenths  " + "".join(f"{number:8}" for number in range(1, 11)))
    for key in ("p50_ms", "p99_ms"):
        print(f"  {key[:3]} ms  " + "".join(f"{value:8.2f}" for value in found[key]))
    print("  process        core %   memory MB   growth %")
    for node, row in found["processes"].items():
        print(
            f"  {node:12}{row['core_percent']:9.1f}{row['memory_mb']:12.0f}"
            f"{100 * row['growth']:11.2f}"
        )


def main(argv: list[str] | None = None) -> int:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("bench_output/soak.json"))
    parser.add_argument("--minutes", type=float, default=10.0, help="under load")
    parser.add_argument("--drive-minutes", type=float, default=1.0, help="at the rates of a drive")
    parser.add_argument("--size", choices=SIZES, default="424x240", help="of the depth image")
    parser.add_argument("--part", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.part is not None:
        source(*args.part)
        return 0
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(ROOT / "config" / "fastdds.xml")
    rover = Rover()
    load = run(rover, 60.0 * args.minutes, args.size, LOAD_HZ, swapping=True)
    drive = run(rover, 60.0 * args.drive_minutes, args.size, DRIVE_HZ, swapping=False)
    held = claims(load)
    machine = {"cores": os.cpu_count(), "load_average": os.getloadavg()}
    result = {"size": args.size, "machine": machine, "load": load, "drive": drive, "claims": held}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    say(f"load, {args.size}", load)
    say(f"drive, {args.size}", drive)
    for claim, holds in held.items():
        print(f"{'held' if holds else 'FAILED'}: {claim}")
    print(f"load average {machine['load_average'][0]:.1f} on {machine['cores']} cores")
    print(f"wrote {args.out}")
    return int(not all(held.values()))


if __name__ == "__main__":
    sys.exit(main())
