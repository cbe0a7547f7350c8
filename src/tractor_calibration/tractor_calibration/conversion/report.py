"""The page MODEL.report.html: the verdict, its figures, what was tried, where it errs most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import ACTION_NAMES, Contract
from tractor_core.packed import PackedSamples
from tractor_core.samples import Sample

from ..pages import page, plots
from ..samples import split as split_module
from ..samples.split import Split
from . import attempts, outcome, validation
from .attempts import Validated

TEMPLATE = "tractor_calibration/conversion/report.html"
_NAMES = {"fp16": "Float16", "int8": "INT8"}
_FIGURES = [
    "", "MB", "ms in the simulator", "MAE", "p99", "max", "SQNR dB", "within 0.05", "R2",
    "same sign",
]  # fmt: skip
_ATTEMPTS = [
    "attempt", "split", "frames", "verdict", "MAE", "max", "SQNR dB", "MAE beyond", "max beyond",
    "SQNR beyond", "MB", "s",
]  # fmt: skip
# Of each column of _FIGURES from MAE on: its limit among the gates, and its format.
_LIMITS = [
    ("max_mae", ".4f"), ("max_p99", ".4f"), ("max_error", ".4f"), ("min_sqnr_db", ".1f"),
    ("min_within_0_05", ".1%"), ("min_r2", ".4f"), ("min_sign_agreement", ".1%"),
]  # fmt: skip
_BINS, _WORST, _WORST_IN = 25, 3, (3.0, 3.0)
_FREE, _LIDAR, _DEPTH = (0.98, 0.98, 0.98), (0.09, 0.40, 0.72), (0.90, 0.47, 0.12)


def render(
    result: Mapping[str, Any],
    contract: Contract,
    split: Split,
    validated: Validated,
) -> str:
    """Return the page of one conversion.

    Args:
        result: as `conversion.convert` returns it.
        contract: names of what the network sees and answers.
        split: holds the validation frames and the actions of onnxruntime on them.
        validated: the model that the page is about.
    """
    found, counts, model = result["validation"], result["samples"], result["precision"].upper()
    build = validated.build
    frames = PackedSamples.join([split.validation, split.beyond])
    reference = np.concatenate([split.answers, split.answers_beyond])
    errors = _errors(reference, build.actions)
    count = len(split.answers)
    parts = {found["source"]: slice(count)}
    if split.beyond:
        parts[split_module.REFERENCE] = slice(count, None)
    actions = [*enumerate(result["actions"])]
    return page.render(
        TEMPLATE,
        title=f"Conversion of {result['onnx'].rsplit('/', 1)[-1]}",
        tone=found["verdict"],
        verdict=(
            f"{outcome.NOT_PROMOTED}: {result['refused']}."
            if result["refused"]
            else f"{found['verdict'].upper()}."
        ),
        parts_of_verdict=[
            ("Why", found["reasons"]),
            ("Shown", outcome.sentences(result)),
            ("Not shown", outcome.not_shown(result)),
            ("Next", outcome.following(result)),
            ("Notes", outcome.notes(result)),
        ],
        facts=[
            ("Model", f"{result['model']} ({model}, {result['target']})"),
            ("Built by", f"rknn-toolkit2 {result['toolkit']}, {attempts.words(found['rung'])}"),
            ("ONNX", result["onnx"]),
            ("Samples found / usable", f"{counts['found']} / {counts['usable']}"),
            ("Grade of the samples", counts["grade"] or "-"),
            ("Frames that calibrate", outcome.calibrating(result)),
            ("Reference observations", _reference(result)),
        ],
        quantised="int8" in found,
        figures_head=_FIGURES,
        figures=[*_figures(result)],
        attempts_head=_ATTEMPTS,
        attempts=[_attempt(attempt) for attempt in found["attempts"]],
        whys=[*filter(None, map(_why, found["attempts"]))],
        counts=counts,
        ranges=[(name, f"{a:.3f}", f"{b:.3f}") for name, (a, b) in counts["ranges"].items()],
        histograms=[
            _histogram({where: errors[part, i] for where, part in parts.items()}, f"{model}, {x}")
            for i, x in actions
        ],
        agreements=[
            _agreement(
                {
                    where: (reference[part, i], build.actions[part, i])
                    for where, part in parts.items()
                },
                model,
                x,
            )
            for i, x in actions
        ],
        worst=[*_worst(contract, frames, count, reference, build.actions, errors)],
        layers=(
            [(x.name, f"{x.cosine:.5f}", f"{x.distance:.5f}") for x in build.layers]
            if build.options.algorithm
            else None
        ),
        no_layers=build.no_layers or "the toolkit's table names no layer",
    )


def _reference(result: Mapping[str, Any]) -> str:
    found = result["reference_observations"]
    return found["problem"] or f"{found['file']}, made by {found['made_by']}"


def _errors(reference: NDArray[np.floating], actions: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return how far actions are from the ONNX's; NaN and Inf by the whole range."""
    return np.where(np.isfinite(actions), np.abs(actions - reference), validation.FULL_RANGE)


def _figures(result: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the rows of the builds, each with its actions, and of the limits of INT8."""
    found, gates = result["validation"], result["gates"]
    yield ["ONNX", f"{result['onnx_bytes'] / 1e6:.2f}", *[""] * 8]
    for key, name in _NAMES.items():
        if key in found:
            build = found[key]
            size, time = f"{build['bytes'] / 1e6:.2f}", f"{build['simulator_ms']:.1f}"
            yield [name, size, time, *_agreed(build)]
            for action, part in zip(result["actions"], build["actions"]):
                yield [f"- {action}", "", "", *_agreed(part)]
            if "beyond" in build:
                yield [f"{name}, beyond your drives", "", "", *_agreed(build["beyond"])]
                for action, part in zip(result["actions"], build["beyond"]["actions"]):
                    yield [f"- {action}", "", "", *_agreed(part)]
    if "int8" in found:
        yield ["an action passes", "", "", *_limits(gates, "pass", "up to ", "from ")]
        yield ["an action fails", "", "", *_limits(gates, "fail", "above ", "below ")]


def _agreed(build: Mapping[str, Any]) -> list[str]:
    """Return the figures of a build, or of one of its actions; in brackets what is not judged."""
    judged = "{}" if build["spread"] >= validation.LOW_SPREAD else "({})"
    return [
        *(f"{build[key]:.4f}" for key in ("mae", "p99", "max")),
        judged.format(f"{build['sqnr_db']:.1f}"),
        f"{build['within_0_05']:.1%}",
        judged.format(f"{build['r2']:.4f}"),
        judged.format(f"{build['sign_agreement']:.1%}"),
    ]


def _limits(gates: Mapping[str, float], kind: str, most: str, least: str) -> list[str]:
    return [
        f"{most if name.startswith('max') else least}{gates[f'{kind}_{name}']:{form}}"
        if f"{kind}_{name}" in gates
        else ""
        for name, form in _LIMITS
    ]


def _attempt(attempt: Mapping[str, Any]) -> list[str]:
    start = [
        attempts.words(attempt["rung"]),
        str(attempt["split"] + 1),
        str(attempt["calibration_frames"]),
    ]
    if "problem" in attempt:
        return [*start, "-", *[""] * 8]
    there = attempt.get("beyond")
    return [
        *start,
        attempt["verdict"],
        *_short(attempt),
        *(_short(there) if there else ["", "", ""]),
        f"{attempt['bytes'] / 1e6:.2f}",
        f"{attempt['build_seconds']:.1f}",
    ]


def _short(found: Mapping[str, Any]) -> list[str]:
    return [f"{found['mae']:.4f}", f"{found['max']:.3f}", f"{found['sqnr_db']:.1f}"]


def _why(attempt: Mapping[str, Any]) -> str:
    """Return why an attempt is judged so, or empty when nothing is to be said."""
    reasons = "; ".join([attempt["problem"]] if "problem" in attempt else attempt["reasons"])
    return f"{attempts.words(attempt['rung'])}: {reasons}" if reasons else ""


def _histogram(errors: Mapping[str, NDArray[np.floating]], title: str) -> plots.Picture:
    """Draw how many frames have which error of an action, with 0.05 where errors reach it."""
    every = np.concatenate([*errors.values()])
    highest = max(1e-4, 1.05 * float(every.max()))

    def draw(axes: Any) -> None:
        unit = f"of {len(every)} frames"
        plots.draw_histogram(axes, errors, title, unit, _BINS, range=(0.0, highest))
        axes.set_xlim(0.0, highest)
        axes.set_xlabel("error")
        if highest > validation.WITHIN:
            axes.axvline(validation.WITHIN, color=plots.GREY, linestyle="--")
            axes.annotate(
                f" {validation.WITHIN}", (validation.WITHIN, 0.98), va="top",
                xycoords=("data", "axes fraction"),
            )  # fmt: skip

    return plots.plot(draw, plots.SMALL, f"histogram of the error: {title}")


def _agreement(
    answers: Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating]]],
    model: str,
    action: str,
) -> plots.Picture:
    def draw(axes: Any) -> None:
        plots.draw_agreement(axes, answers, model, action)

    return plots.plot(draw, plots.WIDE, f"{model} over ONNX: {action}")


def _worst(
    contract: Contract,
    frames: Sequence[Sample],
    own: int,
    reference: NDArray[np.floating],
    actions: NDArray[np.floating],
    errors: NDArray[np.floating],
) -> Iterator[tuple[plots.Picture, list[str]]]:
    """Yield the frames with the largest errors, with what the network saw and answered.

    Frames from `own` on are reference observations.
    """
    largest = errors.max(axis=1)
    names = ACTION_NAMES[contract.action_space]
    for i in np.argsort(-largest, kind="stable")[:_WORST]:
        bev = frames[i].bev
        cells = np.full((*bev.shape[1:], 3), _FREE)
        cells[bev[1] > 0] = _DEPTH
        cells[bev[0] > 0] = _LIDAR

        def draw(axes: Any, cells: NDArray[np.floating] = cells) -> None:
            plots.draw_grid(axes, cells, contract.grid_extent_m)
            axes.set_axis_off()
            axes.set_position((0.0, 0.0, 1.0, 1.0))

        answers = zip(names, reference[i], actions[i])
        yield (
            plots.plot(draw, _WORST_IN, "grid: LiDAR blue, depth orange"),
            [
                f"error {largest[i]:.3f}" + (", reference observation" if i >= own else ""),
                *(f"{name}: ONNX {onnx:+.3f}, model {own:+.3f}" for name, onnx, own in answers),
                *(
                    f"{name} {value:.2f}"
                    for name, value in zip(contract.proprio_labels, frames[i].proprio)
                ),
            ],
        )
