"""What the commands of this package share: options, log, signals and errors."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path

USAGE, INTERRUPTED = 2, 130

log = logging.getLogger(__name__)


def make_parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with `--params` and `--json`; the module's docstring is its help.

    Args:
        name: the verb.
        doc: a summary, an empty line, and the details with the exit codes.
    """
    summary, details = (doc or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        prog=name,
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--params", type=Path, metavar="YAML",
        help="shared parameter file (default: config/sac_rover.yaml of the workspace)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return parser


def begin(as_json: bool) -> Callable[..., int]:
    """Set up log and signals, and return `failed(code, message, **more)`.

    It logs the message, prints it and `more` as JSON when that was asked for, and returns the code.
    SIGTERM ends a command as Ctrl-C does, tidied up.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s", stream=sys.stderr)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)

    def failed(code: int, message: str, **more: object) -> int:
        log.error("%s", message)
        if as_json:
            print(json.dumps({"ok": False, "exit_code": code, "error": message, **more}))
        return code

    return failed
