"""How well a built model agrees with its ONNX original, and what it must reach to be promoted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_inference.model.manifest import PASS, WARNED

from ..parameters import ConvertParameters

FAIL = "fail"
WITHIN = 0.05
# Signs of smaller actions than this say nothing.
SIGN_FROM = 0.05
# Dequantised outputs may overshoot the ideal range by about one INT8 level of 2/255.
RANGE_TOLERANCE = 0.01
# An action is called constant when it moves less than this share of the ONNX's movement, and is
# not judged at all where the ONNX itself hardly moves.
CONSTANT_SHARE = 0.01
LEAST_SPREAD = 0.01
# Where the ONNX's own action moves less (standard deviation), a constant would lie within 0.05 as
# well: small errors show nothing.
LOW_SPREAD = WITHIN
# Fewer held-out frames than this are stated with the verdict.
ENOUGH_FRAMES = 200
FULL_RANGE = 2.0
# How reasons begin that are not about the rover's own drives.
BEYOND = "beyond your drives"
# Limits of the SQNR, so that an exact model and a silent reference stay plain JSON numbers.
SQNR_LIMIT_DB = 200.0


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How one action, or all of them together, agrees with onnxruntime; errors in units of -1..1.

    `sign_agreement` is the share of equal signs among the `signed` values where the ONNX's action
    is beyond +-0.05, `spread` the standard deviation of the ONNX's action.
    """

    mae: float
    p99: float
    max: float
    sqnr_db: float
    within_0_05: float
    r2: float
    sign_agreement: float
    signed: int
    spread: float


@dataclasses.dataclass(frozen=True)
class Metrics:
    """What one build answered on the validation frames."""

    frames: int
    finite: bool
    in_range: bool
    deterministic: bool
    constant: bool
    overall: Agreement
    actions: tuple[Agreement, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON types, the overall agreement on the top level."""
        fields = dataclasses.asdict(self)
        overall = fields.pop("overall")
        return {**overall, **fields, "actions": list(fields["actions"])}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """`failures` forbid a model, `warnings` allow it only when accepted, `remarks` are to read."""

    failures: tuple[str, ...]
    warnings: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """One word: pass, warn or fail."""
        return FAIL if self.failures else WARNED if self.warnings else PASS


def agreement(reference: NDArray[np.floating], outputs: NDArray[np.floating]) -> Agreement:
    """Compare two sets of actions of the same shape.

    SQNR is 10 log10(sum reference^2 / sum error^2), held within +-200 dB. R2 is
    1 - sum error^2 / sum (reference - mean)^2, 0 at least, and 1 where there is no error at all.
    p99 is a value that occurred, so that of up to 100 values the largest does not decide. NaN and
    Inf count as errors of the whole range.
    """
    signal = np.asarray(reference, dtype=np.float64).ravel()
    found = np.asarray(outputs, dtype=np.float64).ravel()
    error = np.where(np.isfinite(found), np.abs(found - signal), FULL_RANGE)
    powers = np.maximum([np.sum(signal**2), np.sum(error**2)], 1e-30)
    sqnr_db = float(np.clip(10.0 * np.log10(powers[0] / powers[1]), -SQNR_LIMIT_DB, SQNR_LIMIT_DB))
    lost, variation = np.sum(error**2), np.sum((signal - signal.mean()) ** 2)
    signed = np.abs(signal) > SIGN_FROM
    same_sign = np.sign(found[signed]) == np.sign(signal[signed])
    return Agreement(
        mae=float(error.mean()),
        p99=float(np.percentile(error, 99, method="lower")),
        max=float(error.max()),
        sqnr_db=sqnr_db,
        within_0_05=float(np.mean(error <= WITHIN)),
        r2=float(max(0.0, 1.0 - lost / max(variation, 1e-30))) if lost else 1.0,
        sign_agreement=float(same_sign.mean()) if signed.any() else 1.0,
        signed=int(signed.sum()),
        spread=float(signal.std()),
    )


def compare(
    reference: NDArray[np.floating], first: NDArray[np.floating], again: NDArray[np.floating]
) -> Metrics:
    """Compare the outputs of a build with the ONNX.

    Args:
        reference: (n, 2) actions of onnxruntime.
        first: (n, 2) actions of the build on the same frames.
        again: (m, 2), m at most n, its actions on the first m of them, run a second time.
    """
    finite = bool(np.isfinite(first).all() and np.isfinite(again).all())
    expected_spread, spread = np.ptp(reference, axis=0), np.ptp(first, axis=0)
    judged = expected_spread > LEAST_SPREAD
    return Metrics(
        frames=len(reference),
        finite=finite,
        in_range=bool(finite and np.abs(first).max() <= 1.0 + RANGE_TOLERANCE),
        deterministic=first[: len(again)].tobytes() == again.tobytes(),
        constant=bool(np.any(judged & (spread < CONSTANT_SHARE * expected_spread))),
        overall=agreement(reference, first),
        actions=tuple(agreement(r, o) for r, o in zip(reference.T, first.T)),
    )


def judge_both(
    drives: Metrics,
    beyond: Metrics | None,
    names: Sequence[str],
    params: ConvertParameters,
    quantised: bool,
) -> Verdict:
    """Judge a build on the rover's drives and beyond them; it passes where it passes on both.

    Args:
        drives: its agreement on the validation frames of the drives.
        beyond: on the reference observations, None where there are none.
        names, params, quantised: see `judge`.
    """
    on_drives = judge(drives, names, params, quantised)
    if beyond is None:
        warnings = _inconclusive(names, [drives]) if quantised else []
        return dataclasses.replace(on_drives, warnings=(*on_drives.warnings, *warnings), remarks=())
    verdict = judge(beyond, names, params, quantised)
    warnings = _inconclusive(names, [drives, beyond]) if quantised else []
    signs = [
        f"{name}: expected no wrong sign, found {wrong} of {found.signed}"
        for name, found in zip(names, beyond.actions)
        if (wrong := round((1.0 - found.sign_agreement) * found.signed))
    ]
    about_beyond = [*verdict.warnings, *(signs if quantised and not verdict.failures else [])]
    return Verdict(
        (*on_drives.failures, *(f"{BEYOND}: {text}" for text in verdict.failures)),
        (*on_drives.warnings, *(f"{BEYOND}: {text}" for text in about_beyond), *warnings),
        (*on_drives.remarks, *(f"{BEYOND}: {text}" for text in verdict.remarks)),
    )


def _inconclusive(names: Sequence[str], sets: Sequence[Metrics]) -> list[str]:
    """Return a sentence about the actions that hardly move on any of the sets of frames."""
    spreads = {name: max(found.actions[i].spread for found in sets) for i, name in enumerate(names)}
    still = {name: f"{spread:.3f}" for name, spread in spreads.items() if spread < LOW_SPREAD}
    if not still:
        return []
    return [
        f"{', '.join(still)}: inconclusive, the ONNX's own action hardly moves on these frames "
        f"(standard deviation {', '.join(still.values())}, less than {LOW_SPREAD}): a constant "
        "would be within the limits as well; drive where it must move, to know more"
    ]


def judge(
    metrics: Metrics, names: Sequence[str], params: ConvertParameters, quantised: bool
) -> Verdict:
    """Judge a build action by action against the gates of the parameter file.

    Args:
        metrics: of the build.
        names: of the actions, for the sentences.
        params: the gates.
        quantised: INT8, else the one gate of FP16 counts.

    An action that hardly moves on these frames is a remark.
    """
    if not metrics.finite:
        return Verdict(("expected finite actions, found NaN or Inf: check samples and ONNX",), ())
    failures: list[str] = []
    warnings: list[str] = []
    if not metrics.in_range:
        failures.append("expected actions in -1..1, found values outside: is the output a tanh?")
    if not metrics.deterministic:
        failures.append("expected the same actions twice for the same frames, found others")
    if metrics.constant:
        failures.append(
            "expected actions that follow the frame, found a constant where the ONNX moves: "
            "the samples do not cover the inputs"
        )
    count = metrics.frames
    for name, found in zip(names, metrics.actions):
        if not quantised:
            failures += _beyond(name, "mean absolute error", found.mae, params.fp16_max_mae)
            continue
        failed = _beyond(name, "mean absolute error", found.mae, params.fail_max_mae)
        if found.spread >= LOW_SPREAD:
            failed += _below(name, "SQNR in dB", found.sqnr_db, params.fail_min_sqnr_db)
        failed += _share_below(
            name,
            "share within 0.05",
            found.within_0_05,
            params.fail_min_within_0_05,
            count,
        )
        failures += failed
        if failed:
            continue
        warnings += _beyond(name, "mean absolute error", found.mae, params.pass_max_mae)
        warnings += _beyond(name, "p99 of the error", found.p99, params.pass_max_p99)
        warnings += _beyond(name, "largest error", found.max, params.pass_max_error)
        warnings += _share_below(
            name,
            "share within 0.05",
            found.within_0_05,
            params.pass_min_within_0_05,
            count,
        )
        if found.spread < LOW_SPREAD:
            continue
        warnings += _below(name, "SQNR in dB", found.sqnr_db, params.pass_min_sqnr_db)
        warnings += _below(name, "R2", found.r2, params.pass_min_r2)
        warnings += _share_below(
            name, "share of equal signs", found.sign_agreement,
            params.pass_min_sign_agreement, found.signed,
        )  # fmt: skip
    remarks = _inconclusive(names, [metrics]) if quantised else []
    return Verdict(tuple(failures), tuple(warnings), tuple(remarks))


def _beyond(name: str, what: str, found: float, limit: float) -> list[str]:
    """Return a sentence when a figure is above its limit; NaN is."""
    return (
        [] if found <= limit else [f"{name}: {what}: expected at most {limit:g}, found {found:.4g}"]
    )


def _below(name: str, what: str, found: float, limit: float) -> list[str]:
    """Return a sentence when a figure is below its limit; NaN is."""
    return (
        []
        if found >= limit
        else [f"{name}: {what}: expected at least {limit:g}, found {found:.4g}"]
    )


def _share_below(name: str, what: str, found: float, limit: float, count: int) -> list[str]:
    """Return a sentence when a share of so many values is below its limit by more than one.

    Of few values a share hangs on single ones; one never decides.
    """
    return _below(name, what, found, min(limit, 1.0 - 1.0 / max(count, 1)))
