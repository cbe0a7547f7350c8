"""Policy, models, backends and nodes that drive the rover.

Modules that moved to tractor_core are found under their old names as well, with a
DeprecationWarning, until version 0.2.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

_STAYED = (
    "contract", "drift", "errors", "files", "frames", "kinematics", "messages", "npz", "outside",
    "parameters", "paths", "proprio", "robot", "samples", "system_error", "text",
)  # fmt: skip
_MOVED = {name: (name,) for name in _STAYED} | {
    "bev": ("bev.builder", "bev.geometry", "bev.parameters", "motion", "sensors"),
    "command": ("cli",),
    "coverage": ("diversity",),
    "freshness": ("input_monitor",),
    "fusion": ("bev.fusion", "bev.parameters"),
    "odometry": ("motion",),
    "scan": ("sensors",),
}


class _OldNames:
    """Finds and loads `tractor_inference.NAME` as what tractor_core holds today."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: object = None
    ) -> ModuleSpec | None:
        package, _, module = name.rpartition(".")
        if package != __name__ or module not in _MOVED:
            return None
        return importlib.util.spec_from_loader(name, _OldNames)  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        return None

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        targets = [f"tractor_core.{name}" for name in _MOVED[module.__name__.rpartition(".")[2]]]
        message = f"{module.__name__} is now {', '.join(targets)}"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        for target in targets:
            names = vars(importlib.import_module(target)).items()
            vars(module).update({n: value for n, value in names if not n.startswith("__")})


sys.meta_path.append(_OldNames)  # type: ignore[arg-type]
