"""Which frames calibrate a conversion and which validate it.

The rover's samples are split in time. Reference observations join them: those of one half of their
worlds may calibrate, those of the other half validate beyond the rover's drives.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tractor_core import diversity, drift, reference_observations
from tractor_core.contract import ACTION_NAMES, Contract
from tractor_core.packed import PackedSamples
from tractor_inference.model import manifest

from ..parameters import Request
from . import quality, selection
from .hold_out import PLACES, RUNS, hold_out, near_any, spread
from .material import Material, synthetic_frames
from .reading import CheckedFolder
from .reference import reference_actions
from .selection import Activations

# Where validation frames come from, and which of them are the rover's own.
HELD_OUT, SAMPLES = "held-out samples", "samples"
REFERENCE, SYNTHETIC = "reference observations", "synthetic frames"
OWN = (HELD_OUT, SAMPLES)
# A frame extends the calibrated range when it is beyond it by more than this share of the whole.
EXTENDS_BY = 0.02
# Smaller actions have no direction.
DIRECTION_FROM = 0.05
_MOST_NAMED = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Which frames calibrate and which validate.

    `calibration` are in the order of choice, with their `names`: of a sample's file, or of a frame
    as `reference_observations.frame_name` has it. `pool` candidates were the rover's; `ranges` are
    {feature: [lowest, highest]} of all candidates. `validation` come from `source`, `beyond` are
    reference observations; `answers` (n, 2) and `answers_beyond` (m, 2) are the ONNX's actions on
    them. `warnings` say why the samples, or a verdict on these frames, are worth less than wanted.
    """

    validation: PackedSamples
    source: str
    answers: NDArray[np.float32]
    beyond: PackedSamples
    answers_beyond: NDArray[np.float32]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    calibration: PackedSamples = dataclasses.field(default_factory=PackedSamples)
    pool: int = 0
    ranges: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    @property
    def frames(self) -> str:
        """How many frames validate, in words."""
        text = f"{len(self.validation)} {self.source}"
        if self.beyond:
            text += f" and {len(self.beyond)} {REFERENCE}"
        return text

    def references(self, count: int) -> int:
        """Return how many of the first so many calibration frames are reference observations."""
        return sum(reference_observations.file_and_index(x) is not None for x in self.names[:count])


def divide(request: Request, onnx: bytes, material: Material) -> list[Split]:
    """Return the splits of the material that are worth trying, the best first, at least one.

    Raises:
        ModelError: the network cannot be run, or computes NaN or Inf inside.
    """
    reference, folder = material.reference, material.folder
    beyond = PackedSamples()
    if reference is not None:
        beyond = reference.samples.pick(reference.validating)
    answers_beyond = _answers(onnx, request.contract, beyond)
    if folder is None:
        return [_without_samples(onnx, request.contract, material, beyond, answers_beyond)]
    notes, warnings = [], []
    if folder.rejected:
        rejected, found = len(folder.rejected), len(folder.rejected) + len(folder.samples)
        notes.append(f"{rejected} of {found} samples excluded, as they were not usable")
    if beyond and request.origin.robot.use_tf:
        notes.append(
            "robot.use_tf is set: the reference observations were made with the sensor poses of "
            "the parameter file, not with those of TF"
        )
    if not beyond:
        warnings.append(
            "nothing is known beyond these samples, without reference observations: "
            f"{material.no_reference}"
        )
    if request.quantize:
        if folder.grade == quality.GRADES[0]:
            warnings.append(f"check grades the samples poor: {'; '.join(folder.findings)}")
        base = Split(
            PackedSamples(), HELD_OUT, answers_beyond[:0], beyond, answers_beyond,
            tuple(notes), tuple(warnings),
        )  # fmt: skip
        return _Candidates.of(request, onnx, material, folder).splits(base)
    usable = len(folder.samples)
    frames = folder.samples.pick(spread(usable, min(usable, request.parameters.held_out_frames)))
    notes.append("without --quantize the samples validate the model and calibrate nothing")
    answers = _answers(onnx, request.contract, frames)
    # FP16 is as exact on any frames: what is not known beyond these is only to read.
    notes += warnings
    return [Split(frames, SAMPLES, answers, beyond, answers_beyond, tuple(notes))]


def _without_samples(
    onnx: bytes,
    contract: Contract,
    material: Material,
    beyond: PackedSamples,
    answers_beyond: NDArray[np.float32],
) -> Split:
    nothing = PackedSamples(), answers_beyond[:0]
    if beyond:
        note = "no samples were given: validated on the reference observations"
        return Split(beyond, REFERENCE, answers_beyond, *nothing, notes=(note,))
    notes = (
        "no samples were given: validated on synthetic frames drawn from the contract",
        f"without reference observations: {material.no_reference}",
    )
    frames = PackedSamples(synthetic_frames(contract))
    return Split(frames, SYNTHETIC, _answers(onnx, contract, frames), *nothing, notes=notes)


@dataclasses.dataclass(frozen=True)
class _Candidates:
    """All frames that may calibrate: first the rover's, in the order of their names, then others.

    `regions` are those of `diversity.regions`, `features` those of `drift.features`, a frame each.
    """

    request: Request
    folder: CheckedFolder
    samples: PackedSamples
    names: tuple[str, ...]
    regions: tuple[dict[str, str], ...]
    features: tuple[NDArray[np.float64], ...]
    activations: Activations

    @classmethod
    def of(
        cls, request: Request, onnx: bytes, material: Material, folder: CheckedFolder
    ) -> _Candidates:
        contract = request.contract
        names, samples, regions = folder.names, folder.samples, folder.regions
        if material.reference is not None:
            chosen = material.reference.calibrating
            others = material.reference.samples.pick(chosen)
            file = reference_observations.FILE_NAME
            names += tuple(reference_observations.frame_name(file, i) for i in chosen)
            regions += tuple(diversity.regions(x.bev, x.proprio, contract) for x in others)
            samples = PackedSamples.join([samples, others])
        features = tuple(drift.features(frame.bev, frame.proprio) for frame in samples)
        found = selection.activations(onnx, contract, samples, request.parameters.target)
        return cls(request, folder, samples, names, regions, features, found)

    @property
    def _own(self) -> int:
        return len(self.folder.samples)

    @property
    def _others(self) -> list[int]:
        return list(range(self._own, len(self.samples)))

    def splits(self, base: Split) -> list[Split]:
        """Return a split for each place where the held-out runs can lie, the best first.

        The best holds out the most frames that the pool covers. Where many runs leave too little,
        there are fewer.
        """
        params, stamps = self.request.parameters, self.folder.stamps_ns
        wanted = max(manifest.LEAST_PROBES, int(self._own * params.held_out_share))
        wanted = min(params.held_out_frames, wanted, self._own)
        if unstamped := sum(not stamp for stamp in stamps):
            note = f"{unstamped} samples have no stamp: only their order separates those held out"
            base = dataclasses.replace(base, notes=(*base.notes, note))
        runs = RUNS
        while runs:
            found = [one for place in PLACES if (one := self._held_out(base, wanted, place, runs))]
            if found:
                return sorted(found, key=lambda one: -len(one.validation))
            runs //= 2
        warning = (
            f"of {self._own} samples {wanted} cannot be held out {params.held_out_separation_s:g} "
            f"s apart from {params.min_samples} that calibrate: validated on frames that may "
            "calibrate, which shows little; collect more"
        )
        base = dataclasses.replace(base, source=SAMPLES, warnings=(*base.warnings, warning))
        validating = spread(self._own, min(self._own, params.held_out_frames))
        return [self._split(base, list(range(self._own)), validating)]

    def _held_out(self, base: Split, wanted: int, place: float, runs: int) -> Split | None:
        """Return one split, or None when too few frames are left to calibrate."""
        params, stamps = self.request.parameters, self.folder.stamps_ns
        # Files of two sessions, or numbered without zeros, are not in the order of time.
        order = list(range(self._own))
        if all(stamps):
            order.sort(key=lambda i: stamps[i] or 0)
        pool, held_out = (
            [order[i] for i in part]
            for part in hold_out(
                [stamps[i] for i in order], wanted, params.held_out_separation_s, place, runs
            )
        )
        if len(pool) < params.min_samples:
            return None
        moved, kept = self._refine(pool, held_out)
        base = dataclasses.replace(base, notes=(*base.notes, *self._about_moved(held_out, moved)))
        return self._split(base, sorted([*pool, *moved]), sorted(kept))

    def _split(self, base: Split, pool: list[int], validating: list[int]) -> Split:
        candidates = [*pool, *self._others]
        lows, highs = self.activations.lows, self.activations.highs
        covering = selection.by_coverage(lows[candidates], highs[candidates], len(candidates))
        chosen = [candidates[i] for i in covering]
        return dataclasses.replace(
            base,
            validation=self.samples.pick(validating),
            answers=self.activations.actions[validating],
            notes=(*base.notes, *self._about_uncovered(pool, validating)),
            names=tuple(self.names[i] for i in chosen),
            calibration=self.samples.pick(chosen),
            pool=len(pool),
            ranges=drift.ranges_of([self.features[i] for i in candidates], self.request.contract),
        )

    def _refine(self, pool: list[int], held_out: list[int]) -> tuple[list[int], list[int]]:
        """Return which held-out frames calibrate, as they alone extend the range, and which stay.

        Those that stay are apart in time from those that calibrate, and enough to validate: where
        they would not be, the frames that extend the range least stay held out.
        """
        lows, highs = self.activations.lows, self.activations.highs
        inside = [*pool, *self._others]
        low, high = lows[inside].min(axis=0), highs[inside].max(axis=0)
        span = highs.max(axis=0) - lows.min(axis=0)
        beyond = np.maximum(low - lows[held_out], highs[held_out] - high)
        share = (beyond / np.where(span > 0.0, span, 1.0)).max(axis=1)
        stamps = [self.folder.stamps_ns[i] for i in held_out]
        separation_s = self.request.parameters.held_out_separation_s
        moved: list[int] = []
        stay = np.ones(len(held_out), bool)
        for at in np.argsort(-share, kind="stable").tolist():
            if share[at] <= EXTENDS_BY:
                break
            without = ~near_any(stamps, [*moved, at], separation_s)
            if without.sum() >= manifest.LEAST_PROBES:
                moved, stay = [*moved, at], without
        return [held_out[i] for i in moved], [i for i, stays in zip(held_out, stay) if stays]

    def _places(self, indices: Iterable[int]) -> Counter[str]:
        """Count the regions that frames lie in, and the directions of the ONNX's actions."""
        names = ACTION_NAMES[self.request.contract.action_space]
        found: Counter[str] = Counter()
        for i in indices:
            found.update(
                f"{feature}: {region}" if feature not in region else region
                for feature, region in self.regions[i].items()
            )
            for name, action in zip(names, self.activations.actions[i]):
                if abs(action) > DIRECTION_FROM:
                    found[f"action {name} {'positive' if action > 0 else 'negative'}"] += 1
        return found

    def _about_moved(self, held_out: Sequence[int], moved: Sequence[int]) -> list[str]:
        if not moved:
            return []
        note = (
            f"{len(moved)} of {len(held_out)} held-out samples calibrate instead: each alone "
            "extends the calibrated range"
        )
        others = self._places(i for i in range(self._own) if i not in moved)
        only = [f"{name} ({n})" for name, n in self._places(moved).items() if not others[name]]
        if only:
            note += f"; no other sample shows {', '.join(only[:_MOST_NAMED])}"
        return [note]

    def _about_uncovered(self, pool: Sequence[int], validating: Sequence[int]) -> list[str]:
        """Name what the validation frames show and no sample that may calibrate does."""
        inside, others = self._places(pool), self._places(self._others)
        texts = [
            f"{name}: {n} to validate, 0 to calibrate and {others[name]} {REFERENCE}"
            for name, n in self._places(validating).items()
            if not inside[name]
        ]
        if not texts:
            return []
        return [f"only samples that validate show {'; '.join(texts[:_MOST_NAMED])}"]


def _answers(onnx: bytes, contract: Contract, frames: PackedSamples) -> NDArray[np.float32]:
    """Return the ONNX's actions on frames, (n, 2)."""
    if not frames:
        return np.zeros((0, 2), np.float32)
    return reference_actions(onnx, contract, frames)
