"""Make calibration samples of recorded drives: rosbag2 folders or files, sqlite3 or MCAP, no ROS.

Exit codes:
  0  harvested; also when the samples that are there already cover the recordings
  2  wrong arguments or parameters
  3  harvested, but a recording is damaged: what was lost is said
  4  no recording, a topic that is missing or ambiguous, or no usable frame
  7  the folder of the samples cannot be written
  130  interrupted
Nothing that is in the folder of the samples is changed, whatever happens.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tractor_core import samples
from tractor_core.cli import INTERRUPTED, USAGE, answer, begin, make_parser, params_file, printing
from tractor_core.errors import ParameterError, TractorError
from tractor_core.system_error import explain
from tractor_core.text import printable_rows

from .bags.harvesting import ROLES, Kept, harvest
from .bags.recorded_drive import TYPES, Settings
from .parameters import HarvestParameters

DAMAGED, NOTHING, FILES = 3, 4, 7
SHOWN = 12
log = logging.getLogger(__name__)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser("harvest", __doc__)
    parser.add_argument(
        "bags", type=Path, nargs="+", metavar="BAG", help="a rosbag2 folder, .mcap or .db3 file"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the samples, added to"
    )
    for role in ROLES:
        parser.add_argument(
            f"--{role.replace('_', '-')}-topic", metavar="TOPIC",
            help=f"topic of {' or '.join(kind.split('/')[-1] for kind in TYPES[role])}, instead "
            "of the file's",
        )  # fmt: skip
    parser.add_argument(
        "--no-command", action="store_true",
        help="the recording holds no commands: the last action is zero in every sample",
    )  # fmt: skip
    parser.add_argument(
        "--use-sim-time", action="store_true",
        help="stamps are those of /clock in the recording, not of the recorder's own clock",
    )  # fmt: skip
    parser.add_argument(
        "--keep", type=int, metavar="N",
        help="add at most N samples (default: sample_keep of the sac_actor section)",
    )  # fmt: skip
    parser.add_argument(
        "--probability", type=float, default=1.0, metavar="P",
        help="share of the frames that are considered (default: 1)",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if args.keep is not None and args.keep < 1:
        parser.error(f"--keep: expected at least 1, found {args.keep}")
    if args.no_command and args.command_topic:
        parser.error("--no-command and --command-topic: expected one of them, found both")
    if not 0.0 < args.probability <= 1.0:
        parser.error(f"--probability: expected more than 0 and at most 1, found {args.probability}")
    return args


def _check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written before minutes of reading; raises OSError."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise NotADirectoryError(f"{there}: expected a folder, found a file")
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        # On a read-only disk or in another's folder.
        number = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(number, os.strerror(number), str(there))


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _lines_of(bag: dict[str, Any]) -> list[str]:
    """Return what became of one recording as lines for a terminal."""
    lines = [f"{bag['bag']}:"]
    if bag["topics"]:
        lines[0] += (
            f" {bag['seconds']:.1f} s, {_plural(bag['depth_frames'], 'depth frame')}, "
            f"{bag['usable_frames']} usable"
        )
        lines.append("  " + ", ".join(f"{role} {t}" for role, t in bag["topics"].items()))
    refused = list(bag["refused"].items())
    lines += [f"  not usable, as on the rover: {n} x {why}" for why, n in refused[:SHOWN]]
    if len(refused) > SHOWN:
        lines.append(f"  not usable for other reasons: {sum(n for _, n in refused[SHOWN:])}")
    lines += [f"  lost: {loss}" for loss in bag["losses"][:SHOWN]]
    if len(bag["losses"]) > SHOWN:
        lines.append(f"  lost: {len(bag['losses']) - SHOWN} times more, listed by --json")
    if bag["error"]:
        lines += [f"  {line}" for line in f"nothing harvested: {bag['error']}".split("\n")]
    return lines


def summary(result: dict[str, Any]) -> str:
    """Return the result of a harvest as a few lines for a terminal."""
    driven_s, took_s = result["driven_s"], result["took_s"]
    lines = [line for bag in result["bags"] for line in _lines_of(bag)]
    lines.append(
        f"{driven_s:.1f} s of driving in {took_s:.1f} s, "
        f"{driven_s / max(took_s, 1e-3):.0f} times faster than real time"
    )
    added = len(result["written"])
    lines.append(
        f"{_plural(added, 'sample')} of {_plural(result['usable'], 'usable frame')} added to "
        f"{result['out']}, beside {result['there']} that were there"
    )
    if result["unusable"]:
        lines.append(f"{_plural(result['unusable'], 'file')} there cannot be used; left as it is")
    if not added:
        lines.append("what is there covers the recordings already")
    return printable_rows(lines)


@printing
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = _arguments(argv)
    failed = begin(args.json)
    started_s = time.monotonic()
    written: list[str] = []
    try:
        file = params_file(args.params)
        settings, wanted = _settings(args, file)
        _check_writable(args.out)
        kept = Kept(args.out, settings, args.keep or settings.actor.sample_keep, args.probability)
        bags = [harvest(path, wanted, settings, kept) for path in args.bags]
        for _, sample in sorted(kept.frames.items()):
            written.append(str(samples.write(args.out, sample, settings.contract)))
    except ParameterError as error:
        return failed(USAGE, str(error))
    except TractorError as error:
        return failed(NOTHING, str(error))
    except OSError as error:
        done = f"; {_plural(len(written), 'sample')} of this run were written" if written else ""
        reason = explain(error, args.out)
        return failed(FILES, f"samples cannot be written: {reason}{done}", written=written)
    except KeyboardInterrupt:
        return failed(
            INTERRUPTED, f"interrupted, {_plural(len(written), 'sample')} written", written=written
        )
    if not kept.offered:
        reasons = printable_rows(line for bag in bags for line in _lines_of(bag))
        return failed(NOTHING, f"no usable frame:\n{reasons}", bags=bags)
    code = DAMAGED if any(bag["losses"] or bag["error"] for bag in bags) else 0
    result = {
        "ok": code == 0,
        "exit_code": code,
        "params": str(file),
        "out": str(args.out),
        "written": written,
        "there": kept.there,
        "unusable": kept.unusable,
        "usable": kept.offered,
        "driven_s": sum(bag["seconds"] for bag in bags),
        "took_s": time.monotonic() - started_s,
        "bags": bags,
    }
    answer(args.json, result, lambda: summary(result))
    return code


def _settings(args: argparse.Namespace, file: Path) -> tuple[Settings, dict[str, tuple[str, ...]]]:
    from tractor_core import parameters

    topics = parameters.from_values(HarvestParameters, parameters.read_file(file, "harvest"))
    wanted = {}
    for role in ROLES:
        given = getattr(args, f"{role}_topic")
        wanted[role] = (given,) if given else getattr(topics, f"{role}_topics")
    if args.no_command:
        del wanted["command"]
    if not (args.use_sim_time or args.clock_topic):
        del wanted["clock"]
    settings = Settings.load(file)
    if args.keep is None and not settings.actor.sample_keep:
        raise ParameterError("sample_keep: expected at least 1, found 0; or give --keep N")
    return settings, wanted


if __name__ == "__main__":
    sys.exit(main())
