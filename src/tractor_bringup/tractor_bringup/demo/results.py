"""What two drives and a conversion leave to compare."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLOURS = {"onnx": "#1f5fa8", "int8": "#d9741a"}
NAMES = {"onnx": "ONNX", "int8": "INT8"}


@dataclasses.dataclass
class Drive:
    """One drive with one model: a result per world, latencies (ms) of every moving command.

    `actor_log` is what the actor printed, `drift` its advice to recalibrate, empty when none.
    """

    runs: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    latencies_ms: list[float] = dataclasses.field(default_factory=list)
    actor_log: Path = Path()
    drift: str = ""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Both drives, the conversion's result, and both models' actions on every kept sample.

    `actions` holds (n, 2) float32 per label; `bev` is one kept grid (2, cells, cells).
    """

    conversion: dict[str, Any]
    drives: dict[str, Drive]
    actions: dict[str, NDArray[np.float32]]
    bev: NDArray[np.float32]
    samples: int
