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
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tractor_core import samples
from tractor_core.cli import (
    INTERRUPTED,
    USAGE,
    answer,
    begin,
    make_parser,
    params_file,
    printing,
)
from tractor_core.diversity import CoverageSet, embedding
from tractor_core.errors import (
    ParameterError,
    SampleError,
    TractorError,
    raise_all,
)
from tractor_core.messages import stamp_ns
from tractor_core.samples import Sample
from tractor_core.system_error import explain
from tractor_core.text import printable, printable_rows

from .bag_reader import Bag
from .bag_storage import BagError, Message
from .parameters import HarvestParameters
from .recorded_drive import TYPES, RecordedDrive, Settings

DAMAGED, NOTHING, FILES = 3, 4, 7
ROLES = tuple(TYPES)
SHOWN = 12
# A longer silence of all topics is no driving.
PAUSE_S = 1.0

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


def resolve(counts: Counter[tuple[str, str]], wanted: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Find the topics of a recording.

    Args:
        counts: {(topic, type): messages} of the recording.
        wanted: {role: names by preference}. An absolute name must be there as it is; a relative one
            may be in a namespace, but one without goes first.

    Returns:
        {role: topic}.

    Raises:
        BagError: listing every topic that is missing, ambiguous, or of another type.
    """
    found: dict[str, str] = {}
    problems = []
    for role, names in wanted.items():
        usable = sorted({t for (t, kind), n in counts.items() if n and kind in TYPES[role]})
        option = f"--{role.replace('_', '-')}-topic"
        relative = [name for name in names if not name.startswith("/")]
        fits = [[t for t in usable if t == f"/{name.lstrip('/')}"] for name in names]
        fits += [[t for t in usable if t.endswith(f"/{name}")] for name in relative]
        unique, several = ([fit for fit in fits if (len(fit) == 1) is one and fit]
                           for one in (True, False))  # fmt: skip
        if unique:
            found[role] = unique[0][0]
            continue
        expected = f"{role}: expected one topic {' or '.join(names)}, {' or '.join(TYPES[role])}"
        if several:
            problems.append(f"{expected}, found {', '.join(several[0])}; choose with {option}")
        elif usable:
            problems.append(
                f"{expected}, found others of that type: {', '.join(usable)}; choose with {option}"
            )
        else:
            ends = tuple(f"/{name.lstrip('/')}" for name in names)
            others = [f"{t} of type {kind}" for t, kind in sorted(counts) if t.endswith(ends)]
            problems.append(f"{expected}, found {', '.join(others) or 'none of that type'}")
        if role == "command":
            problems[-1] += "; without commands harvest with --no-command"
    heading = "it lacks topics that a drive needs:"
    if len(problems) == len(wanted):
        problems.append("topics: " + ", ".join(f"{t} ({kind})" for t, kind in sorted(counts)))
    raise_all(BagError, heading, problems)
    return found


class _Kept:
    """The frames worth a place among all seen; those already in the folder stay members."""

    def __init__(self, folder: Path, settings: Settings, keep: int, probability: float) -> None:
        self._contract = settings.contract
        self._set = CoverageSet(keep)
        self._random = random.Random(settings.actor.seed)
        self._probability = probability
        self.frames: dict[int, Sample] = {}
        self.offered = 0
        self.there = self.unusable = 0
        for file in samples.list_files(folder):
            try:
                sample = samples.read(file, settings.contract)
            except SampleError as error:
                self.unusable += 1
                log.warning("left as it is: %s", error)
                continue
            self._set.fix(file.name, embedding(sample.bev, sample.proprio, self._contract))
            self.there += 1

    def offer(self, sample: Sample, session: str) -> None:
        """Consider a frame; its grid is copied when it is taken."""
        self.offered += 1
        if self._random.random() >= self._probability:
            return
        point = embedding(sample.bev, sample.proprio, self._contract)
        taken, replaced = self._set.offer(self.offered, point)
        if replaced is not None:
            del self.frames[replaced]
        if taken:
            self.frames[self.offered] = Sample(
                sample.bev.copy(order="K"), sample.proprio, sample.stamp_ns,
                session=session[: samples.MAX_TEXT], origin="harvested",
            )  # fmt: skip


def _read(
    bag: Bag, topics: dict[str, str], drive: RecordedDrive, use: Callable[[Sample], None]
) -> dict[str, Any]:
    """Take a recording message by message; return what it held."""
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    roles = {topic: role for role, topic in topics.items()}
    unread: Counter[tuple[str, bool]] = Counter()
    first_unread: dict[tuple[str, bool], str] = {}
    now_s = driven_s = 0.0
    last_ns: int | None = None
    clock_ns = usable = 0
    for topic, kind, recorded_ns, data in _with_progress(bag, set(roles)):
        role = roles[topic]
        # What follows a leap back of the recorder's clock came later all the same.
        step_s = 0.0 if last_ns is None else max(0.0, (recorded_ns - last_ns) * 1e-9)
        last_ns, now_s, driven_s = recorded_ns, now_s + step_s, driven_s + min(step_s, PAUSE_S)
        fitting = kind in TYPES[role]
        try:
            if not fitting:
                raise TypeError(f"is of type {kind}")
            message: Any = store.deserialize_cdr(data, kind)
        except Exception as error:  # a damaged message can fail in any way
            why = " ".join(str(error).split())
            why = f"cannot be decoded ({type(error).__name__}: {why})" if fitting else why
            unread[topic, fitting] += 1
            first_unread.setdefault((topic, fitting), f"the first {driven_s:.1f} s in: {why}")
            continue
        if role == "clock":
            clock_ns = stamp_ns(message.clock)
            continue
        now_clock_ns = clock_ns if "clock" in topics else recorded_ns
        sample = drive.take(role, message, now_clock_ns, now_s)
        if sample is not None:
            usable += 1
            use(sample)
    bag.losses += [
        f"{topic}: {count} of its messages, {first_unread[topic, fitting]}"
        for (topic, fitting), count in unread.items()
    ]
    return {
        "seconds": driven_s,
        "depth_frames": drive.frames,
        "usable_frames": usable,
        "refused": dict(drive.refused.most_common()),
    }


def _with_progress(bag: Bag, topics: set[str]) -> Iterator[Message]:
    stream = bag.messages(topics)
    if not sys.stderr.isatty():
        return stream
    from tqdm import tqdm

    total = sum(n for (topic, _), n in bag.counts.items() if topic in topics)
    return iter(tqdm(stream, printable(bag.name, 40), total, unit=" messages", leave=False))


def _harvest_bag(
    path: Path, wanted: dict[str, tuple[str, ...]], settings: Settings, kept: _Kept
) -> dict[str, Any]:
    """Offer the frames of one recording; what went wrong is part of the result."""
    result: dict[str, Any] = {
        "bag": str(path), "seconds": 0.0, "depth_frames": 0, "usable_frames": 0, "refused": {},
        "topics": {}, "losses": [], "error": "",
    }  # fmt: skip
    try:
        bag = Bag(path)
        result["losses"] = bag.losses
        topics = result["topics"] = resolve(bag.counts, wanted)
    except BagError as error:
        return result | {"error": str(error).removeprefix(f"{path}: ")}
    except OSError as error:
        return result | {"error": explain(error, path).removeprefix(f"{path}: ")}
    drive = RecordedDrive(settings, topics["depth"])
    result |= _read(bag, topics, drive, lambda sample: kept.offer(sample, bag.name))
    if not result["usable_frames"]:
        result["error"] = "no depth frame with all it needs"
        if drive.untimely:
            result["error"] += (
                "; stamps that differ from the time of recording by far may be those of a "
                "simulation: try --use-sim-time"
            )
    return result


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
        kept = _Kept(args.out, settings, args.keep or settings.actor.sample_keep, args.probability)
        bags = [_harvest_bag(path, wanted, settings, kept) for path in args.bags]
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
