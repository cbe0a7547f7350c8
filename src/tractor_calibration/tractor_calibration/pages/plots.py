"""Plots by matplotlib that a page holds itself, each narrow enough for a phone."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLUE, ORANGE, RED, GREY = "#1667b7", "#d9741a", "#c1121f", "#9aa7b4"
# Of groups in one picture.
COLOURS = [BLUE, ORANGE]
CHANNELS = ("0: LiDAR", "1: depth")
# Width and height of a picture, inch: as wide as a phone, or so that three are in a row.
WIDE, SMALL = (4.2, 4.3), (3.0, 2.4)
# Left for numbers and the name of an axis, below likewise, right, and above for a title.
_MARGINS_IN = (0.7, 0.5, 0.15, 0.3)
_CSS_PX_PER_INCH = 96
# Finer than the page shows it: screens of phones are.
_DPI = 144


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG in base64, what it shows, and its width on the page, CSS px."""

    alt: str
    png: str
    width_px: int


def plot(
    draw: Callable[[Any], None], size_in: tuple[float, float], alt: str, beside: bool = False
) -> Picture:
    """Draw a picture.

    Args:
        draw: is given the axes.
        size_in: width and height, inch.
        alt: says what is drawn.
        beside: room is made for what is drawn beside the axes, as a legend, which takes twice as
            long.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size_in, layout="constrained" if beside else None)
    axes = figure.subplots()
    if not beside:
        width_in, height_in = size_in
        left, bottom, right, top = _MARGINS_IN
        figure.subplots_adjust(
            left / width_in, bottom / height_in, 1 - right / width_in, 1 - top / height_in
        )
    draw(axes)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=_DPI)
    width_px = round(size_in[0] * _CSS_PX_PER_INCH)
    return Picture(alt, base64.b64encode(data.getvalue()).decode("ascii"), width_px)


def draw_grid(axes: Any, cells: NDArray[Any], extent_m: float, title: str = "") -> Any:
    """Draw a grid, x forward up and y to the left, with the rover in the middle.

    Args:
        axes: of matplotlib.
        cells: (cells, cells) in 0..1, drawn in grey, or (cells, cells, 3) colours in 0..1.
        extent_m: width of the grid, m.
        title: of the axes.

    Returns:
        What matplotlib made of the cells.
    """
    half = extent_m / 2
    extent = (half, -half, -half, half)
    image = axes.imshow(cells, cmap="Greys", extent=extent, vmin=0, vmax=1)
    axes.plot(0, 0, "^", color=RED, markersize=9)
    axes.locator_params(nbins=5)
    axes.set(title=title, xlabel="y, m (left positive)", ylabel="x, m (forward)")
    return image


def draw_histogram(
    axes: Any,
    values: Mapping[str, NDArray[np.floating]],
    name: str,
    unit: str,
    bins: int,
    **limits: Any,
) -> None:
    """Draw how many of these (n,) values of each group are in which range, one upon the other.

    `unit` says what is counted.
    """
    groups = [*values.values()]
    axes.hist(
        groups, bins=bins, stacked=True, color=COLOURS[: len(groups)], label=[*values], **limits
    )
    if len(groups) > 1:
        axes.legend(fontsize="small")
    axes.set(title=name, ylabel=unit)
    axes.xaxis.get_major_locator().set_params(nbins=5)
    axes.yaxis.get_major_locator().set_params(nbins=5, integer=True)


def draw_agreement(
    axes: Any,
    answers: Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating]]],
    model: str,
    action: str,
) -> None:
    """Draw actions over each other, with the line where they are equal.

    Args:
        axes: of matplotlib.
        answers: of each group of frames the ONNX's actions and the model's, (n,) each.
        model, action: their names.
    """
    axes.axhline(0.0, color=GREY, linewidth=0.5)
    axes.axvline(0.0, color=GREY, linewidth=0.5)
    axes.plot([-1, 1], [-1, 1], "--", color=GREY, linewidth=1)
    for (label, (reference, actions)), colour in zip(answers.items(), COLOURS):
        axes.plot(reference, actions, ".", color=colour, markersize=5, alpha=0.7, label=label)
    if len(answers) > 1:
        axes.legend(fontsize="small")
    axes.set(title=f"action: {action}", xlabel="ONNX", ylabel=model)
    ticks = (-1.0, -0.5, 0.0, 0.5, 1.0)
    axes.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), xticks=ticks, yticks=ticks, aspect="equal")
