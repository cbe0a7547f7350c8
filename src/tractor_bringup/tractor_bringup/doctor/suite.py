"""What the suite has here: its parameter file and its samples; see `models` for those.

As in `machine`, checks return lines and may raise anything.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TypeVar

from tractor_core import contract as contracts
from tractor_core import parameters, samples
from tractor_core import robot as robots
from tractor_core.bev.parameters import BuilderParameters
from tractor_core.contract import Contract
from tractor_core.errors import ParameterError, SampleError
from tractor_core.robot import Robot
from tractor_core.samples import ForeignSampleError
from tractor_inference.actor_parameters import ActorParameters
from tractor_inference.guard.guard import GuardParameters

from .host import FAIL, OK, ROVER, WARN, Host, Line, in_the_way

T = TypeVar("T")

# As many are read; the others are only counted, so that a large folder does not take seconds.
MOST_READ = 100
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


def runs_on(host: Host, target: str) -> bool:
    """Return whether a model built for this platform runs on the machine."""
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
    if runs_on(host, suite.target):
        return [Line("target", OK, found)]
    return [Line("target", FAIL, found, f"set target in section /**/convert of {suite.file}")]


def sample_folder(host: Host, suite: Suite, folder: Path) -> list[Line]:
    """Count the samples, read the newest, and grade by number as the guide does."""
    name = "samples"
    collect = "harvest makes them of recordings"
    if host.starts_rover:
        collect = f"./start_sac_rover.sh collects them while it drives; {collect}"
    else:
        collect = f"make demo shows the whole loop in simulation; {collect}"
    if blocked := in_the_way(name, folder):
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
