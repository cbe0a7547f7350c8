"""The whole loop in one command: drive, sample, convert, drive again in INT8, compare.

Starts the simulated rover (or recorded sensors) and the suite's nodes as processes of their own,
drives with the ONNX actor until enough calibration samples are kept, converts the actor to INT8
with them, drives the same worlds with the INT8 model in the toolkit's simulator, and writes
summary.json and report.html.

Exit codes: 0 done, 1 a step failed (the message says which, and where its log is), 2 usage,
130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tractor_core import contract as contract_module
from tractor_core import paths
from tractor_core.files import replace_file
from tractor_core.text import printable

from .. import stages
from ..domain import set_ros_environment
from ..processes import Processes, StepError
from . import report as demo_report
from .drive import WORLDS, Options, drive, ensure_alike, result_of

MARKER, SETUP = ".made_by_demo", "make setup"
PARTS = (
    "calibration_data", "experience", "models", "runs", "logs", "summary.json", "report.html",
)  # fmt: skip


def convert(options: Options, actor: Path) -> dict[str, Any]:
    """Convert the actor to INT8 with the kept samples by the suite's own command."""
    command = ["-m", "tractor_calibration", "convert", str(actor), "--quantize"]
    command += ["--calibration-dir", str(options.output / "calibration_data")]
    # A minute of driving holds out few frames; what they leave to warn of is shown in the report.
    command += ["--params", str(options.params), "--json", "--accept-warnings"]
    with contextlib.closing(Processes(options.params, options.logs)) as processes:
        return result_of(processes.answer("convert", *command), "convert")


def prepare(options: Options) -> Path:
    """Empty the output folder of what an earlier demo made, and copy the actor into it.

    Raises:
        StepError: the folder holds something that no demo made; nothing is removed.
    """
    if not options.actor.is_file():
        raise StepError(f"expected the actor {options.actor}, found none; name it with --model")
    # Read first: it may be one that an earlier demo left in the output folder.
    content = options.actor.read_bytes()
    stages.empty(options.output, MARKER, PARTS, "a demo")
    for part in ("models", "runs", "logs"):
        (options.output / part).mkdir()
    actor = options.output / "models" / options.actor.name
    actor.write_bytes(content)
    return actor


def run(options: Options) -> None:
    """Run the whole demo."""
    step = functools.partial(stages.step, output=options.output, installs=SETUP)
    started_s = time.monotonic()
    contract = contract_module.load(options.params)
    actor = prepare(options)
    with step("1/4 driving with the ONNX actor and sampling"):
        set_ros_environment()
        onnx = drive(options, "onnx", "onnx", actor, options.wanted_samples)
    with step("2/4 converting to INT8 with rknn-toolkit2"):
        conversion = convert(options, actor)
    with stages.step(
        "3/4 driving again with the INT8 model in the toolkit's simulator", options.output, SETUP
    ):
        int8 = drive(options, "int8", "rknn_sim", Path(conversion["model"]), 0)
        ensure_alike({"onnx": onnx, "int8": int8})
    with step("4/4 comparing"):
        drives = {"onnx": onnx, "int8": int8}
        comparison = demo_report.compare(contract, options.output, actor, conversion, drives)
        summary = demo_report.summarise(comparison, time.monotonic() - started_s)
        source = f"the simulated rover ({WORLDS} worlds, {options.seconds:g} s each)"
        if options.recordings:
            source = f"recorded sensors ({options.seconds:g} s)"
        page = demo_report.render(contract, source, comparison, summary)
        replace_file(options.output / "summary.json", json.dumps(summary, indent=2) + "\n")
        replace_file(options.output / "report.html", page)
    print(demo_report.table(summary))
    output = printable(options.output)
    print(f"report: {output}/report.html   figures: {output}/summary.json")


def _options(argv: Sequence[str] | None) -> Options:
    summary, details = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        prog="demo", description=summary, epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--source", choices=("sim", "recordings"), default="sim")
    parser.add_argument(
        "--recordings", type=Path, metavar="DIR",
        help="folder of recorded scans and depth images (default: those shipped with the tests)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("demo_output"), metavar="DIR")
    parser.add_argument("--params", type=Path, metavar="YAML", help="shared parameter file")
    parser.add_argument("--model", type=Path, metavar="ONNX", help="another actor to drive with")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each world, s")
    parser.add_argument("--samples", type=int, default=100, help="samples to keep")
    args = parser.parse_args(argv)
    recordings = None
    if args.source == "recordings":
        recordings = args.recordings or stages.CHECKOUT / "src/tractor_sim/test/recordings"
    elif args.recordings:
        parser.error("--recordings goes with --source recordings")
    if args.seconds <= 0 or args.samples <= 0:
        parser.error("--seconds and --samples: expected more than 0")
    params = args.params or paths.default_params_file()
    print(f"parameters: {params}", file=sys.stderr)
    return Options(
        args.output, params,
        args.model or stages.REFERENCE_ACTOR, recordings, args.seconds, args.samples,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return stages.run("demo", lambda: run(_options(argv)))


if __name__ == "__main__":
    sys.exit(main())
