"""Calling a vendor's library: what it raises and prints is brought into one form."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from tractor_core.errors import ModelError

log = logging.getLogger(__name__)


# Of what the toolkit said, when it failed.
MOST_LINES_SAID = 60
# Its name for Python's logging.
_LOGGER = "rknnLogger"
# Where what it prints on stdout goes meanwhile; None: to stderr.
_stdout_goes_to: TextIO | None = None
_redirection = contextlib.ExitStack()
_redirection_lock = threading.Lock()
_redirection_users = 0


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send what the vendor's code prints to stderr, native or Python: stdout carries results.

    It holds for the whole process while it lasts, so it surrounds loading and building, not
    inference. Where threads overlap, the first one in redirects and the last one out restores.
    """
    global _redirection_users
    with _redirection_lock:
        if _redirection_users == 0:
            _redirection.enter_context(_redirected())
        _redirection_users += 1
    try:
        yield
    finally:
        with _redirection_lock:
            _redirection_users -= 1
            if _redirection_users == 0:
                _redirection.close()


@contextlib.contextmanager
def _redirected() -> Iterator[None]:
    c_library = ctypes.CDLL(None)
    sys.stdout.flush()
    saved = os.dup(1)
    goes_to = _stdout_goes_to
    try:
        os.dup2(goes_to.fileno() if goes_to else 2, 1)
        with contextlib.redirect_stdout(goes_to or sys.stderr):
            yield
    finally:
        c_library.fflush(None)
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


@contextlib.contextmanager
def silent_unless_it_fails() -> Iterator[None]:
    """Keep what the toolkit says out of the log: some thirty lines a build, and nothing to do.

    When what is done meanwhile fails, it is logged as a warning. What its native code writes on
    stderr still gets there, because a node's own log does too. For one thread at a time.
    """
    global _stdout_goes_to
    said: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        said.append(record.getMessage())
        return False

    logger = logging.getLogger(_LOGGER)
    logger.addFilter(keep)
    with tempfile.TemporaryFile("w+", errors="replace") as file:
        _stdout_goes_to = file
        try:
            yield
        except BaseException:
            file.seek(0)
            said += file.read().split("\n")
            lines = [line for line in said if line.strip()]
            log.warning("rknn-toolkit2 said:\n%s", "\n".join(lines[-MOST_LINES_SAID:]))
            raise
        finally:
            _stdout_goes_to = None
            logger.removeFilter(keep)


def vendor_call(name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return the answer of one call of the vendor's code.

    Raises:
        ModelError: it raised, whatever it was; names the call.
    """
    try:
        return function(*args, **kwargs)
    except Exception as error:  # the toolkit raises ValueError with a traceback as its message
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{name}: {lines[-1].strip()}") from error


def vendor_release(distribution: str, model: Any) -> None:
    """Free a model; a failure is logged: it must not hide why the model was given up."""
    try:
        with stdout_to_stderr():
            vendor_call(f"{distribution} release", model.release)
    except ModelError as error:
        log.warning("%s", error)
