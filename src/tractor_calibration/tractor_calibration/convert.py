"""Convert an ONNX actor to an RKNN model that is validated against it.

Exit codes:
  0  converted, validated and promoted
  2  wrong arguments or parameters
  3  the ONNX file is not an actor of this contract
  4  no usable calibration samples
  5  rknn-toolkit2 refused a step or left a file out, or what the report needs is missing
  6  the model does not agree with its ONNX, whatever was tried, or does not drive like it
  7  files cannot be written, or another converter is busy
  8  rknn-toolkit2 died, for instance with SIGABRT
  9  rknn-toolkit2 did not finish within toolkit_time_limit_s
  10  rknn-toolkit2 took more memory than toolkit_memory_limit_mb
  11  the INT8 model has warnings, of its figures or of the samples; see --accept-warnings
  12  the model could not be driven in the simulator, which --drive asks for
  130  interrupted
After 2 to 12 the models folder is as it was before; an interrupt either leaves it so or came too
late, when the model was already promoted whole.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tractor_core.cli import INTERRUPTED, USAGE, answer, begin, make_parser, params_file, printing
from tractor_core.errors import ParameterError

from .parameters import NODE, TARGETS, ConvertParameters, Request

EXIT_CODES = {
    "onnx": 3, "samples": 4, "toolkit": 5, "gate": 6, "files": 7,
    "died": 8, "slow": 9, "large": 10, "warning": 11, "drive": 12,
}  # fmt: skip


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser("convert", __doc__)
    parser.add_argument("onnx", type=Path, metavar="MODEL.onnx", help="the actor to convert")
    parser.add_argument(
        "--output", type=Path, metavar="F", help="the .rknn file to write (default: MODEL.rknn)"
    )
    parser.add_argument(
        "--quantize", action="store_true", help="build INT8 from the samples; without it FP16"
    )
    parser.add_argument(
        "--calibration-dir", type=Path, metavar="D",
        help="folder of calib_*.npz samples; without --quantize they only validate",
    )  # fmt: skip
    parser.add_argument(
        "--accept-warnings", action="store_true",
        help="promote an INT8 model that neither passes nor fails its gates",
    )  # fmt: skip
    parser.add_argument(
        "--allow-fp16", action="store_true",
        help="promote the FP16 model when no INT8 model can be",
    )  # fmt: skip
    parser.add_argument(
        "--drive", type=int, default=0, metavar="N",
        help="last, drive model and ONNX through N simulated worlds of a minute: refused when it "
        "hits more or gets less far, beyond chance, which some tens of worlds can show",
    )  # fmt: skip
    parser.add_argument("--target", choices=TARGETS, help="platform, instead of the file's")
    args = parser.parse_args(argv)
    if args.onnx.name in ("", ".."):
        parser.error(f"MODEL.onnx: expected a file, found the folder {str(args.onnx)!r}")
    args.output = args.output or args.onnx.with_suffix(".rknn")
    if not args.quantize and (args.accept_warnings or args.allow_fp16):
        parser.error("--accept-warnings and --allow-fp16 need --quantize; without it FP16 is built")
    if args.drive < 0:
        parser.error(f"--drive: expected a number of worlds, found {args.drive}")
    if args.output.suffix != ".rknn":
        parser.error(f"--output: expected a name that ends in .rknn, found {args.output}")
    return args


def _parameters(args: argparse.Namespace) -> tuple[Path, ConvertParameters]:
    from tractor_core import parameters

    file = params_file(args.params)
    values = parameters.read_file(file, NODE)
    if args.target:
        values["target"] = args.target
    return file, parameters.from_values(ConvertParameters, values)


@printing
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = _arguments(argv)
    failed = begin(args.json)
    try:
        try:
            file, params = _parameters(args)
            from tractor_core import reference_observations

            from .conversion import outcome
            from .conversion import stages as conversion

            request = Request(
                args.onnx, args.output, args.quantize, args.calibration_dir,
                file, reference_observations.Origin.load(file), params,
                args.accept_warnings, args.allow_fp16, args.drive,
            )  # fmt: skip
        except ParameterError as error:
            return failed(USAGE, str(error))
        try:
            result = conversion.convert(request)
        except conversion.StageError as error:
            return failed(EXIT_CODES[error.stage], str(error), **error.details)
    except KeyboardInterrupt:
        return failed(INTERRUPTED, "interrupted")
    answer(
        args.json,
        {"ok": True, "exit_code": 0, "params": str(file), **result},
        lambda: outcome.text(result),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
