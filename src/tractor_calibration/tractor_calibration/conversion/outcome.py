"""What a conversion came to, in words: why, what was shown and what was not, what to do next."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tractor_core.text import printable_rows

from ..samples import split as split_module
from ..store.folder import VERSIONS
from . import attempts, driving

_WRITTEN = ("model", "manifest", "report", "rknn_dataset")
NOT_PROMOTED = "NOT PROMOTED"
NOT_THE_NPU = (
    "the NPU's own answers and times: the toolkit simulated it on this machine; the rover asks "
    "the model its reference vectors whenever it opens it"
)
NOT_DRIVEN = "how it drives: convert --drive N, or python -m tractor_sim rollout --compare"
_COLLECT = "collect more varied samples, 100 or more, and convert again"
_ACCEPT = "or promote it as it is: --accept-warnings"
_FP16 = "or promote the FP16 model instead: --allow-fp16"
_WORLDS = "see in which worlds: python -m tractor_sim rollout --compare, with more of them"
_EXPORT = "where the samples are good already, another network: docs/export.md says what INT8 holds"


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why a built model is not promoted: `stage` as of a StageError, and what to do."""

    stage: str
    headline: str
    reasons: tuple[str, ...]
    advice: tuple[str, ...]


def refusal(validated: attempts.Validated, of_split: Sequence[str], frames: str) -> Refusal:
    """Return the refusal of an INT8 build that fails or has warnings.

    Args:
        validated: the build.
        of_split: warnings about the samples.
        frames: how many frames validated it, in words.
    """
    verdict = validated.verdict
    if verdict.failures:
        headline = f"no INT8 model agrees with its ONNX on {frames}, whatever was tried"
        advice = (_COLLECT, _EXPORT, _FP16)
        return Refusal("gate", headline, verdict.failures, advice)
    reasons = (*of_split, *verdict.warnings)
    if verdict.warnings:
        headline = f"the best INT8 model neither passes nor fails on {frames}"
        return Refusal("warning", headline, reasons, (_COLLECT, _ACCEPT, _FP16))
    headline = f"the INT8 model agrees with its ONNX on {frames}; the samples have warnings"
    return Refusal("warning", headline, reasons, (_COLLECT, _ACCEPT))


def badly_driven(problem: str, quantised: bool) -> Refusal:
    """Return the refusal of a model that agrees with its ONNX and does not drive like it."""
    headline = "the model agrees with its ONNX and does not drive like it"
    advice = (_COLLECT, _EXPORT) if quantised else (_WORLDS,)
    return Refusal("gate", headline, (problem,), advice)


def not_driven(problem: str) -> Refusal:
    """Return the refusal of a model that was to be driven and could not be."""
    headline = "the model was built, and could not be driven in the simulator"
    return Refusal("drive", headline, (problem,), ("mend it, or convert without --drive",))


def sentences(result: Mapping[str, Any]) -> list[str]:
    """Return what was shown: on the rover's drives, beyond them, and of its driving."""
    found, model = result["validation"], result["precision"].upper()
    agreed = found[result["precision"]]

    def sentence(where: str, frames: int, source: str, errors: Mapping[str, float]) -> str:
        return (
            f"{where}: on {frames} {source} the {model} model differs from the ONNX by "
            f"{errors['mae']:.4f} on average and {errors['max']:.3f} at most."
        )

    own = found["source"] in split_module.OWN
    where = "On your drives" if own else "Without drives of yours"
    lines = [sentence(where, found["frames"], found["source"], agreed)]
    if "beyond" in agreed:
        source = split_module.REFERENCE
        lines.append(sentence("Beyond them", found["beyond_frames"], source, agreed["beyond"]))
    elif own:
        lines.append("Beyond them: not known.")
    if "drive" in result:
        lines.append(driving.sentence(result["drive"]))
    return lines


def not_shown(result: Mapping[str, Any]) -> list[str]:
    """Return what no figure of the conversion says."""
    return [NOT_THE_NPU, *([] if "drive" in result else [NOT_DRIVEN])]


def following(result: Mapping[str, Any]) -> list[str]:
    """Return what to do next."""
    if result["advice"]:
        return list(result["advice"])
    steps = [
        "on the rover: ros2 service call /sac_actor/reload_model std_srvs/srv/Trigger",
        f"elsewhere: copy {result['link']} with its versions/ to the rover's models folder",
    ]
    if result["samples"]["grade"] not in ("good", ""):
        steps.append(f"the samples are graded {result['samples']['grade']}: {_COLLECT}")
    return steps


def notes(result: Mapping[str, Any]) -> list[str]:
    """Return what else is to be known; no sentence of the reasons again."""
    said = " ".join(result["validation"]["reasons"])
    return [
        *result["notes"],
        *(finding for finding in result["samples"]["findings"] if finding not in said),
    ]


def text(result: Mapping[str, Any]) -> str:
    """Return the result as text for a terminal.

    Args:
        result: as `stages.convert` returns it, or as a StageError about a built model holds it.
    """
    found, counts = result["validation"], result["samples"]
    grade = f", graded {counts['grade']}" if counts["grade"] else ""
    lines = [
        f"{NOT_PROMOTED}: {result['refused']}"
        if result["refused"]
        else f"{result['precision'].upper()} model for {result['target']}: {result['model']}",
        f"verdict: {found['verdict']} ({attempts.words(found['rung'])})",
        *_part("why", found["reasons"]),
        *_part("shown", sentences(result)),
        *_part("not shown", not_shown(result)),
        *_part("next", following(result)),
        "",
        *_figures(result),
        "",
        f"samples: {counts['found']} found, {counts['usable']} usable{grade}",
    ]
    if counts["calibration"]:
        lines.append(f"frames that calibrate: {calibrating(result)}")
    if len(found["attempts"]) > 1:
        lines += _part("tried", [attempts.line(attempt) for attempt in found["attempts"]])
    lines += [f"note: {note}" for note in notes(result)]
    if result["refused"]:
        lines.append(f"figures and pictures: {result['report']}")
        return printable_rows(lines)
    written = [result[key] for key in _WRITTEN if key in result]
    lines += [
        "seconds: " + ", ".join(f"{name} {s:.2f}" for name, s in result["seconds"].items()),
        f"written: {', '.join(written)}",
        f"{result['link']} -> {VERSIONS}/{result['version']}/{Path(result['model']).name}",
    ]
    if result["kept"]:
        lines.append("kept as versions: " + ", ".join(result["kept"]))
    return printable_rows(lines)


def calibrating(result: Mapping[str, Any]) -> str:
    """Return which frames calibrate and which do not, in words."""
    counts, found = result["samples"], result["validation"]
    if not counts["calibration"]:
        return "none: FP16"
    reference = counts["calibration_reference"]
    chosen = (
        f"{counts['calibration']}, chosen by coverage: {counts['calibration'] - reference} of "
        f"{counts['pool']} samples and {reference} {split_module.REFERENCE}"
    )
    if found["source"] != split_module.HELD_OUT:
        return chosen
    near = counts["usable"] - counts["pool"] - found["frames"]
    left_out = f", {near} are too near to those in time" if near else ""
    return f"{chosen}; {found['frames']} samples validate{left_out}"


def _part(heading: str, items: Sequence[str]) -> list[str]:
    return ["", f"{heading}:", *(f"  - {item}" for item in items)] if items else []


def _figures(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"{'':8}{'MB':>8}{'MAE':>10}{'p99':>10}{'max':>10}{'SQNR dB':>10}{'within 0.05':>13}"
    yield f"{'ONNX':8}{result['onnx_bytes'] / 1e6:8.2f}"
    for name in ("fp16", "int8"):
        if found := result["validation"].get(name):
            yield f"{name.upper():8}{found['bytes'] / 1e6:8.2f}{_errors(found)}"
            if "beyond" in found:
                yield f"{'  beyond':16}{_errors(found['beyond'])}"


def _errors(found: Mapping[str, Any]) -> str:
    return (
        f"{found['mae']:10.5f}{found['p99']:10.5f}{found['max']:10.5f}{found['sqnr_db']:10.1f}"
        f"{found['within_0_05']:13.1%}"
    )
