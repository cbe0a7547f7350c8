"""The models of a machine: which drives, which others are whole."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Collection
from pathlib import Path

from tractor_core import paths
from tractor_core.contract import Contract
from tractor_core.errors import ParameterError, TractorError
from tractor_inference.model import manifest
from tractor_inference.model.manifest import Manifest
from tractor_inference.model.onnx import model as onnx_model

from .host import FAIL, OK, ROVER, WARN, Host, Line, in_the_way
from .machine import MEGABYTE
from .npu import LIBRKNNRT_SOURCE, runtime_version
from .suite import DIGEST_SHOWN, Suite, runs_on

MOST_MODELS = 100
MOST_NAMED = 3


def _check_model(model: Path, contract: Contract) -> Manifest:
    """Return the manifest of a model whose bytes and contract are as it says."""
    return manifest.load(model, contract)[1]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall("[0-9]+", version)[:3])


def _hindrances(host: Host, record: Manifest) -> dict[str, str]:
    """Return {why a whole model does not run on this board: what to do}."""
    if host.kind != ROVER:
        return {}
    problems = {}
    if not runs_on(host, record.model.target):
        why = f"it is for {record.model.target}, this board is {', '.join(host.board)}"
        problems[why] = "convert its ONNX with --target of this board"
    runtime, built = "", record.toolkit.version
    with contextlib.suppress(OSError):  # that has a line of its own
        runtime = runtime_version(host)
    if runtime and _numbers(runtime) < _numbers(built):
        why = f"rknn-toolkit2 {built} built it, librknnrt {runtime} is older"
        problems[why] = f"install librknnrt {built} or later: {LIBRKNNRT_SOURCE}"
    return problems


def driving_model(host: Host, suite: Suite, model: Path) -> list[Line]:
    """Check the model that drives as the actor will when it opens it."""
    name = "driving model"
    convert = host.command("tractor_calibration", "convert")
    quantise = f"{convert} MODEL.onnx --quantize --calibration-dir calibration_data"
    if suite.contract is None:
        return [Line(name, WARN, "not checked: the contract is not usable", "correct parameters")]
    if suite.actor is not None and suite.actor.backend == "fake":
        found = "the backend is fake: no model drives"
        return [
            Line(name, WARN, found, f"set backend: auto in section /**/sac_actor of {suite.file}")
        ]
    try:
        os.lstat(model)  # exists() takes what may not be looked at for missing
    except (FileNotFoundError, NotADirectoryError):
        drive = "drive with model:=models/sac_actor_reference.onnx"
        remedy = f"{quantise}; or {drive if host.starts_rover else 'see the loop: make demo'}"
        return [Line(name, WARN, f"none: {model} does not exist", remedy)]
    if not model.exists():
        found = f"{model} is a link to {os.readlink(model)}, which does not exist"
        remedy = f"{_promote(host, model, suite.contract)}convert again: {quantise}"
        return [Line(name, FAIL, found, remedy)]
    try:
        if model.suffix == ".onnx":
            facts = onnx_model.inspect(model, suite.contract)
            done = "".join(f"; {change}" for change in facts.changes)
            return [Line(name, OK, f"{model}, ONNX opset {facts.opset}, opens{done}")]
        record = _check_model(model, suite.contract)
    except TractorError as error:
        remedy = f"{_promote(host, model, suite.contract)}convert again: {quantise}"
        if model.suffix == ".onnx":
            remedy = "export the actor again as docs/export.md describes, or convert another"
        return [Line(name, FAIL, str(error), remedy)]
    found = f"{model}{_describe(model, record)}"
    problems = _hindrances(host, record)
    if problems:
        return [Line(name, FAIL, "; ".join([found, *problems]), "; ".join(problems.values()))]
    if record.verdict == manifest.WARNED:
        instead = _promote(host, model, suite.contract, (manifest.PASS,))
        remedy = f"{instead}convert again with more samples"
        return [Line(name, WARN, f"{found}; accepted with warnings, see its report", remedy)]
    if host.kind != ROVER:
        found += "; drives on the NPU, here in its simulator (backend auto)"
    return [Line(name, OK, found)]


def _promote(host: Host, driving: Path, contract: Contract, verdicts: Collection[str] = ()) -> str:
    """Return how to let another version drive that can, as the beginning of a remedy, or nothing.

    With `verdicts`, only versions of these.
    """
    folder, whole = driving.parent, []
    for model in sorted(folder.glob("versions/*/*.rknn"))[:MOST_MODELS]:
        version = model.parent.name
        if manifest.real_path(model) == manifest.real_path(driving):
            continue
        with contextlib.suppress(TractorError):
            record = _check_model(model, contract)
            fits = version.startswith(f"{model.stem}.") and not _hindrances(host, record)
            if fits and (not verdicts or record.verdict in verdicts):
                whole.append(version)
    if not whole:
        return ""
    place = f" --models-dir {shlex.quote(str(folder))}"
    with contextlib.suppress(ParameterError):  # there is no default
        if folder.resolve() == paths.default_models_dir().resolve():
            place = ""
    command = f"{host.command('tractor_calibration', 'models')} promote V{place}"
    return f"{command}, where V is {' or '.join(whole[-MOST_NAMED:])}; or "


def _describe(model: Path, record: Manifest) -> str:
    real = manifest.real_path(model)
    linked = f" -> {os.path.relpath(real, model.parent.resolve())}" if model.is_symlink() else ""
    built = record.model
    return (
        f"{linked}, {record.built_as} for {built.target}, {built.bytes / MEGABYTE:.2f} MB, "
        f"sha256 {built.sha256[:DIGEST_SHOWN]}, by rknn-toolkit2 {record.toolkit.version}"
    )


def models(suite: Suite, folder: Path, driving: Path) -> list[Line]:
    """Check every other model of the folder, its versions included."""
    name = "models"
    if blocked := in_the_way(name, folder):
        return blocked
    if not folder.is_dir():
        remedy = f"mkdir {folder}, or start where it is; --models-dir names another"
        return [Line(name, WARN, f"{folder} is no folder", remedy)]
    if suite.contract is None:
        return [Line(name, WARN, "not checked: the contract is not usable", "correct parameters")]
    os.listdir(folder)  # glob takes an unreadable folder for an empty one
    found = [*sorted(folder.glob("*.rknn")), *sorted(folder.glob("versions/*/*.rknn"))]
    done = {manifest.real_path(driving)}
    whole, lines = [], []
    for model in found[:MOST_MODELS]:
        real = manifest.real_path(model)
        if real in done or not model.exists():  # a link by name of a version that was removed
            continue
        done.add(real)
        try:
            _check_model(model, suite.contract)
            whole.append(str(model.relative_to(folder)))
        except TractorError as error:
            remedy = "convert its ONNX again, or move it away; it does not drive"
            lines.append(Line(name, WARN, str(error), remedy))
    text = f"no other {'whole one ' if lines else ''}in {folder}"
    if whole:
        names = ", ".join(whole[:3]) + (", ..." if len(whole) > 3 else "")
        text = f"{len(whole)} more in {folder}, whole and of this contract: {names}"
    if len(found) > MOST_MODELS:
        text += f"; {len(found) - MOST_MODELS} not looked at"
    return [Line(name, OK, text), *lines]
