"""Draw the pictures of the documentation from the code and from the last demo.

Usage: .venv/bin/python docs/figures.py [DEMO_OUTPUT]   (after `make demo`)
"""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tractor_bringup.demo_report import COLOURS, NAMES, draw_channels, draw_world
from tractor_inference import contract as contract_module
from tractor_inference import paths, samples
from tractor_inference import robot as robot_module
from tractor_inference.bev import BevBuilder, BevParameters, DepthImage, Intrinsics, Scan

IMAGES = Path(__file__).parent / "images"
# (x, y) in base_link, m.
POINTS = {"1 m ahead": (1, 0), "1 m left": (0, 1), "1 m behind": (-1, 0), "1 m right": (0, -1)}


def axes_picture(path: Path) -> None:
    """Build a grid from four scan points and draw where they land."""
    params = paths.default_params_file()
    contract, robot = contract_module.load(params), robot_module.load(params)
    no_depth = DepthImage(np.zeros((1, 1), np.uint16), Intrinsics(1.0, 1.0, 0.0, 0.0))
    figure = Figure(figsize=(6.4, 6.2), layout="constrained")
    axes = figure.subplots()
    total = np.zeros(contract.bev_shape[1:], np.float32)
    for name, (x_m, y_m) in POINTS.items():
        # A LiDAR at the point itself that sees something a hair away: no sine blurs the cell.
        shifted = dataclasses.replace(robot, lidar_pose=(x_m, y_m, 0.2, 0.0, 0.0, 0.0))
        builder = BevBuilder(contract, shifted, BevParameters())
        scan = Scan(np.zeros(1, np.float32), 0.0, 1.0, 0.0, 12.0)
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
    figure = Figure(figsize=(13, 4.6), layout="constrained")
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
    draw_channels(channels, busiest.bev, contract.grid_extent_m)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    axes_picture(IMAGES / "axes.png")
    demo_picture(Path(sys.argv[1] if len(sys.argv) > 1 else "demo_output"), IMAGES / "demo.png")
