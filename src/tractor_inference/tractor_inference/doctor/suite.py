"""What the suite has here: its parameter file, its models and its samples.

As in `machine`, checks return lines and may raise anything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from tractor_core import contract as contracts
from tractor_core import parameters, paths, samples
from tractor_core import robot as robots
from tractor_core.bev.parameters import BuilderParameters
from tractor_core.contract import Contract
from tractor_core.errors import ParameterError, SampleError, TractorError
from tractor_core.robot import Robot
from tractor_core.samples import ForeignSampleError

from .. import manifest, onnx_model
from ..actor_parameters import ActorParameters
from ..guard import GuardParameters
from ..manifest import Manifest
from .machine import (
    FAIL,
    MEGABYTE,
    OK,
    ROVER,
    WARN,
    Host,
    Line,
)
from .npu import LIBRKNNRT_SOURCE, runtime_version

T = TypeVar("T")

# As many are read; the others are only counted, so that a large folder does not take seconds.
MOST_READ = 100
MOST_MODELS = 100
MOST_NAMED = 3
DIGEST_SHOWN = 12
# Platforms that run each other's models.
SAME_PLATFORM = {"rk3568": "rk3566"}


@dataclasses.dataclass(frozen=True)
class Suite:
    """What the parameter file says; None is what cannot be used, for the reasons in `problems`."""

    file: Path
    contract: Contract | None
    builder: BuilderParameters | None
    actor: ActorParameters | None
    target: str | None
    problems: tuple[str, ...]


def load(file: Path) -> Suite:
    """Read what the nodes read of the parameter file, and the target of the converter.

    Raises:
        ParameterError: the file is missing or no parameter file at all.
    """
    if not file.is_file():
        raise ParameterError(f"parameter file {file}: expected a file, found none")
    parameters.read_file(file)
    problems: list[str] = []

    def read(kind: type[T], node: str = "", prefix: str = "") -> T | None:
        try:
            values = parameters.read_file(file, node)
            # A node refuses to start without its section.
            if node and not parameters.fields_of(kind).keys() & values.keys():
                raise ParameterError(f"expected a section /**/{node}, found none; is it misspelt?")
            return parameters.from_values(kind, values, prefix)
        except ParameterError as error:
            problems.append(str(error))
            return None

    contract = read(Contract, prefix=contracts.PREFIX)
    read(Robot, prefix=robots.PREFIX)
    builder = read(BuilderParameters, "bev_builder")
    actor = read(ActorParameters, "sac_actor")
    read(GuardParameters, "cmd_guard")
    target = None
    try:
        target = parameters.read_file(file, "convert").get("target")
    except ParameterError as error:
        problems.append(str(error))
    target = target if isinstance(target, str) else None
    return Suite(file, contract, builder, actor, target, tuple(dict.fromkeys(problems)))


def parameter_file(suite: Suite, given: bool) -> list[Line]:
    """Report the parameter file: where it is, and whether nodes would take it."""
    found = f"{suite.file} ({'--params' if given else 'default'})"
    if suite.problems:
        return [Line(
            "parameters", FAIL, "\n".join([found, *suite.problems]),
            "correct these values; config/sac_rover.yaml of the repository shows every one",
        )]  # fmt: skip
    digest = suite.contract.digest[:DIGEST_SHOWN] if suite.contract else ""
    return [Line("parameters", OK, f"{found}, all sections of the nodes valid, contract {digest}")]


def _runs_on(host: Host, target: str) -> bool:
    platform = SAME_PLATFORM.get(target, target)
    return any(
        SAME_PLATFORM.get(chip, chip) == platform
        for name in host.board
        for chip in re.findall("rk[0-9]{4}", name)
    )


def target(host: Host, suite: Suite) -> list[Line]:
    """Check that the converter builds for this board; a PC may build for any."""
    if suite.target is None:
        return []
    if host.kind != ROVER:
        return [Line("target", OK, f"convert is to build for {suite.target}")]
    found = f"convert is to build for {suite.target}, this board is {', '.join(host.board)}"
    if _runs_on(host, suite.target):
        return [Line("target", OK, found)]
    return [Line("target", FAIL, found, f"set target in section /**/convert of {suite.file}")]


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
    if not _runs_on(host, record.model.target):
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
    if record.verdict == manifest.DOUBTS:
        instead = _promote(host, model, suite.contract, (manifest.PASS,))
        remedy = f"{instead}convert again with more samples"
        return [Line(name, WARN, f"{found}; accepted with doubts, see its report", remedy)]
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


def _in_the_way(name: str, folder: Path) -> list[Line]:
    """Return the line for a path where a file is in place of a folder, else nothing."""
    if folder.is_dir() or not os.path.lexists(folder):
        return []
    found = f"expected a folder or nothing at {folder}, found a file or a link that leads nowhere"
    return [Line(name, FAIL, found, "move it away")]


def models(suite: Suite, folder: Path, driving: Path) -> list[Line]:
    """Check every other model of the folder, its versions included."""
    name = "models"
    if blocked := _in_the_way(name, folder):
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


def sample_folder(host: Host, suite: Suite, folder: Path) -> list[Line]:
    """Count the samples, read the newest, and grade by number as the guide does."""
    name = "samples"
    collect = "harvest makes them of recordings"
    if host.starts_rover:
        collect = f"./start_sac_rover.sh collects them while it drives; {collect}"
    else:
        collect = f"make demo shows the whole loop in simulation; {collect}"
    if blocked := _in_the_way(name, folder):
        return blocked
    if not folder.is_dir():
        found = f"No calibration samples found: {folder} is no folder"
        return [Line(name, WARN, found, collect)]
    files = samples.list_files(folder)
    if not files:
        return [Line(name, WARN, f"No calibration samples found in {folder}", collect)]
    if suite.contract is None:
        return [Line(name, WARN, "not checked: the contract is not usable", "correct parameters")]
    newest = files[-MOST_READ:]
    reasons, foreign = [], False
    for file in newest:
        try:
            samples.read(file, suite.contract)
        except SampleError as error:
            reasons.append(str(error))
            foreign = foreign or isinstance(error, ForeignSampleError)
    count = len(files) - len(reasons)
    grade = (
        "good" if count >= samples.GOOD_SAMPLES
        else "poor" if count < samples.POOR_SAMPLES
        else "fair"
    )  # fmt: skip
    read = f"the {len(files)}" if len(newest) == len(files) else f"the newest {len(newest)}"
    found = (
        f"{len(files)} in {folder}, {grade} by number; {len(newest) - len(reasons)} of {read} "
        f"are of contract {suite.contract.digest[:DIGEST_SHOWN]}"
    )
    if reasons:
        found += f", {len(reasons)} cannot be used, the first: {reasons[0]}"
    details = f"for the details run {host.command('tractor_calibration', 'check')} {folder}"
    if foreign:
        return [Line(name, WARN, found, f"give the --params they were made with; {details}")]
    if reasons or grade == "poor":
        return [Line(name, WARN, found, f"{collect}; {details}" if grade == "poor" else details)]
    return [Line(name, OK, f"{found}; {details}")]
