"""The note that a model hung on trial, for the next start of the process that it ended."""

from __future__ import annotations

import contextlib
import logging
from concurrent.futures import wait
from pathlib import Path
from typing import Any

from tractor_core import outside
from tractor_core.background import in_background

MAX_BYTES = 1000
LIMIT_S = 1.0


class HungNote:
    """A file with the sha256 (hex) of the model that hung, in the rover's folder of samples.

    Args:
        log: has `warning` and `error` of one text.
    """

    def __init__(self, folder: Path, log: Any = None) -> None:
        self._file = folder / "hung_on_trial.txt"
        self._log = log or logging.getLogger(__name__)

    def digest(self) -> str:
        """Return the digest of a model that hung before; empty when none did, as a rule."""
        try:
            return outside.read_text(self._file, MAX_BYTES).strip()
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            self._log.warning(
                f"{self._file}: cannot be read ({error}), so it is not known whether a model hung "
                "here before; remove it"
            )
            return ""

    def write(self, digest: str) -> None:
        """Let the next start refuse this model; a disk that hangs is not waited for."""

        def note() -> None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(f"{digest}\n")

        noted = in_background(note)
        wait([noted], LIMIT_S)
        problem = noted.exception() if noted.done() else "its disk does not answer"
        if problem:
            self._log.error(
                f"{self._file}: cannot be written ({problem}): the next start takes the model that "
                "hung once more; let another one drive"
            )

    def forget(self, digest: str) -> None:
        """Let the next start take this model again."""
        if self.digest() == digest:
            with contextlib.suppress(OSError):  # the next start refuses it once more
                self._file.unlink()
