"""Where the suite's shared files are, installed or in a checkout."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .errors import ParameterError

# In share/tractor_bringup: the checkout that a copying build was made from; written by setup.py.
CHECKOUT_RECORD = "checkout.txt"
MOST_DIFFERENCES = 5


def default_params_file() -> Path:
    """Return the one shared parameter file: see `config_file`.

    Raises:
        ParameterError: there is none, or two that differ and both could be meant.
    """
    try:
        return config_file("sac_rover.yaml")
    except ParameterError as error:
        raise ParameterError(
            f"{error}; or name the one that is meant: --params FILE, with ros2 launch "
            "params_file:=FILE"
        ) from error


def config_file(name: str) -> Path:
    """Return a file of the config folder, its real path: every command and launch file asks here.

    Looked at are the checkout that this code, this Python's .venv or the sourced workspace is of,
    and what that workspace has installed. After `make build` these are one file. A workspace that
    was built by copying may hold an older one: while both say the same, the checkout's is returned.

    Raises:
        ParameterError: there is none, naming the places that were looked at, or two differ, naming
            both files, where they differ and what to do.
    """
    checkouts = [root / "config" / name for root in _checkouts()]
    prefix = sourced_prefix()
    installed = [prefix / "share" / "tractor_bringup" / "config" / name] if prefix else []
    looked = [*checkouts, *installed] or [_code_root() / "config" / name]
    found = list(dict.fromkeys(file.resolve() for file in looked if file.is_file()))
    if not found:
        raise ParameterError(f"found no {name}, looked at {', '.join(map(_with_target, looked))}")
    for other in found[1:]:
        differences = _differences(found[0], other)
        if differences:
            raise ParameterError(
                f"expected one {name}, found two that differ: {found[0]} and {other} "
                f"({'; '.join(differences)}). {_advice(found[0], other)}"
            )
    return found[0]


def require_current(installed: Path) -> None:
    """Let an installed copy of a launch file or script go on only while its checkout has the same.

    Raises:
        ParameterError: it was edited in the checkout after the build; names both files.
    """
    for copy, source in stale_copies():
        if copy.resolve() == installed.resolve():
            raise ParameterError(
                f"{installed} is an older copy of {source}, which was edited since the build. "
                f"{_advice(source, installed)}"
            )


def stale_copies() -> list[tuple[Path, Path]]:
    """Return (installed file, file of the checkout) of the sourced workspace where they differ.

    Parameter files, launch files and scripts are looked at. Nothing is stale where the workspace
    links to its checkout, or where that is not on this machine.
    """
    prefix = sourced_prefix()
    source = _source_of(prefix) if prefix else None
    if prefix is None or source is None:
        return []
    folders = {
        prefix / "share/tractor_bringup/config": source / "config",
        prefix / "share/tractor_bringup/launch": source / "launch",
        prefix / "lib/tractor_bringup": source / "src/tractor_bringup/scripts",
    }
    return [
        (copy, folder / copy.name)
        for installed, folder in folders.items()
        for copy in sorted(installed.glob("*"))
        if (folder / copy.name).is_file() and _differences(folder / copy.name, copy)
    ]


def sourced_prefix() -> Path | None:
    """Return the install prefix of the sourced workspace that tractor_bringup is taken from."""
    for prefix in filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)):
        if Path(prefix, "share", "tractor_bringup", "config").is_dir():
            return Path(prefix)
    return None


def _code_root() -> Path:
    return Path(__file__).resolve().parents[3]


def _checkouts() -> list[Path]:
    """Return the checkouts that may be meant: of this code, this .venv, the sourced workspace."""
    roots = [_code_root(), Path(sys.prefix).resolve().parent]
    prefix = sourced_prefix()
    source = _source_of(prefix) if prefix is not None else None
    return [root for root in dict.fromkeys([*roots, *filter(None, [source])]) if _is_checkout(root)]


def _is_checkout(folder: Path) -> bool:
    return (folder / "config").is_dir() and (folder / "src/tractor_bringup/package.xml").is_file()


def _source_of(prefix: Path) -> Path | None:
    """Return the checkout that a workspace was built from by copying, if it is on this machine.

    The record has its absolute path, and that from the prefix: both may have been moved as one.
    """
    try:
        text = (prefix / "share/tractor_bringup" / CHECKOUT_RECORD).read_text(encoding="utf-8")
    except (OSError, ValueError):  # a workspace of links has none
        return None
    roots = ((prefix / line).resolve() for line in text.splitlines() if line)
    return next((root for root in roots if _is_checkout(root)), None)


def _with_target(file: Path) -> str:
    if not file.is_symlink():
        return str(file)
    return (
        f"{file}, a link to {os.readlink(file)} which is not there: build again with make build; "
        "to copy a workspace to another machine build it with colcon build --base-paths src"
    )


def _differences(one: Path, other: Path) -> list[str]:
    """Return where two files differ; parameter files that say the same in other words do not."""
    try:
        if one.read_bytes() == other.read_bytes():
            return []
    except OSError as error:
        return [str(error)]
    if one.suffix != ".yaml":
        return ["other contents"]
    from . import parameters

    try:
        values = [parameters.read_sections(file) for file in (one, other)]
    except ParameterError as error:
        return [str(error)]
    names = [key for key in {**values[0], **values[1]} if values[0].get(key) != values[1].get(key)]
    texts = [
        f"{name} of {section}: {_value(values[0], section, name)} and "
        f"{_value(values[1], section, name)}"
        for section, name in names[:MOST_DIFFERENCES]
    ]
    return texts + ([f"{len(names) - len(texts)} more"] if len(names) > len(texts) else [])


def _value(values: dict[tuple[str, str], object], section: str, name: str) -> str:
    return repr(values[section, name]) if (section, name) in values else "nothing"


def _advice(first: Path, other: Path) -> str:
    prefix = sourced_prefix()
    if prefix is not None and other.is_relative_to(prefix.resolve()):
        root = first.parents[1] if first.parent.name in ("config", "launch") else first.parents[3]
        return (
            f"The workspace holds copies, which edits of the checkout do not reach: run make build "
            f"in {root}, whose workspace links to the checkout's files, and source that"
        )
    also = f"the workspace in {prefix}" if prefix is not None else str(_code_root())
    return (
        f"Two checkouts are in use, by {sys.executable} and by {also}: source the workspace of the "
        "one that you start from"
    )


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
