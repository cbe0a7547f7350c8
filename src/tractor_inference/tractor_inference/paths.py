"""Where the suite's shared files are, installed or in a checkout; replacing a file whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from .errors import ParameterError


def default_params_file() -> Path:
    """Return the shared parameter file: of the sourced workspace, else of this checkout.

    Raises:
        ParameterError: neither exists; names the places that were looked at.
    """
    try:
        return config_file("sac_rover.yaml")
    except ParameterError as error:
        raise ParameterError(f"{error}; name it with --params") from error


def config_file(name: str) -> Path:
    """Return a file of the suite's config folder: of the sourced workspace, else of this checkout.

    Raises:
        ParameterError: neither exists; names the places that were looked at.
    """
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    candidates = [
        Path(prefix, "share", "tractor_bringup", "config", name) for prefix in prefixes if prefix
    ]
    candidates.append(Path(__file__).resolve().parents[3] / "config" / name)
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked = ", ".join(map(str, candidates))
    raise ParameterError(f"found no {name}, looked at {looked}")


def default_models_dir() -> Path:
    """Return the models folder: `models/` here, where a rover started here looks, or the suite's.

    Raises:
        ParameterError: there is none here, in the sourced workspace or in this checkout.
    """
    candidates = [Path("models")]
    for prefix in filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)):
        # install/PACKAGE, or install/ when the workspace is merged
        candidates += [Path(prefix).parent.parent / "models", Path(prefix).parent / "models"]
    candidates.append(Path(__file__).resolve().parents[3] / "models")
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    looked = ", ".join(dict.fromkeys(map(str, candidates)))
    raise ParameterError(f"found no models folder, looked at {looked}; name it with --models-dir")


def replace_file(path: Path, text: str) -> None:
    """Write a file whole or not at all, also when the power fails; what UTF-8 lacks is escaped.

    Raises:
        OSError: the folder cannot be written; the file is as it was before.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
