"""The interface of all backends, and the checks they share."""

from __future__ import annotations

import abc
import ctypes
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import Contract
from tractor_core.errors import ContractError, ModelError, raise_all

from ..manifest import Manifest, ProbesRecord


class Backend(abc.ABC):
    """Runs an actor, one frame a call; used by one thread at a time.

    A subclass opens its model in its constructor, answers in `_run` and frees it in `_release`.
    Layouts and types other than those of `infer` exist only inside a subclass.
    """

    name: str
    # sha256 of the model file; empty where there is none.
    digest: str = ""
    # Why `auto` picked it; empty where it was asked for by name.
    chosen_because: str = ""
    # {feature: [lowest, highest]} of the pool it was calibrated from; empty where nothing was.
    calibrated: Mapping[str, Sequence[float]] = MappingProxyType({})
    # Frames it must answer as recorded; None for a model without a manifest.
    probes: ProbesRecord | None = None
    # The noise that the model asks for, 0..1, see `exploration`; None where it names none.
    exploration_scale: float | None = None

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self._closed = False

    def _follow(self, record: Manifest) -> None:
        """Note what a model's manifest says about it."""
        self.digest = record.model.sha256
        self.calibrated = record.calibration.ranges
        self.probes = record.probes
        self.exploration_scale = record.exploration_scale

    def infer(self, bev: NDArray[np.float32], proprio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Answer one observation.

        Args:
            bev: (1, 2, N, N) float32 in [0, 1].
            proprio: (1, 6) float32, normalised by `contract.normalize`.

        Returns:
            (1, 2) float32 action as the model gave it: the caller checks its values.

        Raises:
            ContractError: an input has another shape or type, or is not finite; lists all.
            ModelError: the model gave no answer, or the backend is closed.
        """
        if self._closed:
            raise ModelError(f"backend {self.name}: it is closed; open the model again")
        inputs = dict(zip(self.contract.input_shapes, (bev, proprio)))
        problems = [
            problem
            for name, array in inputs.items()
            if (problem := _input_problem(name, array, self.contract.input_shapes[name]))
        ]
        raise_all(ContractError, f"backend {self.name}: input refused:", problems)
        return self._run(bev, proprio)

    def tidy(self) -> None:  # noqa: B027 - most backends leave nothing behind
        """Do what an inference leaves to be done, once its answer was sent."""

    def close(self) -> None:
        """Free the model; closing twice is fine."""
        if not self._closed:
            self._closed = True
            self._release()
            _give_memory_back()

    @abc.abstractmethod
    def _run(self, bev: NDArray[np.float32], proprio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Answer a checked observation."""

    def _release(self) -> None:  # noqa: B027 - most backends hold nothing that must be freed
        """Free what the constructor opened."""


def _give_memory_back() -> None:
    """Let glibc return what was freed: a rover that takes a new model every hour must not grow.

    Otherwise what a model leaves is spread over the arenas of the threads that opened it, and the
    process varies by a tenth. Another C library keeps nothing of the kind.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _input_problem(name: str, array: NDArray, shape: tuple[int, ...]) -> str:
    """Return why an input cannot be used, or an empty string."""
    if not isinstance(array, np.ndarray):
        return f"{name}: expected a numpy array, found {type(array).__name__}"
    if array.dtype != np.float32 or array.shape != shape:
        return f"{name}: expected float32 {shape}, found {array.dtype} {array.shape}"
    if not np.isfinite(array).all():
        count = int(np.count_nonzero(~np.isfinite(array)))
        return f"{name}: expected finite values, found {count} NaN or Inf"
    return ""
