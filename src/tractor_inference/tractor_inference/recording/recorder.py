"""What a drive leaves: samples, experience, and whether it stays within the calibrated ranges."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import Contract
from tractor_core.diversity import ENOUGH_IN_REGION
from tractor_core.drift import DriftWatch
from tractor_core.errors import TractorError
from tractor_core.observation import Observation
from tractor_core.samples import Sample
from tractor_core.spool import Spool

from .experience import ExperienceParameters, ExperienceRecorder
from .folders import recording_folder
from .sampler import Sampler, SamplerParameters

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RecorderParameters(SamplerParameters, ExperienceParameters):
    """What is kept of a drive."""


class Recorder:
    """Takes note of every frame that was driven on; nothing here makes the control path wait."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._sampler: Sampler | None = None
        self._experience: ExperienceRecorder | None = None
        self._latest: tuple[Sample, float] | None = None
        # Frames with a feature beyond the contract's range.
        self._clipped: Counter[str] = Counter()
        self._calibrated: Mapping[str, Sequence[float]] | None = None
        self._drift = DriftWatch(contract, {})
        self._advised = False

    def open(self, parameters: RecorderParameters, namespace: str) -> None:
        """Begin to record, into the folders of a node's namespace."""
        folder = recording_folder(parameters.calibration_dir, namespace)
        self._sampler = Sampler(
            dataclasses.replace(parameters, calibration_dir=str(folder)), self._contract
        )

        if parameters.experience_dir:
            spool = Spool(
                recording_folder(parameters.experience_dir, namespace),
                round(parameters.experience_max_mb * 1e6),
            )
            self._experience = ExperienceRecorder(spool, self._contract)

    def close(self) -> None:
        """Write what is queued; harmless when done before."""
        self._latest = None
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None
        if self._experience is not None:
            self._experience.close()
            self._experience = None

    def adjust(self, parameters: SamplerParameters) -> None:
        """Sample as changed live parameters say from the next frame on."""
        if self._sampler is not None:
            self._sampler.adjust(parameters)

    def take(
        self,
        observation: Observation,
        clipped: Iterable[str],
        calibrated: Mapping[str, Sequence[float]],
    ) -> None:
        """Take note of a frame.

        Args:
            observation: its arrays must not change afterwards.
            clipped: the features that lie beyond the contract's range.
            calibrated: the ranges of the model that answered, as in its manifest.
        """
        self._clipped.update(clipped)
        now_s = time.monotonic()
        sample = Sample(observation.bev, observation.proprio, observation.stamp_ns)
        self._latest = (sample, now_s)
        if calibrated is not self._calibrated:
            self._calibrated, self._advised = calibrated, False
            self._drift = DriftWatch(self._contract, calibrated)
        outside = self._drift.step(sample.bev, sample.proprio, now_s)
        if self._sampler is not None:
            self._sampler.offer(sample, wanted=outside)

    def step(
        self,
        observation: Observation,
        pose: tuple[float, float, float],
        answer: NDArray[np.float32],
        requested: NDArray[np.float32],
        model: str,
        driver: str,
    ) -> None:
        """Take note of a step; see `episodes.Tick`."""
        if self._experience is not None:
            self._experience.take(observation, pose, answer, requested, model, driver)

    def stopped(self, why: str) -> None:
        """Take note that the rover was stopped: an episode ends, for a reason of ENDS."""
        if self._experience is not None:
            self._experience.end(why)

    def snapshot(self, limit_s: float, standing: str | None) -> Future[Path]:
        """Start to save the current frame; the answer is the absolute path.

        Args:
            limit_s: how old it may be, s.
            standing: why the rover stands still, for the errors.

        Raises:
            TractorError: there is no current frame, or too much to do.
        """
        if self._sampler is None or self._latest is None:
            raise TractorError(f"no frame to save yet: {standing}")
        sample, taken_s = self._latest
        age_s = time.monotonic() - taken_s
        if age_s > limit_s:
            raise TractorError(
                f"no current frame: the last is {age_s:.1f} s old, limit {limit_s:.2f}: {standing}"
            )
        return self._sampler.save(sample)

    @property
    def error(self) -> str | None:
        """Why nothing is recorded now, or None."""
        errors = [part.error for part in (self._sampler, self._experience) if part is not None]
        return "; ".join(dict.fromkeys(filter(None, errors))) or None

    def describe(self) -> dict[str, Any]:
        """Return counters, lacks and advice for diagnostics; the advice is logged once."""
        values: dict[str, Any] = {f"clipped {name}": n for name, n in self._clipped.items()}
        sampler = self._sampler
        if sampler is not None:
            values |= {"samples kept": sampler.kept, "samples dropped": sampler.dropped}
            if sampler.lacking:
                values["samples lacking"] = f"{sampler.lacking} (wanted: {ENOUGH_IN_REGION})"
            if sampler.error is not None:
                values["sampling"] = sampler.error
        if self._experience is not None:
            values |= self._experience.describe()
        advice = self._drift.advice()
        if advice is not None:
            values["drift"] = advice
            if not self._advised:
                self._advised = True
                log.warning(advice)
        return values
