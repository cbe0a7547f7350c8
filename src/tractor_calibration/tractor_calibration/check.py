"""Check a folder of calibration samples: is the set worth quantising with, and what does it lack?

Every file is checked for shapes, types, ranges, NaN and Inf, and the contract; the set for
repetitions, channels and features that never change, and how much of what the rover can meet it
covers. Grades: good has 100 samples and more that differ from each other, poor fewer than 50 or an
empty grid channel, fair is between, or lacks variety.

Exit codes:
  0  good or fair
  1  poor
  2  wrong arguments or parameters
  4  no usable calibration samples
  7  the report cannot be written, or files cannot be moved
  130  interrupted
Files that cannot be used, or were made with another parameter file, are left out of the grade; the
latter are never moved. Nothing is deleted or overwritten, and without --quarantine and --html
nothing is written.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tractor_core.cli import (
    INTERRUPTED,
    USAGE,
    answer,
    begin,
    make_parser,
    params_file,
    printing,
    uninterrupted,
)
from tractor_core.errors import ParameterError, SampleError, TractorError
from tractor_core.files import replace_file
from tractor_core.system_error import explain
from tractor_core.text import printable

log = logging.getLogger(__name__)

POOR, NO_SAMPLES, FILES = 1, 4, 7
QUARANTINE = "quarantine"
_MOST_SHOWN = 10
# A name in quarantine/ is this long at most, which leaves room for a number and the suffixes.
_NAME_BYTES = 200


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser("check", __doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of calib_*.npz samples")
    parser.add_argument(
        "--html", type=Path, metavar="FILE.html", help="also write a report with plots"
    )
    parser.add_argument(
        "--quarantine", action="store_true",
        help=f"move files that cannot be used to DIR/{QUARANTINE}, each with its reason",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if args.html is not None:
        if args.html.suffix != ".html":
            parser.error(f"--html: expected a name that ends in .html, found {args.html}")
        if not args.html.absolute().parent.is_dir():
            parser.error(f"--html: expected a file in a folder that exists, found {args.html}")
        from .pages import page

        try:
            page.require_libraries()
        except TractorError as error:
            parser.error(f"--html: {error}")
    return args


def _progress(files: Sequence[Path]) -> Iterable[Path]:
    """Yield the files and show on a terminal how far it is."""
    if not sys.stderr.isatty():
        return files
    from tqdm import tqdm

    return tqdm(files, desc="checking", unit=" samples", leave=False)


def quarantine(folder: Path, unusable: dict[Path, str]) -> tuple[dict[str, str], list[str]]:
    """Move files into the folder's `quarantine/`, each with a text file that gives the reason.

    Links, pipes and folders are moved as they are, never followed or opened. A name that is taken
    gets a number.

    Returns:
        {name: name in quarantine/} of what was moved, and why the others were not.

    Raises:
        OSError: `quarantine/` cannot be made, or is a link or a file.
    """
    target = folder / QUARANTINE
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise OSError(f"{target}: expected a folder or nothing, found a link or file; move it away")
    target.mkdir(exist_ok=True)
    # Everything below is relative to this very folder, even if its name comes to mean another.
    place = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    moved: dict[str, str] = {}
    failed = []
    try:
        for file, reason in unusable.items():
            with uninterrupted():
                try:
                    moved[file.name] = _move(file, reason, place)
                except OSError as error:
                    failed.append(f"not moved: {explain(error, file)}")
    finally:
        os.close(place)
    return moved, failed


def _move(file: Path, reason: str, place: int) -> str:
    stem = os.fsdecode(os.fsencode(file.name.removesuffix(".npz"))[:_NAME_BYTES])
    for number in itertools.count(1):
        name = f"{stem}.npz" if number == 1 else f"{stem}.{number}.npz"
        note = f"{name}.txt"
        # The note is made first and claims the name: whoever has made it may take the name.
        try:
            handle = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=place)
        except FileExistsError:
            continue
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as text:
                text.write(f"{file.name}\ncannot calibrate a model:\n{reason}\n")
            try:
                os.stat(name, dir_fd=place, follow_symlinks=False)
            except FileNotFoundError:
                os.rename(file, name, dst_dir_fd=place)
                return name
        except OSError:
            os.unlink(note, dir_fd=place)
            raise
        os.unlink(note, dir_fd=place)
    raise AssertionError("unreachable")


def table(result: dict[str, Any], labels: Sequence[str]) -> str:
    """Return the result as text for a terminal; `labels` name the features."""
    from tractor_core.diversity import ENOUGH_IN_REGION

    from .samples.quality import ALIKE, GOOD_SAMPLES

    distinct = result["distinct"]
    more = " or more" if distinct == GOOD_SAMPLES else ""
    lines = [
        f"{printable(result['folder'])}: {result['grade'].upper()}",
        "",
        f"samples   {result['found']} found, {result['usable']} usable, {distinct}{more} distinct, "
        f"{len(result['duplicates'])} repeat another",
        f"contract  {result['contract']}",
    ]
    if result["usable"]:
        sessions = [f"{printable(s) or '(none named)'} {n}" for s, n in result["sessions"].items()]
        shown = ", ".join(sessions[:_MOST_SHOWN])
        hidden = len(sessions) - _MOST_SHOWN
        lines.append(f"sessions  {shown}" + (f", and {hidden} more" if hidden > 0 else ""))
        lines += ["", f"{'feature':18}{'least':>9}{'mean':>9}{'largest':>9}{'std':>9}"]
        lines += [
            f"{label:18}" + "".join(f"{f[key]:9.3f}" for key in ("min", "mean", "max", "std"))
            for label, f in zip(labels, result["features"].values())
        ]
        lines += ["", f"{'channel':18}{'occupied':>9}{'all-zero grids':>16}"]
        lines += [
            f"{name:18}{c['mean_occupancy']:9.2%}{c['empty_samples']:16}"
            for name, c in result["channels"].items()
        ]
        lines += ["", f"{'region':38}{'samples':>9}"]
        for feature, counts in result["regions"].items():
            lines += [
                f"{feature if i == 0 else '':12}{region:26}{count:9}"
                + ("  few" if count < ENOUGH_IN_REGION else "")
                for i, (region, count) in enumerate(counts.items())
            ]
        if result["outliers"]:
            lines += ["", f"stand alone (nearest other sample farther than {ALIKE:g})"]
            lines += [
                f"  {printable(gap['file'])}  {gap['distance']:.2f}  "
                f"{', '.join(gap['regions'].values())}"
                for gap in result["outliers"]
            ]
    if result["unusable"]:
        lines += ["", "cannot be used", *_unusable(result["unusable"])]
    if result["quarantined"]:
        lines.append(
            f"  moved to {printable(result['folder'])}/{QUARANTINE}: {len(result['quarantined'])}"
        )
    lines += ["", "reasons, and what to do next"]
    lines += [
        f"  {finding['grade'] if finding['grade'] != 'good' else 'note'}: {finding['reason']}\n"
        f"    -> {finding['advice']}"
        for finding in result["findings"]
    ] or ["  nothing is missing"]
    if "html" in result:
        lines += ["", f"written: {printable(result['html'])}"]
    return "\n".join(lines)


def _unusable(reasons: dict[str, str]) -> list[str]:
    """Return each reason once, with its files."""
    from .samples.quality import listed

    files: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        files.setdefault(reason, []).append(name)
    lines = [f"  {listed(names)}: {printable(reason)}" for reason, names in files.items()]
    hidden = len(lines) - _MOST_SHOWN
    return lines[:_MOST_SHOWN] + ([f"  and {hidden} more reasons: --json"] if hidden > 0 else [])


def _check(
    args: argparse.Namespace, contract: Any, others: Sequence[Any]
) -> tuple[dict[str, Any], int, list[str]]:
    """Return the result, the exit code, and what went wrong with files."""
    from .samples import quality, survey

    found = survey.survey(args.folder, contract, _progress)
    result = quality.describe(found, others)
    result["quarantined"] = {}
    problems: list[str] = []
    if args.quarantine and found.unusable:
        try:
            result["quarantined"], problems = quarantine(args.folder, found.unusable)
        except OSError as error:
            problems.append(f"nothing was moved: {explain(error, args.folder)}")
    if args.html is not None:
        from .samples import report as check_report

        try:
            replace_file(args.html, check_report.render(result, found))
            result["html"] = str(args.html)
        except OSError as error:
            problems.append(f"the report cannot be written: {explain(error, args.html)}")
    if problems:
        return result, FILES, problems
    if not found.files:
        collect = "drive with ./start_sac_rover.sh to collect some, or see the loop: make demo"
        if below := sorted({file.parent for file in args.folder.glob("*/*.npz")}):
            collect = f"there are some in {below[0]}: name that folder"
        return result, NO_SAMPLES, [
            f"No calibration samples found: 0 of {result['found']} files in {args.folder} can be "
            f"used; {quality.FOREIGN_ADVICE if found.foreign else collect}"
        ]  # fmt: skip
    return result, POOR if result["grade"] == "poor" else 0, []


@printing
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = _arguments(argv)
    failed = begin(args.json)
    try:
        from tractor_core import contract, paths

        file = params_file(args.params)
        observed = contract.load(file)
        others = []
        with contextlib.suppress(ParameterError):
            others.append(contract.load(paths.default_params_file()))
        result, code, problems = _check(args, observed, others)
    except ParameterError as error:
        return failed(USAGE, str(error))
    except SampleError as error:
        return failed(NO_SAMPLES, str(error))
    except KeyboardInterrupt:
        return failed(INTERRUPTED, "interrupted")
    if problems:
        result["error"] = "; ".join(problems)
    answer(
        args.json,
        {"ok": code == 0, "exit_code": code, "params": str(file), **result},
        lambda: table(result, observed.proprio_labels),
    )
    for problem in problems:
        log.error("%s", problem)
    return code


if __name__ == "__main__":
    sys.exit(main())
