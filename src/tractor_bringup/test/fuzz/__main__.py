"""Fuzz every parser for some minutes: each case under limits, in a process a parser.

A case that raises anything but the documented error, takes too long or too much memory, or ends the
process is kept in fuzz_output/ and named; `--replay PARSER FILE` runs it again.

Exit codes:
  0  no parser failed
  1  a parser failed; its case is kept
  2  wrong arguments
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from . import targets
from .limits import HANG_S, within_limits

OUTPUT = Path("fuzz_output")
# How often a round is as long as the short form of the test.
ROUND = 16


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="fuzz", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="for all parsers together")
    parser.add_argument("--parser", action="append", default=[], help="only this one; repeatable")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first round")
    parser.add_argument("--replay", nargs=2, metavar=("PARSER", "FILE"), help="run one kept case")
    parser.add_argument("--one", type=float, metavar="SECONDS", help=argparse.SUPPRESS)
    args = parser.parse_args()
    logging.disable()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        makers = targets.make(Path(folder))
        names = [args.replay[0]] if args.replay else args.parser or [*makers]
        if unknown := {*names} - {*makers}:
            parser.error(f"expected parsers among {', '.join(makers)}, found {', '.join(unknown)}")
        if args.replay:
            within_limits(makers[names[0]]().run, Path(args.replay[1]).read_bytes())
            print(f"{names[0]}: passes")
            return 0
        if args.one is not None:
            return _fuzz(names[0], makers[names[0]](), args.one, args.seed)
    failed = [name for name in names if not _in_child(name, 60.0 * args.minutes / len(names), args)]
    print(f"fuzz: {len(names) - len(failed)} of {len(names)} parsers hold")
    return int(bool(failed))


def _in_child(name: str, seconds: float, args: argparse.Namespace) -> bool:
    """Fuzz one parser in a process of its own, and keep the case that ended the process."""
    command = [sys.executable, "-m", __package__, "--one", f"{seconds:.1f}", "--parser", name]
    current, log = OUTPUT / f"{name}.running", OUTPUT / f"{name}.log"
    OUTPUT.mkdir(exist_ok=True)
    try:
        # A round that began goes on, shrinks what it found, and a hanging case is waited for.
        with log.open("wb") as errors:  # image libraries comment on every damaged file
            code = subprocess.run(
                [*command, "--seed", str(args.seed)], timeout=2 * seconds + 10 * HANG_S,
                stderr=errors,
            ).returncode  # fmt: skip
    except subprocess.TimeoutExpired:
        code = -1
    if code not in (0, 1):
        kept = _keep(name, current.read_bytes()) if current.exists() else "nothing"
        print(f"{name}: FAILS: the process hung or ended with {code}; kept {kept}; see {log}")
    else:
        log.unlink()
    current.unlink(missing_ok=True)
    return code == 0


def _fuzz(name: str, target: targets.Target, seconds: float, first_seed: int) -> int:
    """Draw cases in rounds until the time is over; return the exit code."""
    end_s, count = time.monotonic() + seconds, 0
    current = OUTPUT / f"{name}.running"
    case = b""
    number = first_seed
    while time.monotonic() < end_s:
        number += 1

        @seed(number)
        @settings(
            max_examples=ROUND * target.examples, database=None, deadline=None,
            suppress_health_check=[*HealthCheck], phases=[Phase.generate, Phase.shrink],
            print_blob=False, report_multiple_bugs=False,
        )  # fmt: skip
        @given(target.inputs)
        def check(drawn: bytes) -> None:
            nonlocal count, case
            count, case = count + 1, drawn
            current.write_bytes(drawn)
            within_limits(target.run, drawn)

        try:
            check()
        except Exception as error:  # whatever it is, it is not the documented one
            kept = _keep(name, case)
            print(f"{name}: FAILS after {count} cases: {type(error).__name__}: {error!s:.300}")
            print(f"  kept {kept}; again: make fuzz REPLAY='{name} {kept}'", flush=True)
            return 1
    print(f"{name}: {count} cases", flush=True)
    return 0


def _keep(name: str, case: bytes) -> Path:
    file = OUTPUT / f"{name}-{hashlib.sha256(case).hexdigest()[:12]}.bin"
    file.write_bytes(case)
    return file


if __name__ == "__main__":
    sys.exit(main())
