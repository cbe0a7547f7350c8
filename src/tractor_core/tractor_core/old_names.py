"""Names under which modules were found before they moved."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any


def keep(
    package: str, moved: Mapping[str, Sequence[str]], renamed: Mapping[str, str] | None = None
) -> None:
    """Let modules of a package be imported, and run by `python -m`, by their old names.

    An import warns with a DeprecationWarning that says where the names are now.

    Args:
        package: for instance tractor_inference.
        moved: {name in the package: modules that hold what it held}. Only one with one module can
            be run.
        renamed: {"module.NAME" in the package: what NAME is called now}.
    """
    # Ahead of the others: a folder that git or colcon left behind would count as a package.
    sys.meta_path.insert(0, _OldNames(package, moved, renamed))  # type: ignore[arg-type]


class _OldNames:
    """A finder and loader."""

    def __init__(
        self,
        package: str,
        moved: Mapping[str, Sequence[str]],
        renamed: Mapping[str, str] | None,
    ) -> None:
        self._moved = {f"{package}.{name}": targets for name, targets in moved.items()}
        self._renamed = {f"{package}.{old}": new for old, new in (renamed or {}).items()}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: object = None
    ) -> ModuleSpec | None:
        if name not in self._moved:
            return None
        loader: Any = self
        # As a package, so that names below it are asked for as well.
        return importlib.util.spec_from_loader(
            name, loader, origin=name, is_package=self._has_below(name)
        )

    def _has_below(self, name: str) -> bool:
        return any(other.startswith(f"{name}.") for other in self._moved)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        targets = self._moved[module.__name__]
        message = f"{module.__name__} is now {', '.join(targets)}"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        for target in targets:
            names = vars(importlib.import_module(target)).items()
            vars(module).update({n: value for n, value in names if not n.startswith("__")})
        for old, new in self._renamed.items():
            name, _, attribute = old.rpartition(".")
            if name == module.__name__:
                setattr(module, attribute, getattr(module, new))

    def get_code(self, name: str) -> CodeType:
        """Return what `python -m` runs."""
        (target,) = self._moved[name]
        return compile(f"import sys\nfrom {target} import main\nsys.exit(main())", name, "exec")
