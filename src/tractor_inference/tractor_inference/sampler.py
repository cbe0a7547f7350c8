"""Keeps calibration samples while the rover drives, off the control path."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import queue
import random
import threading
from concurrent.futures import Future
from pathlib import Path

from . import samples
from .contract import Contract
from .errors import TractorError
from .parameters import param
from .samples import Sample

log = logging.getLogger(__name__)

RECOUNT_S = 10.0
CLOSE_LIMIT_S = 2.0


@dataclasses.dataclass(frozen=True)
class SamplerParameters:
    """What is kept and where; see the sac_actor section of config/sac_rover.yaml."""

    calibration_dir: str = param("Folder of the calibration samples.", "calibration_data")
    sample_probability: float = param(
        "Probability that a frame is kept.", 0.1, minimum=0.0, maximum=1.0
    )
    sample_keep: int = param(
        "Sampling stops when the folder holds so many.", 100, minimum=0, maximum=1_000_000
    )
    seed: int = param("Seed of the random choice.", 0, minimum=0)


class Sampler:
    """Draws frames with a fixed probability and writes them in a thread behind a bounded queue.

    `offer` never blocks and never raises: when the queue is full the frame is dropped and counted.
    A folder that cannot be written stops sampling with a warning, and is tried again after
    RECOUNT_S; driving goes on. Files that are taken away make room for new ones.
    """

    def __init__(self, parameters: SamplerParameters, contract: Contract) -> None:
        self.folder = Path(parameters.calibration_dir)
        self._probability = parameters.sample_probability
        self._keep = parameters.sample_keep
        self._contract = contract
        self._random = random.Random(parameters.seed)
        self._queue: queue.Queue[tuple[Sample, Future[Path]] | None] = queue.Queue(maxsize=8)
        self.kept = len(samples.list_files(self.folder))
        self.dropped = 0
        self.error: str | None = None
        self._ending = False
        self._thread = threading.Thread(target=self._write_queue, name="sampler", daemon=True)
        self._thread.start()

    def offer(self, sample: Sample) -> None:
        """Keep the frame with the configured probability; its arrays must not change afterwards."""
        if self._random.random() >= self._probability or self.error is not None:
            return
        if self.kept + self._queue.qsize() < self._keep and self._submit(sample) is None:
            self.dropped += 1

    def save(self, sample: Sample) -> Future[Path]:
        """Queue one frame whatever the limit; the future holds its path, or why it was not saved.

        Raises:
            TractorError: the queue is full.
        """
        future = self._submit(sample)
        if future is None:
            raise TractorError("busy: the sample queue is full, try again")
        return future

    def close(self) -> None:
        """Write what is queued and end the thread; a disk that hangs is not waited for."""
        self._ending = True
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(CLOSE_LIMIT_S)
        if self._thread.is_alive():
            log.warning("%s does not answer: queued samples may be lost", self.folder)

    def _submit(self, sample: Sample) -> Future[Path] | None:
        future: Future[Path] = Future()
        try:
            self._queue.put_nowait((sample, future))
        except queue.Full:
            return None
        return future

    def _write_queue(self) -> None:
        while not (self._ending and self._queue.empty()):
            try:
                item = self._queue.get(timeout=RECOUNT_S)
            except queue.Empty:
                self.kept = len(samples.list_files(self.folder))
                self.error = None
                continue
            if item is None:
                continue
            sample, future = item
            try:
                future.set_result(samples.write(self.folder, sample, self._contract))
                self.kept += 1
                self.error = None
            except Exception as error:  # whatever it is, the thread and the rover go on
                future.set_exception(error)
                if not isinstance(error, TractorError):
                    self.error = f"sampling stopped: {self.folder}: {error}"
                    log.warning("%s", self.error)
