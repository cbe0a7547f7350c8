"""Say what works on this machine, and what to do about the rest.

One line a finding: ok; WARN, something is lost or not there yet; FAIL, something will not run as it
is. What this kind of machine cannot have, such as an NPU on a PC, is ok. Nothing is changed, no
model drives, and no node is started.

Exit codes:
  0  nothing failed
  1  something failed
  2  wrong arguments
  130  interrupted
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import shutil
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tractor_core import paths
from tractor_core.cli import INTERRUPTED, answer, begin, make_parser, printing
from tractor_core.errors import TractorError
from tractor_core.system_error import explain
from tractor_core.text import printable

from . import machine, npu
from .host import FAIL, ROVER, SETUP, Host, Imports, Line

if TYPE_CHECKING:  # imported where it is used: it needs numpy, which may be what is missing
    from .suite import Suite

SOMETHING_FAILED = 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser("doctor", __doc__)
    parser.add_argument(
        "--models-dir", type=Path, metavar="D",
        help="folder of the models (default: where the model of the parameter file is)",
    )  # fmt: skip
    parser.add_argument(
        "--calibration-dir", type=Path, metavar="D",
        help="folder of the samples (default: that of the parameter file)",
    )  # fmt: skip
    return parser.parse_args(argv)


def _lines(name: str, check: Callable[[], list[Line]]) -> list[Line]:
    """Run a check; one that fails itself is a line too."""
    try:
        return check()
    except ImportError as error:
        return [Line(name, FAIL, f"not checked: {error}", SETUP)]
    except (TractorError, OSError) as error:
        found = explain(error, name) if isinstance(error, OSError) else str(error)
        return [Line(name, FAIL, found, "correct what is named, then run this again")]
    except Exception as error:  # the page is for machines where anything may be broken
        found = f"the check itself failed: {type(error).__name__}: {error}"
        return [Line(name, FAIL, found, "report this with the output of --json")]


def examine(host: Host, args: argparse.Namespace) -> Iterator[Line]:
    """Yield the lines of all checks; never raises."""
    imports = Imports(host)
    suites: list[Suite] = []

    def load() -> list[Line]:
        from . import suite

        suites.append(suite.load(args.params or paths.default_params_file()))
        return suite.parameter_file(suites[0], args.params is not None)

    about_parameters = _lines("parameters", load)
    loaded = suites[0] if suites else None
    yield from _lines("Python", machine.python)
    yield from _lines("libraries", lambda: machine.libraries(imports, _needed(host, loaded)))
    yield from _lines("ROS 2", lambda: machine.ros(host, imports))
    yield from _lines("workspace", machine.workspace)
    if host.has_ros:
        yield from _lines("Fast DDS", lambda: machine.fast_dds(host))
        yield from _lines("UDP buffers", lambda: machine.udp_buffers(host))
        yield from _lines("shared memory", lambda: machine.shared_memory(host))
    yield from _lines("rknn-toolkit2", machine.toolkit)
    if host.kind == ROVER:
        yield from _lines("rknn-toolkit-lite2", lambda: npu.binding(imports))
        yield from _lines("librknnrt", lambda: npu.runtime(host))
        yield from _lines("NPU driver", lambda: npu.driver(host))
        yield from _lines("NPU device", lambda: npu.device(host))
    else:
        yield from _lines("NPU", lambda: npu.absent(host))
    yield from about_parameters
    if loaded is not None:
        yield from _about_suite(host, loaded, args)
    yield from _lines("clock", machine.clock)


def _needed(host: Host, suite: Suite | None) -> set[str]:
    """Return the modules without which the nodes cannot do what the parameter file asks for."""
    needed = {"numpy", "yaml"}
    if suite is None or not host.has_ros:
        return needed
    if suite.builder is not None:
        needed.add({"opencv": "cv2"}.get(suite.builder.kernel, suite.builder.kernel))
    if suite.actor is not None and suite.actor.model.endswith(".onnx"):
        needed |= {"onnx", "onnxruntime"}
    return needed


def _about_suite(host: Host, loaded: Suite, args: argparse.Namespace) -> Iterator[Line]:
    from . import models, suite

    yield from _lines("target", lambda: suite.target(host, loaded))
    # Where the section cannot be used, which is a failure already, these are the nodes' defaults.
    actor = loaded.actor or suite.ActorParameters()
    folder = args.models_dir or Path(actor.model).parent
    driving = folder / Path(actor.model).name
    yield from _lines("driving model", lambda: models.driving_model(host, loaded, driving))
    yield from _lines("models", lambda: models.models(loaded, folder, driving))
    yield from _lines("disk, models", lambda: machine.disk("disk, models", folder))
    samples = args.calibration_dir or Path(actor.calibration_dir)
    yield from _lines("samples", lambda: suite.sample_folder(host, loaded, samples))
    yield from _lines("disk, samples", lambda: machine.disk("disk, samples", samples))


def page(title: str, lines: Sequence[Line], width: int) -> str:
    """Return the lines below a title, as text for a terminal of `width` columns."""
    column = max(len(line.name) for line in lines) + 2
    indent = " " * (6 + column)

    def wrap(text: str, first: str, later: str) -> list[str]:
        return textwrap.wrap(
            printable(text), max(width, len(later) + 20), initial_indent=first,
            subsequent_indent=later, break_long_words=False, break_on_hyphens=False,
        ) or [first]  # fmt: skip

    rows = wrap(title, "", "") + [""]
    for line in lines:
        status = line.status if line.status == "ok" else line.status.upper()
        first = f"{status:6}{line.name:{column}}"
        for part in line.found.splitlines() or [""]:
            rows += wrap(part, first, indent)
            first = indent
        if line.remedy:
            rows += wrap(line.remedy, f"{indent}-> ", f"{indent}   ")
    count = Counter(line.status for line in lines)
    return "\n".join([*rows, "", f"{count['ok']} ok, {count['warn']} warn, {count['fail']} fail"])


@printing
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = _arguments(argv)
    failed = begin(args.json)
    try:
        host = Host()
        lines = list(examine(host, args))
    except KeyboardInterrupt:
        return failed(INTERRUPTED, "interrupted")
    code = SOMETHING_FAILED if any(line.status == FAIL for line in lines) else 0
    checks = [dataclasses.asdict(line) for line in lines]
    found_on = {"kind": host.kind, "architecture": host.architecture, "board": host.board}
    system = f"{host.architecture}, {platform.system()} {platform.release()}"
    title = f"rover suite on a {host.kind} ({', '.join([*host.board, system])})"
    answer(
        args.json,
        {"ok": code == 0, "exit_code": code, "machine": found_on, "checks": checks},
        lambda: page(title, lines, shutil.get_terminal_size().columns),
    )
    return code
