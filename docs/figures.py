"""Draw the pictures of the documentation from the code, the last demo and the last bench.

Usage: .venv/bin/python docs/figures.py [DEMO_OUTPUT]   (after `make demo` and `make bench`)
"""

import dataclasses
import json
import math
import sys
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tractor_bringup.demo.report import draw_world
from tractor_bringup.demo.results import COLOURS, NAMES
from tractor_calibration.pages.plots import CHANNELS, draw_grid
from tractor_core import contract as contract_module
from tractor_core import paths, samples
from tractor_core import robot as robot_module
from tractor_core.bev.builder import BevBuilder
from tractor_core.bev.parameters import BevParameters
from tractor_core.sensors import DepthImage, Intrinsics, Scan
from tractor_sim.replay import read_recording

IMAGES = Path(__file__).parent / "images"
# (x, y) in base_link, m.
POINTS = {"1 m ahead": (1, 0), "1 m left": (0, 1), "1 m behind": (-1, 0), "1 m right": (0, -1)}

RECORDINGS = Path(__file__).parents[1] / "src" / "tractor_sim" / "test" / "recordings"
COSTS = {
    "full_numba": "the suite: both channels",
    "depth_c_scalar": "C, scalar: depth only",
    "depth_c_avx512": "C, AVX-512: depth only",
}
REAL_CAMERA_POSE = (0.0, 0.0, 0.42, 0.0, 0.0, 0.0)


def axes_picture(path: Path) -> None:
    """Build a grid from four scan points and draw where they land."""
    params = paths.default_params_file()
    contract, robot = contract_module.load(params), robot_module.load(params)
    no_depth = DepthImage(np.zeros((1, 1), np.uint16), Intrinsics(1.0, 1.0, 0.0, 0.0))
    figure = Figure(figsize=(6.4, 6.2), layout="constrained")
    axes = figure.subplots()
    total = np.zeros(contract.bev_shape[1:], np.float32)
    for name, (x_m, y_m) in POINTS.items():
        # A LiDAR at the point itself that sees something a hair behind it: no sine blurs the cell.
        shifted = dataclasses.replace(
            robot, lidar_pose=(x_m, y_m, 0.2, 0.0, 0.0, 0.0), lidar_min_range_m=0.0
        )
        builder = BevBuilder(contract, shifted, BevParameters())
        scan = Scan(np.full(1, 1e-3, np.float32), math.pi, 1.0, 0.0, 12.0)
        channel = builder.build(scan, no_depth)[0].copy()
        ((row, col),) = np.argwhere(channel)
        total += channel
        axes.annotate(
            f"{name}\nrow {row}, col {col}", (col, row), (col, row - 4),
            ha="center", va="bottom", fontsize=10,
        )  # fmt: skip
    axes.imshow(total, cmap="Greys", vmin=0, vmax=1)
    half = contract.grid_cells / 2
    cells = 1 / contract.resolution_m
    length, width = 2 * robot.half_length_m * cells, 2 * robot.half_width_m * cells
    axes.add_patch(Rectangle((half - width / 2, half - length / 2), width, length, color="#f3c9a5"))
    for tip, label in (((half, half - 18), "x"), ((half - 18, half), "y")):
        axes.annotate("", tip, (half, half), arrowprops={"arrowstyle": "->", "color": "#c1121f"})
        axes.text(tip[0] - 3, tip[1] - 1, label, color="#c1121f", fontsize=13)
    axes.set(
        xlabel="column (column 0 is left)", ylabel="row (row 0 is ahead)",
        title=f"{contract.grid_cells} x {contract.grid_cells} cells of "
        f"{contract.resolution_m} m, footprint cleared",
    )  # fmt: skip
    figure.savefig(path, dpi=110)


def demo_picture(output: Path, path: Path) -> None:
    """Draw one world of the last demo with both drives, and one kept sample."""
    contract = contract_module.load(paths.default_params_file())
    seed = json.loads((output / "summary.json").read_text())["worlds"][0]
    figure = Figure(figsize=(13, 5.4), layout="constrained")
    world, *channels = figure.subplots(1, 3)
    draw_world(world, seed)
    for label, name in NAMES.items():
        run = json.loads((output / "runs" / f"{label}_{seed}.json").read_text())
        track = np.array(run["trajectory"])
        text = f"{name}: {run['distance_m']:.1f} m, {run['collisions']} collisions"
        world.plot(
            track[:, 0], track[:, 1], color=COLOURS[label], label=text,
            linewidth=4 if label == "onnx" else 1.5,
        )  # fmt: skip
    world.plot(*track[0, :2], "k^")
    world.set(title="driven in a simulated world", xlabel="x, m", ylabel="y, m")
    world.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False)
    frames = [samples.read(f, contract) for f in samples.list_files(output / "calibration_data")]
    busiest = max(frames, key=lambda f: min(f.bev[0].sum(), f.bev[1].sum()))
    for axes, cells, name in zip(channels, busiest.bev, CHANNELS):
        draw_grid(axes, cells, contract.grid_extent_m, f"channel {name}")
    figure.savefig(path, dpi=110, bbox_inches="tight")


def real_depth_picture(path: Path) -> None:
    """Draw what the limits make of two recorded images of a PrimeSense camera.

    The camera's pose was not recorded; a level camera at this height has the floor at zero.
    """
    params = paths.default_params_file()
    contract = contract_module.load(params)
    robot = dataclasses.replace(robot_module.load(params), camera_pose=REAL_CAMERA_POSE)
    no_scan = Scan(np.full(1, np.inf, np.float32), 0.0, 1.0, 0.05, 1.0)
    figure = Figure(figsize=(13, 3.4), layout="constrained")
    panels = figure.subplots(1, 4)
    depths = read_recording(RECORDINGS).depths
    for depth, image, axes in zip((depths[0], depths[-1]), panels[::2], panels[1::2]):
        shown = np.where(depth.pixels > 0, depth.pixels * depth.metres_per_unit, np.nan)
        bar = image.imshow(shown, cmap="viridis")
        figure.colorbar(bar, ax=image, orientation="horizontal", label="depth, m")
        image.set(title=f"{1 - depth.valid_fraction:.0%} holes (white)", xticks=[], yticks=[])
        single, default, closed = (
            BevBuilder(contract, robot, BevParameters(**limits)).build(no_scan, depth)[1] > 0
            for limits in ({"min_points": 1}, {}, {"close_gaps": True})
        )
        picture = np.ones((*default.shape, 3))
        for cells, colour in ((single, "#c1121f"), (closed, "#1f5fa8"), (default, "#000000")):
            picture[cells] = to_rgb(colour)
        half = contract.grid_extent_m / 2
        axes.imshow(picture, extent=(half, -half, -half, half))
        axes.set(
            xlim=(1.2, -1.2), ylim=(0.9, half), xlabel="y, m", ylabel="x, m",
            title=f"{default.sum()} cells; red: {(single & ~default).sum()} of one pixel, "
            f"blue: {(closed & ~single).sum()} gaps",
        )  # fmt: skip
        axes.title.set_fontsize(9)
    figure.savefig(path, dpi=110)


def cost_picture(bench: Path, path: Path) -> None:
    """Draw what a frame costs against its pixels, a line a scene, from `make bench`."""
    rows = json.loads(bench.read_text())["results"]
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, 3, sharex=True, sharey=True), COSTS.items()):
        for scene in dict.fromkeys(row["scene"] for row in rows):
            points = [
                (np.prod([int(side) for side in row["size"].split("x")]) / 1e6, row["hot_us"])
                for row in rows
                if (row["name"], row["scene"]) == (name, scene)
            ]
            axes.plot(*zip(*sorted(points)), "o-", label=scene)
        axes.set(title=title, xlabel="megapixels", ylim=(0, 2000))
    figure.axes[0].set_ylabel("microseconds a frame, hot")
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    axes_picture(IMAGES / "axes.png")
    real_depth_picture(IMAGES / "real_depth.png")
    cost_picture(Path("bench_output", "bev.json"), IMAGES / "grid_cost.png")
    demo_picture(Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output"), IMAGES / "demo.png")
