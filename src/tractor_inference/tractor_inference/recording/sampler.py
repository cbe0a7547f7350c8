"""Keeps calibration samples while the rover drives, off the control path."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import logging
import os
import random
import time
from concurrent.futures import Future
from pathlib import Path

from tractor_core import diversity, samples
from tractor_core.contract import Contract
from tractor_core.diversity import ENOUGH_IN_REGION
from tractor_core.errors import SampleError, TractorError
from tractor_core.parameters import param
from tractor_core.samples import Sample
from tractor_core.system_error import explain

from .folders import DEFAULT_SAMPLES
from .retention import MostDiverse, Reservoir, Retention
from .writer import Writer

log = logging.getLogger(__name__)

RECOUNT_S = 10.0
WANTED_FACTOR = 5.0
CLOSE_LIMIT_S = 2.0
RETENTIONS = ("coverage", "reservoir")


@dataclasses.dataclass(frozen=True)
class SamplerParameters:
    """What is kept and where; see the sac_actor section of config/sac_rover.yaml."""

    calibration_dir: str = param(
        "Folder of the calibration samples, relative to where the node is started; the default one "
        "gets a folder for each namespace.", DEFAULT_SAMPLES,
    )  # fmt: skip
    sample_probability: float = param(
        "Probability that a frame is a candidate.", 0.1, minimum=0.0, maximum=1.0, live=True
    )
    sample_keep: int = param(
        "Samples of a session that are kept, about; with fewer no more are taken, none removed.",
        100, minimum=0, maximum=1_000_000, live=True,
    )  # fmt: skip
    sample_retention: str = param(
        "Which candidates stay: the most diverse ones, or a uniform choice.",
        RETENTIONS[0], choices=RETENTIONS,
    )  # fmt: skip
    seed: int = param("Seed of the random choice.", 0, minimum=0)


@dataclasses.dataclass(frozen=True)
class _Kept:
    """A sample in the folder, and the regions that it lies in."""

    path: Path
    regions: tuple[str, ...]


class Sampler:
    """Draws frames with a fixed probability and keeps the best of them, in a thread.

    `offer` never blocks and never raises: when the bounded queue is full the frame is dropped and
    counted. A better candidate is written before the one it replaces is removed; only samples that
    this session has drawn are ever removed, neither snapshots nor what was in the folder before. A
    folder that cannot be written stops sampling with a warning, and is tried again after RECOUNT_S;
    driving goes on. Files that are taken away make room for new ones.

    Attributes:
        session: names this drive in its samples.
        kept: samples in the folder.
        dropped: candidates lost to a full queue.
        error: why nothing is sampled now, or None.
        lacking: regions with few samples and their numbers, for the operator.
    """

    def __init__(self, parameters: SamplerParameters, contract: Contract) -> None:
        self.folder = Path(parameters.calibration_dir)
        self.session = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + f"-{os.getpid()}"
        self._probability = parameters.sample_probability
        self._contract = contract
        self._random = random.Random(parameters.seed)
        keep, kind = parameters.sample_keep, parameters.sample_retention
        self._retention: Retention
        if kind == "reservoir":
            self._retention = Reservoir(keep, random.Random(parameters.seed + 1))
        else:
            self._retention = MostDiverse(keep, contract)
        # The parameter; applied in the thread.
        self._keep = keep
        self._numbers = itertools.count()
        self._kept: dict[int, _Kept] = {}
        self.error: str | None = None
        self.kept = len(self._list())
        self.dropped = 0
        self.lacking = ""
        self._known = False
        self._writer = Writer("sampler", self._handle, self._look, RECOUNT_S)
        self._writer.start()

    def adjust(self, parameters: SamplerParameters) -> None:
        """Use changed live parameters from the next frame on."""
        self._probability = parameters.sample_probability
        self._keep = parameters.sample_keep

    def offer(self, sample: Sample, wanted: bool = False) -> None:
        """Make the frame a candidate with the configured probability.

        Args:
            sample: its arrays must not change afterwards.
            wanted: makes that five times as probable.
        """
        probability = self._probability * (WANTED_FACTOR if wanted else 1.0)
        if self._random.random() >= probability or self.error is not None:
            return
        self.dropped += not self._writer.put(sample)

    def save(self, sample: Sample) -> Future[Path]:
        """Queue one frame whatever the limit; the future holds its path, or why it was not saved.

        Raises:
            TractorError: the queue is full.
        """
        future: Future[Path] = Future()
        if not self._writer.put(sample, future):
            raise TractorError("busy: the sample queue is full, try again")
        return future

    def close(self) -> None:
        """Write what is queued and end the thread; a disk that hangs is not waited for."""
        if not self._writer.close(CLOSE_LIMIT_S):
            log.warning("%s does not answer: queued samples may be lost", self.folder)

    # The thread

    def _look(self) -> None:
        """Read what is in the folder, once; later notice what others took away.

        What a writer that was killed left behind is removed, now and again: when this one starts,
        it may be too new to be told from what is still being written.
        """
        with contextlib.suppress(OSError):  # said when a sample cannot be written either
            if removed := samples.remove_unfinished(self.folder):
                log.info(f"removed {removed} unfinished samples from {self.folder}")
        if self._known:
            self._recount()
            return
        self._known = True
        for path in self._list():
            if self._writer.ending:
                break
            # What cannot be read cannot calibrate either; `check` names it.
            with contextlib.suppress(SampleError):
                sample = samples.read(path, self._contract)
                key = next(self._numbers)
                self._retention.fix(key, sample)
                self._note(key, path, sample)
        self._say_what_lacks()

    def _handle(self, sample: Sample, future: Future[Path] | None) -> None:
        try:
            if future is None:
                self._consider(sample)
            else:
                future.set_result(self._save(sample))
            self.error = None
        except Exception as error:  # whatever it is, the thread and the rover go on
            if future is not None:
                future.set_exception(error)
            if not isinstance(error, TractorError):
                self._stop(error)

    def _recount(self) -> None:
        """Notice what others took away, and try a folder again that could not be written."""
        self.error = None
        files = self._list()
        if self.error is not None:
            return
        there = {*files}
        for key in [key for key, kept in self._kept.items() if kept.path not in there]:
            self._retention.remove(key)
            del self._kept[key]
        self._say_what_lacks()
        self.kept = len(files)

    def _list(self) -> list[Path]:
        """Return the files; none, and the error noted, where the disk does not give them."""
        try:
            return samples.list_files(self.folder)
        except OSError as error:
            self._stop(error)
            return []

    def _stop(self, error: Exception) -> None:
        reason = f"{self.folder}: {error}"
        if isinstance(error, OSError):
            reason = explain(error, self.folder)
        self.error = f"sampling stopped: {reason}"
        log.warning("%s", self.error)

    def _consider(self, sample: Sample) -> None:
        """Write a candidate that is worth a place, then remove the one that it replaces."""
        drawn = dataclasses.replace(sample, session=self.session, origin="drawn")
        if samples.sample_problems(drawn.bev, drawn.proprio, self._contract):
            return
        key = next(self._numbers)
        self._retention.keep = self._keep
        taken, replaced = self._retention.offer(key, drawn)
        if not taken:
            return
        try:
            path = samples.write(self.folder, drawn, self._contract)
        except BaseException:
            self._retention.remove(key)
            raise
        self._note(key, path, drawn)
        self.kept += 1
        if replaced in self._kept:
            with contextlib.suppress(OSError):
                self._kept.pop(replaced).path.unlink()
                self.kept -= 1
        self._say_what_lacks()

    def _save(self, sample: Sample) -> Path:
        """Write a frame that was asked for; it stays whatever comes."""
        snapshot = dataclasses.replace(sample, session=self.session, origin="snapshot")
        path = samples.write(self.folder, snapshot, self._contract)
        key = next(self._numbers)
        self._retention.fix(key, snapshot)
        self._note(key, path, snapshot)
        self._say_what_lacks()
        self.kept += 1
        return path

    def _note(self, key: int, path: Path, sample: Sample) -> None:
        names = diversity.regions(sample.bev, sample.proprio, self._contract).values()
        self._kept[key] = _Kept(path, tuple(names))

    def _say_what_lacks(self) -> None:
        counts = collections.Counter(name for kept in self._kept.values() for name in kept.regions)
        self.lacking = "; ".join(
            f"{name}: {counts[name]}"
            for names in diversity.all_regions(self._contract).values()
            for name in names
            if counts[name] < ENOUGH_IN_REGION
        )
