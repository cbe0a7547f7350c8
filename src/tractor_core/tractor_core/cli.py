"""What the commands of the suite share: verbs, options, log, signals and errors."""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import importlib
import io
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, ParamSpec

from . import paths
from .system_error import explain
from .text import printable, printable_message, printable_page

USAGE, OUTPUT_LOST, INTERRUPTED, READER_GONE = 2, 74, 130, 141
_LOST = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

P = ParamSpec("P")

log = logging.getLogger(__name__)


def printing(main: Callable[P, int]) -> Callable[P, int]:
    """Wrap a command, so that what it prints arrives or its exit code says that it did not.

    READER_GONE, without a word, as of a program that SIGPIPE ends: who reads, such as head, has
    seen enough. OUTPUT_LOST, as EX_IOERR of sysexits.h: the disk that it is sent to is full, or the
    system refuses a file for which the command has no code of its own.
    """

    @functools.wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        take_any_text()
        try:
            try:
                return main(*args, **kwargs)
            finally:
                if sys.stdout is not None:  # closed by the caller
                    sys.stdout.flush()
        except BrokenPipeError:
            code = READER_GONE
        except OSError as error:
            if error.filename is not None:
                log.error("%s", explain(error, os.curdir))
                return OUTPUT_LOST
            if error.errno not in _LOST:
                raise
            log.error(
                "standard output: expected room for the result, found none (%s); what was asked "
                "may be done: free space or send the output elsewhere",
                error.strerror,
            )
            code = OUTPUT_LOST
        # What is left in the buffer would fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code

    return run


def take_any_text() -> None:
    """Let what the encoding of the terminal lacks come as escapes: finished work must be told."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@printing
def dispatch(
    package: str,
    verbs: Mapping[str, str],
    chosen: str = "",
    elsewhere: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run the verb that the command line names, a module of the package, and return its exit code.

    Args:
        package: for instance tractor_calibration, as in `python -m tractor_calibration VERB ...`.
        verbs: {module with a `main(argv)`: what it is for}; the module may be one of old name.
        chosen: the verb of an executable of its own; its arguments are all of the command line.
        elsewhere: {verb: module of another package}, for what is looked up when it is asked for.
    """
    verb = chosen or (sys.argv[1] if len(sys.argv) > 1 else "--help")
    if verb in verbs:
        try:
            found = importlib.import_module(elsewhere.get(verb, f"{package}.{verb}"))
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("tractor_"):
                raise
            print(
                f"error: {verb} needs the package {error.name}, found none; build it as well: "
                "make build",
                file=sys.stderr,
            )
            return USAGE
        return found.main(sys.argv[1 if chosen else 2 :])
    usage = "\n".join(
        [f"usage: python -m {package} VERB [--help] ...", "", "verbs:"]
        + [f"  {name:10}{text}" for name, text in verbs.items()]
    )
    if verb in ("-h", "--help"):
        print(usage)
        return 0
    print(f"{usage}\n\nerror: expected a verb, found {verb!a}", file=sys.stderr)
    return USAGE


class _Parser(argparse.ArgumentParser):
    """A parser whose errors quote the arguments as a terminal takes them."""

    def error(self, message: str) -> NoReturn:
        super().error(printable_message(message))


def make_parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with `--params` and `--json`; the module's docstring is its help.

    Args:
        name: the verb.
        doc: a summary, an empty line, and the details with the exit codes.
    """
    summary, details = (doc or "").split("\n\n", 1)
    details += (
        f"\n{OUTPUT_LOST} instead when the output cannot be written, as to a full disk, and "
        f"{READER_GONE} when its\nreader has gone, as head does; what was asked may be done."
    )
    parser = _Parser(
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


def require_output(
    parser: argparse.ArgumentParser, option: str, path: Path, *suffixes: str
) -> None:
    """Refuse a file to write of another suffix or in a folder that is not there, as wrong usage."""
    if path.suffix not in suffixes or not path.absolute().parent.is_dir():
        parser.error(
            f"{option}: expected a name that ends in {' or '.join(suffixes)} in a folder that "
            f"exists, found {printable(path)}"
        )


class _Formatter(logging.Formatter):
    """Formats a record so that nothing quoted in it passes for another one or moves the cursor."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_message(super().format(record))


def set_up_log(form: str = "%(levelname)s: %(message)s") -> None:
    """Send the log of this process to standard error, whose encoding may lack letters."""
    take_any_text()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(form))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def answer(as_json: bool, result: dict[str, Any], page: Callable[[], str]) -> None:
    """Print a command's result: one JSON object when that was asked for, else its page."""
    print(json.dumps(result) if as_json else printable_page(page()))


def params_file(given: Path | str | None) -> Path:
    """Return the parameter file of a command, and say in its log which one it is.

    Args:
        given: what `--params` names; None asks for the default.

    Raises:
        ParameterError: there is no default, or two that differ.
    """
    file = Path(given) if given is not None else paths.default_params_file()
    log.info("parameters: %s", file)
    return file


def begin(as_json: bool) -> Callable[..., int]:
    """Set up log and signals, and return `failed(code, message, **more)`.

    It logs the message, prints it and `more` as JSON when that was asked for, and returns the code.
    SIGTERM ends a command as Ctrl-C does, tidied up.
    """
    set_up_log()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)

    def failed(code: int, message: str, **more: object) -> int:
        log.error("%s", message)
        if as_json:
            print(json.dumps({"ok": False, "exit_code": code, "error": message, **more}))
        return code

    return failed


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the end of the block; for the main thread.

    A mask would not do: it holds for one thread, and another one of a library takes the signal.
    """
    came: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
