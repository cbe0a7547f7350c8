"""Where the suite's shared files are, installed or in a source checkout."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import ParameterError


def default_params_file() -> Path:
    """Return the shared parameter file: of the sourced workspace, else of this checkout.

    Raises:
        ParameterError: neither exists; names the places that were looked at.
    """
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    candidates = [
        Path(prefix, "share", "tractor_bringup", "config", "sac_rover.yaml")
        for prefix in prefixes
        if prefix
    ]
    candidates.append(Path(__file__).resolve().parents[3] / "config" / "sac_rover.yaml")
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked = ", ".join(map(str, candidates))
    raise ParameterError(
        f"no shared parameter file found, looked at {looked}; name it with --params"
    )
