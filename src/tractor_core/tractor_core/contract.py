"""The observation contract: what a model sees and answers, stated once.

The contract is read from the `observation` section of the shared parameter file. `normalize` is the
only function of the suite that normalises proprioception.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import parameters
from .errors import ContractError
from .parameters import param

BEV_INPUT = "bev"
PROPRIO_INPUT = "proprio"
ACTION_OUTPUT = "action"
ACTION_SIZE = 2
# tanh ends at 1; INT8 rounding may step a little beyond.
ACTION_TOLERANCE = 0.02
ACTION_NAMES = {"tracks": ("left", "right"), "twist": ("linear", "angular")}
# The order is part of the design: the code that fills the vector and the trained models share it.
# The last action: with the action space tracks these are the left and the right track.
LAST_ACTION = ("prev_lin", "prev_ang")
PROPRIO_NAMES = ("lidar_min", *LAST_ACTION, "cur_lin", "cur_ang", "gap_heading")
CHANNELS = ("lidar", "depth")
PREFIX = "observation."


@dataclasses.dataclass(frozen=True)
class Contract:
    """All that a trained actor depends on; see config/sac_rover.yaml."""

    grid_cells: int = param("Cells per side of the square grid.", minimum=16, maximum=1024)
    grid_extent_m: float = param("Side of the grid, m.", minimum=0.5, maximum=100.0)
    grid_channels: tuple[str, ...] = param("Grid channels in order.", length=len(CHANNELS))
    proprio_names: tuple[str, ...] = param("Proprioception in order.", length=len(PROPRIO_NAMES))
    proprio_mean: tuple[float, ...] = param("Mean per feature, raw units.")
    proprio_std: tuple[float, ...] = param("Scale per feature, raw units.", minimum=1e-6)
    proprio_clip: float = param("Limit of a normalised feature.", minimum=0.1, maximum=100.0)
    action_space: str = param(
        "Meaning of the two actions: (left, right) tracks or (linear, angular) twist.",
        choices=("tracks", "twist"),
    )

    def problems(self) -> list[str]:
        """Return what is wrong between fields, one sentence each."""
        found = []
        if self.grid_channels != CHANNELS:
            found.append(f"grid_channels: expected {CHANNELS}, found {self.grid_channels}")
        if self.proprio_names != PROPRIO_NAMES:
            found.append(f"proprio_names: expected {PROPRIO_NAMES}, found {self.proprio_names}")
        for name in ("proprio_mean", "proprio_std"):
            if len(getattr(self, name)) != len(self.proprio_names):
                found.append(
                    f"{name}: expected {len(self.proprio_names)} elements as in proprio_names, "
                    f"found {len(getattr(self, name))}"
                )
        return found

    @property
    def resolution_m(self) -> float:
        """Side of one cell, m."""
        return self.grid_extent_m / self.grid_cells

    def middles(self, marked: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the middles of the marked cells of (cells, cells), (n, 2) m in base_link."""
        return self.grid_extent_m / 2.0 - (np.argwhere(marked) + 0.5) * self.resolution_m

    @property
    def bev_shape(self) -> tuple[int, int, int]:
        """Shape of one grid: (channels, rows, columns)."""
        return (len(self.grid_channels), self.grid_cells, self.grid_cells)

    @property
    def proprio_size(self) -> int:
        """Number of proprioceptive features."""
        return len(self.proprio_names)

    @property
    def proprio_labels(self) -> tuple[str, ...]:
        """The proprioceptive features as people read them: the last action says what it held."""
        last = dict(zip(LAST_ACTION, ACTION_NAMES[self.action_space]))
        return tuple(
            f"{name} ({last[name]})" if name in last else name for name in self.proprio_names
        )

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the model's inputs by name, batch of one."""
        return {BEV_INPUT: (1, *self.bev_shape), PROPRIO_INPUT: (1, self.proprio_size)}

    def canonical(self) -> dict[str, Any]:
        """Return the contract as plain JSON types, the form that is hashed and stored."""
        return parameters.canonical(self)

    @property
    def digest(self) -> str:
        """sha256 (hex) of the canonical form."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Return the fields in which a stored canonical form differs from this contract."""
        return parameters.differences(self.canonical(), other)

    def require_same(
        self, digest: str, where: str, fields: Mapping[str, Any] | None = None
    ) -> None:
        """Refuse a digest that is not this contract's.

        Args:
            digest: sha256 found in a sample or manifest.
            where: what carries it, for the message.
            fields: the canonical form stored there, to name the fields that differ.

        Raises:
            ContractError: with both digests and the fields that differ.
        """
        if digest == self.digest:
            return
        detail = (
            "; ".join(self.differences(fields)) if fields else "its fields are not stored there"
        )
        raise ContractError(
            f"{where}: expected contract {self.digest}, found {digest} ({detail}); "
            "use the parameter file it was made with, or make it again"
        )


def load(params_file: str | Path) -> Contract:
    """Read the contract from the shared parameter file.

    Raises:
        ParameterError: listing everything that is missing or wrong.
    """
    return parameters.from_values(Contract, parameters.read_file(params_file), PREFIX)


def normalize(contract: Contract, proprio: NDArray[np.floating]) -> NDArray[np.float32]:
    """Normalise raw proprioception: clip((raw - mean) / std, -clip, clip).

    Args:
        contract: source of mean, std and clip.
        proprio: (..., 6) raw values in the units of the contract (m, m/s, rad/s, 1).

    Returns:
        (..., 6) float32 in [-clip, clip].

    Raises:
        ContractError: wrong last dimension, or a value that is not finite.
    """
    raw = np.asarray(proprio, dtype=np.float64)
    if raw.ndim == 0 or raw.shape[-1] != contract.proprio_size:
        raise ContractError(
            f"proprio: expected last dimension {contract.proprio_size}, found shape {raw.shape}"
        )
    if not np.isfinite(raw).all():
        bad = sorted(
            {contract.proprio_names[i] for i in np.flatnonzero(~np.isfinite(raw)) % raw.shape[-1]}
        )
        raise ContractError(f"proprio: expected finite values, found NaN or Inf in {bad}")
    scaled = (raw - np.array(contract.proprio_mean)) / np.array(contract.proprio_std)
    return np.clip(scaled, -contract.proprio_clip, contract.proprio_clip).astype(np.float32)


def denormalize(contract: Contract, normalised: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return normalised proprioception (..., 6) in raw units; what was clipped stays clipped."""
    raw = normalised * np.array(contract.proprio_std) + np.array(contract.proprio_mean)
    return raw.astype(np.float32)
