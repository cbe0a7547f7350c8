"""How well a built model agrees with its ONNX original, and what it must reach to be promoted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_inference import onnx_model
from tractor_inference.contract import (
    ACTION_OUTPUT,
    ACTION_SIZE,
    BEV_INPUT,
    PROPRIO_INPUT,
    Contract,
    normalize,
)
from tractor_inference.errors import ModelError
from tractor_inference.samples import Sample

WITHIN = 0.05
# Dequantised outputs may overshoot the ideal range by about one INT8 level of 2/255.
RANGE_TOLERANCE = 0.01
# An action is called constant when it moves less than this share of the ONNX's movement, and is
# not judged at all where the ONNX itself hardly moves.
CONSTANT_SHARE = 0.01
LEAST_SPREAD = 0.01
# Of fewer values than this a share hangs on single frames.
FEW_VALUES = 100
# Limits of the SQNR, so that an exact model and a silent reference stay plain JSON numbers.
SQNR_LIMIT_DB = 200.0


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Errors of one action or of all, in units of the action (-1..1), against onnxruntime."""

    mae: float
    p99: float
    max: float
    sqnr_db: float
    within_0_05: float


@dataclasses.dataclass(frozen=True)
class Metrics:
    """What one build answered on the validation frames, so many values in all."""

    values: int
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
class Gate:
    """What a build must reach: mean absolute error at most, share within 0.05 at least."""

    max_mae: float
    min_within_0_05: float = 0.0

    def least_share(self, values: int) -> float:
        """Return the share that so many values must reach.

        Of fewer than 100 values two may always lie outside, so that one frame never decides.
        """
        if values >= FEW_VALUES:
            return self.min_within_0_05
        return min(self.min_within_0_05, (values - ACTION_SIZE) / values)


def agreement(reference: NDArray[np.floating], outputs: NDArray[np.floating]) -> Agreement:
    """Compare two sets of actions of the same shape.

    SQNR is 10 log10(sum reference^2 / sum error^2), held within +-200 dB.
    """
    signal = np.asarray(reference, dtype=np.float64).ravel()
    error = np.abs(np.asarray(outputs, dtype=np.float64).ravel() - signal)
    powers = np.maximum([np.sum(signal**2), np.sum(error**2)], 1e-30)
    sqnr_db = float(np.clip(10.0 * np.log10(powers[0] / powers[1]), -SQNR_LIMIT_DB, SQNR_LIMIT_DB))
    return Agreement(
        mae=float(error.mean()),
        p99=float(np.percentile(error, 99)),
        max=float(error.max()),
        sqnr_db=sqnr_db,
        within_0_05=float(np.mean(error <= WITHIN)),
    )


def compare(
    reference: NDArray[np.floating], first: NDArray[np.floating], second: NDArray[np.floating]
) -> Metrics:
    """Judge the outputs of a build against the ONNX.

    Args:
        reference: (n, 2) actions of onnxruntime.
        first, second: (n, 2) actions of the build on the same frames, run twice.
    """
    finite = bool(np.isfinite(first).all() and np.isfinite(second).all())
    expected_spread, spread = np.ptp(reference, axis=0), np.ptp(first, axis=0)
    judged = expected_spread > LEAST_SPREAD
    return Metrics(
        values=reference.size,
        finite=finite,
        in_range=bool(finite and np.abs(first).max() <= 1.0 + RANGE_TOLERANCE),
        deterministic=first.tobytes() == second.tobytes(),
        constant=bool(np.any(judged & (spread < CONSTANT_SHARE * expected_spread))),
        overall=agreement(reference, first),
        actions=tuple(agreement(r, o) for r, o in zip(reference.T, first.T)),
    )


def gate_problems(metrics: Metrics, gate: Gate) -> list[str]:
    """Return why a build must not be promoted, one sentence each; empty when it may."""
    if not metrics.finite:
        return ["expected finite actions, found NaN or Inf: check the samples and the ONNX"]
    problems = []
    if not metrics.in_range:
        problems.append("expected actions in -1..1, found values outside: is the output a tanh?")
    if not metrics.deterministic:
        problems.append("expected the same actions twice for the same frames, found others")
    if metrics.constant:
        problems.append(
            "expected actions that follow the frame, found a constant where the ONNX moves: "
            "the samples do not cover the inputs"
        )
    overall = metrics.overall
    if not overall.mae <= gate.max_mae:
        problems.append(
            f"expected a mean absolute error of at most {gate.max_mae:g}, found {overall.mae:.4g}"
        )
    least_share = gate.least_share(metrics.values)
    if not overall.within_0_05 >= least_share:
        problems.append(
            f"expected at least {least_share:.1%} of the actions within {WITHIN}, "
            f"found {overall.within_0_05:.1%}"
        )
    return problems


def onnx_inputs(contract: Contract, frame: Sample) -> dict[str, NDArray[np.float32]]:
    """Return a raw frame as the inputs of the ONNX, proprioception normalised."""
    return {BEV_INPUT: frame.bev[None], PROPRIO_INPUT: normalize(contract, frame.proprio)[None]}


def reference_actions(
    onnx_data: bytes, contract: Contract, frames: Iterable[Sample]
) -> NDArray[np.float32]:
    """Return the (n, 2) actions of onnxruntime.

    Raises:
        ModelError: it cannot run the ONNX, or the ONNX itself answers NaN or Inf.
    """
    session = onnx_model.open_session(onnx_data)
    actions = np.concatenate(
        [
            onnx_model.run_session(session, [ACTION_OUTPUT], onnx_inputs(contract, frame))[0]
            for frame in frames
        ]
    )
    if not np.isfinite(actions).all():
        count = int(np.count_nonzero(~np.isfinite(actions).all(axis=1)))
        raise ModelError(
            f"the ONNX itself answers NaN or Inf on {count} of {len(actions)} frames; "
            "export the actor again"
        )
    return actions


def synthetic_frames(contract: Contract, count: int, seed: int = 0) -> list[Sample]:
    """Draw frames for a conversion without samples.

    Grids are sparse with about 5 % of the cells occupied; proprioception is uniform in mean +- std
    of the contract, which are the raw ranges (lidar_min 0..4 m, actions -1..1, speeds as driven).
    """
    rng = np.random.default_rng(seed)
    mean, std = np.array(contract.proprio_mean), np.array(contract.proprio_std)
    return [
        Sample(
            (rng.random(contract.bev_shape) < 0.05).astype(np.float32),
            (mean + std * rng.uniform(-1.0, 1.0, mean.shape)).astype(np.float32),
        )
        for _ in range(count)
    ]
