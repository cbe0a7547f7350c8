"""Measure models on this machine: size, time to open, latency, agreement with the ONNX, memory.

An .onnx runs on the CPU; an .rknn on the NPU, once for each choice of its cores, and on a PC in the
toolkit's simulator, whose times say nothing about the NPU. Each is measured in a process of its
own, on the reference observations.

Exit codes:
  0  all were measured
  1  some could not be
  2  wrong arguments or parameters
  7  the page cannot be written
  130  interrupted
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tractor_core.cli import (
    INTERRUPTED,
    USAGE,
    answer,
    begin,
    make_parser,
    params_file,
    printing,
    require_output,
)
from tractor_core.errors import TractorError
from tractor_core.system_error import explain

NOT_MEASURED, FILES = 1, 7


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser("benchmark", __doc__)
    parser.add_argument(
        "models", type=Path, nargs="+", metavar="MODEL", help=".onnx or .rknn files"
    )
    parser.add_argument(
        "--rounds", type=int, default=1, metavar="N", help="go N times through the frames"
    )
    parser.add_argument("--html", type=Path, metavar="FILE.html", help="also write a page")
    args = parser.parse_args(argv)
    if args.rounds < 1:
        parser.error(f"--rounds: expected 1 or more, found {args.rounds}")
    if args.html is not None:
        require_output(parser, "--html", args.html, ".html")
    return args


@printing
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = _arguments(argv)
    failed = begin(args.json)
    try:
        from . import report, runs

        try:
            file = params_file(args.params)
            jobs = [job for model in args.models for job in runs.jobs(model, file, args.rounds)]
            rows = [runs.in_a_process(job) for job in jobs]
        except TractorError as error:
            return failed(USAGE, str(error))
        result: dict[str, Any] = runs.describe(file, rows)
        if args.html is not None:
            try:
                report.write(args.html, result)
            except OSError as error:
                return failed(FILES, explain(error, args.html), **result)
            result["html"] = str(args.html)
    except KeyboardInterrupt:
        return failed(INTERRUPTED, "interrupted")
    problems = [row for row in rows if row["problem"]]
    code = NOT_MEASURED if problems else 0
    answer(
        args.json, {"ok": not problems, "exit_code": code, **result}, lambda: report.table(result)
    )
    return code


if __name__ == "__main__":
    sys.exit(main())
