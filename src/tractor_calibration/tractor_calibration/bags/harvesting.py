"""Recordings to samples: which topics, which frames, and what is said of the rest."""

from __future__ import annotations

import logging
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tractor_core import samples
from tractor_core.diversity import DiverseSet, embedding
from tractor_core.errors import SampleError, raise_all
from tractor_core.messages import stamp_ns
from tractor_core.samples import Sample
from tractor_core.system_error import explain
from tractor_core.text import printable

from .reader import Bag
from .recorded_drive import TYPES, RecordedDrive, Settings
from .storage import BagError, Message

log = logging.getLogger(__name__)

ROLES = tuple(TYPES)
# A longer silence of all topics is no driving.
PAUSE_S = 1.0


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


class Kept:
    """The frames worth a place among all seen; those already in the folder stay members."""

    def __init__(self, folder: Path, settings: Settings, keep: int, probability: float) -> None:
        self._contract = settings.contract
        self._set = DiverseSet(keep)
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


def harvest(
    path: Path, wanted: dict[str, tuple[str, ...]], settings: Settings, kept: Kept
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
        return result | {"error": error.reason}
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
