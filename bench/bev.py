"""What a grid costs: the suite's kernels against plain numpy and against C, in one process.

Every implementation rasterizes the same frames in turn, so that a change of the machine's speed
meets all of them; ratios count, not microseconds. "median" is one call between calls of the others,
"hot" a call among calls of its own. Writes bench_output/bev.json.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numba import njit

from tractor_core import contract as contract_module
from tractor_core import robot as robot_module
from tractor_core.bev.builder import BevBuilder
from tractor_core.bev.geometry import geometry
from tractor_core.bev.numba_kernel import NumbaKernel, _count_pixels, _mark_counted
from tractor_core.bev.opencv_kernel import OpenCvKernel
from tractor_core.bev.parameters import BevParameters
from tractor_core.paths import default_params_file
from tractor_core.sensors import DepthImage, Intrinsics, Scan

HERE = Path(__file__).resolve().parent
SIZES = {
    "848x100": ((100, 848), Intrinsics(425.0, 425.0, 423.5, 49.5)),
    "640x480": ((480, 640), Intrinsics(380.0, 380.0, 319.5, 239.5)),
    "1280x720": ((720, 1280), Intrinsics(640.0, 640.0, 639.5, 359.5)),
}
# The one that ratios are taken from.
TYPICAL = "room"
ROUNDS = 60
HOT_BLOCKS, HOT_CALLS = 5, 30
HOT_BLOCK_S = 0.25
SHIFT = 20
# Roll and yaw beside the pitch.
TURNED = (0.18, 0.0, 0.15, 0.1, 0.05, 0.4)
SETUP = """
import sys, time
started = time.perf_counter()
sys.path[:0] = {paths!r}
import numpy as np
from tractor_core import contract, robot
from tractor_core.bev.builder import BevBuilder
from tractor_core.bev.parameters import BevParameters
from tractor_core.sensors import DepthImage, Intrinsics, Scan
def resident_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024
base = resident_mb()
file = {params!r}
builder = BevBuilder(contract.load(file), robot.load(file), BevParameters(), {kernel!r})
scan = Scan(np.full(450, 1.0, np.float32), 0.0, 0.01, 0.05, 12.0)
image = DepthImage(np.full((100, 848), 1500, np.uint16), Intrinsics(425.0, 425.0, 423.5, 49.5))
assert builder.build(scan, image).any()
print(time.perf_counter() - started, resident_mb() - base)
"""


class Frame(ctypes.Structure):
    """struct frame of reference.c."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("height", "width", "cells", "least")),
        *((n, ctypes.c_void_p) for n in ("low", "high", "inside", "row_step", "column_step")),
        *((name, ctypes.c_int32) for name in ("row", "column")),
        *((name, ctypes.c_void_p) for name in ("counts", "out")),
    )


def scenes(shape: tuple[int, int], k: Intrinsics, camera_height_m: float) -> dict[str, np.ndarray]:
    """Return depth images, uint16 mm, of a level camera: what a rover sees, and extremes."""
    rng = np.random.default_rng(0)
    height, width = shape
    right = (np.arange(width) - k.cx) / k.fx
    down = (np.arange(height) - k.cy) / k.fy
    floor_m = np.where(down > 0, camera_height_m / np.maximum(down, 1e-9), 99.0)[:, None]
    noise = 1.0 + 0.005 * rng.standard_normal(shape)

    walls_m = np.minimum(3.5, 1.1 / np.maximum(np.abs(right), 1e-9))[None, :]
    corridor = np.minimum(walls_m, floor_m) * noise
    room = corridor.copy()
    for left, end, distance_m, top in ((0.15, 0.3, 1.4, -0.05), (0.45, 0.6, 0.9, 0.02)):
        box = (down > top)[:, None] & (right > right[int(left * width)])
        box &= right < right[int(end * width)]
        room = np.where(box, np.minimum(room, distance_m), room)
    # Stereo cameras lose patches, and see points between a near edge and what is behind it.
    patches = rng.random((height // 8 + 1, width // 8 + 1)) < 0.15
    room[np.kron(patches, np.ones((8, 8), bool))[:height, :width]] = 0.0
    flying = rng.random(shape) < 0.01
    room[flying] = rng.uniform(0.3, 3.0, flying.sum())
    pictures = {
        "room": room,
        "corridor": corridor,
        "near wall": np.full(shape, 0.6) * noise,
        "far wall": np.full(shape, 3.0) * noise,
        "no depth": np.zeros(shape),
        "random": rng.uniform(0.2, 2.5, shape),
    }
    return {
        name: np.rint(m * 1000).clip(0, 65535).astype(np.uint16) for name, m in pictures.items()
    }


def plain_numpy(depth, scan, contract, robot, limits):
    """Draw the grid as numpy code is written when its speed is not thought of."""
    grid = np.zeros(contract.bev_shape, np.float32)
    grid[1] = plain_numpy_depth(depth, contract, robot, limits)
    half, res, n = contract.grid_extent_m / 2, contract.resolution_m, contract.grid_cells
    good = (scan.ranges_m >= scan.range_min_m) & (scan.ranges_m <= scan.range_max_m)
    r, angle = scan.ranges_m[good], scan.angles_rad[good]
    points = np.stack([r * np.cos(angle), r * np.sin(angle), np.zeros(len(r))], axis=1)
    points = points @ robot.lidar.rotation.T + robot.lidar.position
    row = np.floor((half - points[:, 0]) / res).astype(int)
    col = np.floor((half - points[:, 1]) / res).astype(int)
    inside = (row >= 0) & (row < n) & (col >= 0) & (col < n)
    grid[0][row[inside], col[inside]] = 1.0
    centre = half - (np.arange(n) + 0.5) * res
    grid[:, np.outer(abs(centre) <= robot.half_length_m, abs(centre) <= robot.half_width_m)] = 0.0
    return grid


def plain_numpy_depth(depth, contract, robot, limits):
    """Draw the depth channel: a point a pixel, a mask a limit, a histogram."""
    k, half = depth.intrinsics, contract.grid_extent_m / 2
    res, n = contract.resolution_m, contract.grid_cells
    z = depth.pixels.astype(np.float32) * 0.001
    u, v = np.meshgrid(np.arange(z.shape[1]), np.arange(z.shape[0]))
    x = (u - k.cx) * z / k.fx
    y = (v - k.cy) * z / k.fy
    points = np.stack([z, -x, -y], axis=-1).reshape(-1, 3)
    points = points @ robot.camera.rotation.T + robot.camera.position
    z = z.reshape(-1)
    good = (z > 0) & (z >= limits.depth_min_m) & (z <= limits.depth_max_m)
    good &= points[:, 2] >= limits.obstacle_min_height_m
    good &= points[:, 2] <= limits.obstacle_max_height_m
    points = points[good]
    row = np.floor((half - points[:, 0]) / res).astype(int)
    col = np.floor((half - points[:, 1]) / res).astype(int)
    inside = (row >= 0) & (row < n) & (col >= 0) & (col < n)
    counts = np.zeros((n, n), int)
    np.add.at(counts, (row[inside], col[inside]), 1)
    return counts >= limits.min_points


@njit(fastmath={"contract"}, error_model="numpy")
def _numba_depth(pixels, rows, camera, plan, spare_bits, counts, targets, words, out, out_words):
    cells, spare = np.int32(plan[0]), np.int32(plan[1])
    _count_pixels(pixels, rows, camera, cells, spare, spare_bits, counts, targets, words)
    _mark_counted(counts, plan, out, out_words)


class References:
    """The C of reference.c, compiled for this machine."""

    def __init__(self) -> None:
        self.missing = ""
        self._keep: list = []
        gcc = shutil.which("gcc")
        if gcc is None:
            self.missing = "gcc is not there: no comparison with C (apt install gcc)"
            return
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "reference.so"
            subprocess.run(
                [gcc, "-O3", "-march=native", "-shared", "-fPIC", "-o", library,
                 HERE / "reference.c"],
                check=True,
            )  # fmt: skip
            self._c = ctypes.CDLL(str(library))
        if not self._c.has_avx512():
            self.missing = "this CPU has no AVX-512: no comparison with it"

    def of(self, depth, scan, contract, robot, limits) -> dict[str, Callable[[], object]]:
        """Return the implementations that there are, for frames like this one."""
        if not hasattr(self, "_c"):
            return {}
        g = geometry(contract, robot, limits, depth)
        height, width = depth.pixels.shape
        row, above = g.rows[0], g.rows[2]
        nearest, farthest, lowest, highest = g.limits
        column = g.rows[1, 0] + g.slopes[1] * np.arange(width)
        with np.errstate(divide="ignore"):
            ends = np.sort([lowest / above, highest / above], axis=0)
            inside = np.where(column > 0, g.column0, g.column0 - g.cells) / column
        low = np.ceil(np.maximum(ends[0], nearest)).clip(0, 65535)
        high = np.floor(np.minimum(np.minimum(ends[1], farthest), g.row0 / row - 0.01))
        tables = dict(
            low=low.astype(np.uint16),
            high=high.clip(0, 65535).astype(np.uint16),
            inside=np.floor(inside - 0.01).clip(0, 65535).astype(np.uint16),
            row_step=np.rint(row * 2**SHIFT).astype(np.int32),
            column_step=np.rint(column * 2**SHIFT).astype(np.int32),
            counts=np.zeros(g.cells**2, np.int32),
            out=np.zeros((g.cells, g.cells), np.uint8),
        )
        self._keep.append(tables)
        frame = Frame(
            height=height, width=width, cells=g.cells, least=g.min_points,
            row=round(g.row0 * 2**SHIFT), column=round(g.column0 * 2**SHIFT),
            **{name: table.ctypes.data for name, table in tables.items()},
        )  # fmt: skip
        pixels = depth.pixels.ctypes.data
        names = ["read_only", "depth_c_scalar"]
        names += ["depth_c_avx512"] if self._c.has_avx512() else []
        calls: dict[str, Callable[[], object]] = {}
        for name in names:
            function = getattr(self._c, name)
            function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_void_p], None
            calls[name] = lambda f=function: (
                f(pixels, ctypes.addressof(frame)), tables["out"]
            )[1]  # fmt: skip
        return calls


def implementations(depth, scan, contract, robot, limits, references):
    """Return {name: call} of everything that is measured."""
    turned = dataclasses.replace(robot, camera_pose=TURNED)
    full, fallback, general = (
        BevBuilder(contract, body, limits, kernel)
        for body, kernel in ((robot, "numba"), (robot, "opencv"), (turned, "numba"))
    )
    g = geometry(contract, robot, limits, depth)
    tables, opencv = NumbaKernel(g), OpenCvKernel(g)
    opencv._make_tables(depth.pixels.dtype)
    out = np.zeros((g.cells, g.cells, 2), np.float32)
    memory = (
        tables._rows, tables._camera, tables._plan, tables._spare_bits, tables._counts,
        tables._targets, tables._targets.view(np.uint64), out, out.reshape(-1).view(np.uint64),
    )  # fmt: skip

    def numba_depth():
        _numba_depth(depth.pixels, *memory)
        return out[:, :, 1]

    return {
        "full_numba": lambda: full.build(scan, depth),
        "full_numba_turned": lambda: general.build(scan, depth),
        "full_opencv": lambda: fallback.build(scan, depth),
        "full_numpy": lambda: plain_numpy(depth, scan, contract, robot, limits),
        "depth_numba": numba_depth,
        "depth_opencv": lambda: opencv._occupied(depth.pixels),
        "depth_numpy": lambda: plain_numpy_depth(depth, contract, robot, limits),
        **references.of(depth, scan, contract, robot, limits),
    }


def check(calls: dict[str, Callable], footprint: tuple[int, int, int, int]) -> None:
    """Refuse to measure implementations that do not mark the same cells."""
    expected = np.array(calls["depth_numpy"](), bool)
    for name, call in calls.items():
        if name in ("read_only", "full_numba_turned"):
            continue
        got = np.array(call()[1] if name.startswith("full") else call(), bool)
        if name.startswith("full"):
            top, bottom, left, right = footprint
            expected_here = expected.copy()
            expected_here[top:bottom, left:right] = False
        else:
            expected_here = expected
        differing = int((got != expected_here).sum())
        # Points on the border of two cells, by rounding.
        if differing > 0.002 * expected.size:
            raise SystemExit(f"{name}: {differing} cells differ from plain numpy")


def microseconds(call: Callable[[], object]) -> float:
    """Return what one call takes."""
    started = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - started) / 1e3


def measure(calls: dict[str, Callable], rounds: int) -> dict[str, dict[str, float]]:
    """Return {name: {median_us, hot_us, p99_us}}."""
    alternated: dict[str, list[float]] = {name: [] for name in calls}
    hot: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            alternated[name].append(microseconds(call))
    for _ in range(min(HOT_BLOCKS, rounds)):
        for name, call in calls.items():
            call()
            end = time.perf_counter() + HOT_BLOCK_S
            for _ in range(HOT_CALLS):
                hot[name].append(microseconds(call))
                if time.perf_counter() > end:
                    break
    return {
        name: dict(
            median_us=float(np.median(alternated[name])),
            hot_us=float(np.median(hot[name])),
            p99_us=float(np.percentile(alternated[name], 99)),
        )
        for name in calls
    }


def ratios(rows: list[dict]) -> dict[str, float]:
    """Return the ratios of hot medians in the typical scene, by size, and what they vary with."""
    hot = {(row["name"], row["size"], row["scene"]): row["hot_us"] for row in rows}
    found = {}
    for size in SIZES:
        for name, above, below in (
            ("full_vs_numpy", "full_numpy", "full_numba"),
            ("depth_vs_c_scalar", "depth_numba", "depth_c_scalar"),
            ("depth_vs_c_avx512", "depth_numba", "depth_c_avx512"),
            ("fallback_vs_numpy", "depth_numpy", "depth_opencv"),
            ("turned_vs_pitched", "full_numba_turned", "full_numba"),
        ):
            pair = [hot.get((n, size, TYPICAL)) for n in (above, below)]
            if None not in pair:
                found[f"{name}_{size}"] = pair[0] / pair[1]
        costs = [us for (name, at, _), us in hot.items() if (name, at) == ("full_numba", size)]
        found[f"dearest_vs_cheapest_scene_{size}"] = max(costs) / min(costs)
        height, width = SIZES[size][0]
        found[f"ns_per_pixel_{size}"] = hot["full_numba", size, TYPICAL] * 1e3 / (height * width)
    return found


def set_up_costs(params_file: str) -> dict[str, float]:
    """Return seconds from the start of the import to the first grid, and the memory it takes."""
    found = {}
    paths = [path for path in sys.path if path]
    with tempfile.TemporaryDirectory() as cache:
        for name, kernel in (
            ("numba_cold", "numba"), ("numba_cached", "numba"), ("opencv", "opencv"),
        ):  # fmt: skip
            code = SETUP.format(paths=paths, params=params_file, kernel=kernel)
            run = subprocess.run(
                [sys.executable, "-c", code],
                env={"NUMBA_CACHE_DIR": cache, "PATH": ""}, capture_output=True, text=True,
                check=True,
            )  # fmt: skip
            seconds, megabytes = map(float, run.stdout.split())
            found |= {f"{name}_s": seconds, f"{name}_mb": megabytes}
    return found


def table(rows: list[dict]) -> str:
    """Return the figures as text."""
    lines = [
        f"{'size':9} {'scene':10} {'implementation':18} {'median':>9} {'hot':>9} {'p99':>9}  us"
    ]
    for row in rows:
        lines.append(
            f"{row['size']:9} {row['scene']:10} {row['name']:18} "
            f"{row['median_us']:9.1f} {row['hot_us']:9.1f} {row['p99_us']:9.1f}"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench_output/bev.json"))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="calls in turn with the others")
    arguments = parser.parse_args(argv)
    params_file = str(default_params_file())
    contract, robot = contract_module.load(params_file), robot_module.load(params_file)
    limits = BevParameters()
    angles = np.linspace(-np.pi, np.pi, 450, endpoint=False)
    ranges = np.minimum(1.1 / np.maximum(np.abs(np.sin(angles)), 1e-9), 3.0).astype(np.float32)
    scan = Scan(ranges, -np.pi, 2 * np.pi / 450, 0.05, 12.0)
    references = References()
    if references.missing:
        print(references.missing)
    rows = []
    for size, (shape, intrinsics) in SIZES.items():
        for scene, pixels in scenes(shape, intrinsics, robot.camera.z).items():
            depth = DepthImage(pixels, intrinsics)
            calls = implementations(depth, scan, contract, robot, limits, references)
            check(calls, geometry(contract, robot, limits, depth).footprint)
            figures = measure(calls, arguments.rounds)
            rows += [{"name": n, "size": size, "scene": scene, **f} for n, f in figures.items()]
            print(f"measured {size} {scene}", file=sys.stderr)
    result = {"results": rows, "ratios": ratios(rows), "set_up": set_up_costs(params_file)}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(table(rows))
    for name in ("ratios", "set_up"):
        print(f"\n{name}, of the scene {TYPICAL!r}" if name == "ratios" else "\nset-up")
        for key, value in result[name].items():
            print(f"  {key:36} {value:8.2f}")
    print(f"\nwrote {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
