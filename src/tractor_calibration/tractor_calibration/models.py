"""List the versions of the models, choose the active one, or go back to the one before.

  models list        every version: number, when and for what it was made, how well it agrees
  models promote V   make V the active model: its name, a beginning that only it has, or its number
  models rollback    go back to the model that was active before
  models accept V    let a model that a training server offered be converted: its version, such as 7

A version is read and checked before it is activated: its manifest, sha256, size and contract. A
running rover goes on with the model it has loaded until it is told, or watches the folder
(watch_model).

Exit codes:
  0  listed, the version is active, or the model is accepted
  2  wrong arguments or parameters
  3  no such version, several that fit, none that was active before, or no such offered model
  6  the version cannot be used: its manifest, sha256, size or contract is not as expected
  7  no models folder, files in the way, it cannot be written, or a conversion is busy there
  130  interrupted
After 2 to 7 the models folder is as it was before; an interrupt leaves it so, or came too late.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tractor_core.cli import INTERRUPTED, USAGE, answer, begin, make_parser, params_file, printing
from tractor_core.errors import ModelError, ParameterError, TractorError
from tractor_core.offered import WAITING, OfferedModels
from tractor_core.system_error import explain
from tractor_core.text import printable

log = logging.getLogger(__name__)

NO_VERSION, UNUSABLE, FILES = 3, 6, 7
RELOAD = "ros2 service call /sac_actor/reload_model std_srvs/srv/Trigger"


class _RefusedError(Exception):
    """The command cannot go on; `code` is its exit code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser("models", __doc__)
    parser.add_argument("verb", choices=("list", "promote", "rollback", "accept"))
    parser.add_argument(
        "version", nargs="?", metavar="V", help="for promote and accept: the version"
    )
    parser.add_argument(
        "--models-dir", type=Path, metavar="DIR",
        help="the models folder (default: models/ here, else that of the workspace)",
    )  # fmt: skip
    args = parser.parse_args(argv)
    needs_version = args.verb in ("promote", "accept")
    if needs_version != (args.version is not None):
        expected = "a version" if needs_version else "no version"
        parser.error(f"{args.verb}: expected {expected}, found {args.version or 'none'}")
    return args


@contextlib.contextmanager
def _refusing(folder: Path, code: int) -> Iterator[None]:
    """Give what is refused in this block an exit code; for files that fail it is always FILES."""
    try:
        yield
    except TractorError as error:
        raise _RefusedError(code, str(error)) from error
    except OSError as error:
        reason = explain(error, folder)
        raise _RefusedError(FILES, f"the models folder cannot be used: {reason}") from error


def _list(folder: Path, contract: Any) -> dict[str, Any]:
    from .store import folder as models_folder

    active = models_folder.active(folder)
    rows = []
    for version in models_folder.versions(folder, contract):
        row: dict[str, Any] = {
            "number": version.number,
            "version": version.name,
            "drives": version.name == active,
        }
        if version.record is None:
            row["broken"] = version.broken
        else:
            model = version.record.model
            measured = version.record.validation.get(model.precision)
            figures = measured if isinstance(measured, dict) else {}
            row |= {
                "created": version.record.created,
                "precision": model.precision,
                "build": version.record.built_as,
                "verdict": version.record.verdict or None,
                "target": model.target,
                "bytes": model.bytes,
                "mae": _number(figures.get("mae")),
                "sqnr_db": _number(figures.get("sqnr_db")),
            }
        rows.append(row)
    return {
        "folder": str(folder),
        "drives": active,
        "exists": (folder / models_folder.LINK).exists(),
        "before": models_folder.before(folder),
        "versions": rows,
        "offered": [
            {"name": model.name} | dataclasses.asdict(model)
            for model in OfferedModels(folder).all()
        ],
    }


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) else None


def _change(folder: Path, verb: str, wanted: str | None, contract: Any) -> dict[str, Any]:
    """Activate a version: the wanted one, or the one before."""
    from .store import folder as models_folder
    from .store import promotion

    with _refusing(folder, FILES), promotion.workspace(folder) as work:
        with _refusing(folder, NO_VERSION):
            version = (
                _before(folder, contract) if wanted is None else models_folder.find(folder, wanted)
            )
        with _refusing(folder, UNUSABLE):
            try:
                change, kept = promotion.promote(work, version, contract, verb)
            except TractorError as error:
                if wanted is not None:
                    raise
                raise ModelError(f"{error}\n{_choice(folder, contract)}") from error
    return {
        "folder": str(folder),
        "drives": version,
        "changed": change is not None,
        "before": change.previous if change else models_folder.before(folder),
        "kept": kept,
    }


def _before(folder: Path, contract: Any) -> str:
    """Return the version to roll back to; raises ModelError."""
    from .store import folder as models_folder

    version = models_folder.before(folder)
    if version is None:
        raise ModelError(
            f"{folder}: expected a model that drove before, found none; {_choice(folder, contract)}"
        )
    if version not in models_folder.names(folder):
        raise ModelError(
            f"{folder}: expected a version that drove before, found {version}, which is none; "
            f"{_choice(folder, contract)}"
        )
    return version


def _choice(folder: Path, contract: Any) -> str:
    """Return what to do where `rollback` cannot: which versions could be used instead."""
    from .store import folder as models_folder

    whole = [
        version.name
        for version in models_folder.versions(folder, contract)
        if version.record and version.name != models_folder.active(folder)
    ]
    if not whole:
        return "no other version is whole: convert again"
    return f"use `models promote V`, whole are: {', '.join(map(printable, whole))}"


def table(result: dict[str, Any]) -> str:
    """Return what `list` found as text for a terminal."""
    made = {
        row["version"]: printable(f"{row['build']} {row['target']}")
        for row in result["versions"]
        if "broken" not in row
    }
    width = max(map(len, ["fp16 rk3588", *made.values()])) + 2
    lines = [
        printable(result["folder"]),
        f"{'':8}{'created (UTC)':18}{'for':{width}}{'verdict':9}{'MAE':>9}{'SQNR dB':>9}  version",
    ]
    for row in result["versions"]:
        start = f"{'-> ' if row['drives'] else '':>3}{row['number']:3}  "
        name = printable(row["version"])
        if "broken" in row:
            lines.append(
                f"{start}{'broken':{width + 45}}  {name}\n{'':10}{printable(row['broken'])}"
            )
            continue
        mae, sqnr = (
            format(row[key], f"9.{digits}f") if row[key] is not None else f"{'-':>9}"
            for key, digits in (("mae", 5), ("sqnr_db", 1))
        )
        created = printable(row["created"].replace("T", " ")[:16])
        about = f"{made[row['version']]:{width}}{row['verdict'] or '-':9}"
        lines.append(f"{start}{created:18}{about}{mae}{sqnr}  {name}")
    if not result["versions"]:
        lines.append("        no versions: convert makes one of an ONNX actor")
    return "\n".join([
        *lines,
        f"active model: {_state(result, 'drives')}",
        f"rollback goes to: {_state(result, 'before')}",
        *(f"offered: {_offered(model)}" for model in result["offered"]),
    ])  # fmt: skip


def _offered(model: dict[str, Any]) -> str:
    """Return where an offered model stands, and what to do, as one line."""
    stands = model["result"] or "accepted, rover_link converts it"
    if model["state"] == WAITING:
        stands = f"waits for you: models accept {model['version']}"
    return printable(f"{model['name']} of {model['origin']}, {model['received'][:16]}: {stands}")


def _state(result: dict[str, Any], key: str) -> str:
    """Return which model is active, or would be after a rollback, and what to do when it cannot."""
    if result[key] is None:
        return "no model"
    name = printable(result[key])
    whole = any("broken" not in row for row in result["versions"])
    instead = "models promote V" if whole else "convert again"
    row = next((row for row in result["versions"] if row["version"] == result[key]), None)
    if row is not None:
        return f"{name}, which is broken; {instead}" if "broken" in row else name
    if key == "drives" and result["exists"]:
        return name  # put there by hand
    by_hand = name.endswith(".rknn")
    why = f"{name} is no version" if by_hand else f"its folder versions/{name} is gone"
    return f"none: {why}; {instead}"


def summary(result: dict[str, Any]) -> str:
    """Return what a change has done, and what the rover must do, as text for a terminal."""
    model = f"{printable(result['folder'])}: {printable(result['drives'])}"
    if not result["changed"]:
        return f"{model} is the active model already"
    before = printable(result["before"] or "no model")
    lines = [f"{model} is the active model now; before: {before}"]
    if result["kept"]:
        lines.append(f"kept as versions: {printable(', '.join(result['kept']))}")
    lines += [f"a rover that runs changes with: {RELOAD}", "or by itself, with watch_model"]
    return "\n".join(lines)


@printing
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = _arguments(argv)
    failed = begin(args.json)
    try:
        from tractor_core import contract, paths

        file = params_file(args.params)
        observed = contract.load(file)
        folder = args.models_dir or paths.default_models_dir()
        if not os.path.isdir(folder):
            return failed(FILES, f"{folder}: expected a models folder, found none")
        if args.verb == "list":
            with _refusing(folder, FILES):
                result = _list(folder, observed)
            text = table(result)
        elif args.verb == "accept":
            with _refusing(folder, NO_VERSION):
                name = OfferedModels(folder).accept(args.version).name
            result = {"folder": str(folder), "accepted": name}
            text = f"{name} is accepted: rover_link converts it, models list says how that ends"
        else:
            result = _change(folder, args.verb, args.version, observed)
            text = summary(result)
    except ParameterError as error:
        return failed(USAGE, str(error))
    except _RefusedError as error:
        return failed(error.code, str(error))
    except KeyboardInterrupt:
        return failed(INTERRUPTED, "interrupted")
    answer(args.json, {"ok": True, "exit_code": 0, "params": str(file), **result}, lambda: text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
