"""What holds the rover, kept for a guard that is started anew after it was killed."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from pathlib import Path
from typing import Any

from tractor_core import outside
from tractor_core.background import in_background
from tractor_core.files import replace_file

MAX_BYTES = 1000
# What could not be written is tried again so much later.
RETRY_S = 1.0


def default_file(name: str) -> Path:
    """Return the file of the guard of this fully qualified name, in the folder that ROS keeps."""
    home = os.environ.get("ROS_HOME") or os.path.join(os.path.expanduser("~"), ".ros")
    domain = os.environ.get("ROS_DOMAIN_ID") or "0"
    return Path(home, f"{name.strip('/').replace('/', '.')}_held_{domain}.txt")


class HeldNote:
    """A file that says what holds the rover; there is none while nothing does.

        note = HeldNote(file, log)
        before = note.read()
        note.keep("stopped by a call of ~/stop")

    Args:
        log: has `error` of one text.
    """

    def __init__(self, file: Path, log: Any = None) -> None:
        self._file = file
        self._log = log or logging.getLogger(__name__)
        self._lock = threading.Lock()
        self._kept = ""
        self._failed_s = -math.inf

    def read(self) -> str:
        """Return what held the rover when a guard before this one was killed; empty for nothing."""
        try:
            self._kept = outside.read_text(self._file, MAX_BYTES).strip() or "unknown"
        except FileNotFoundError:
            self._kept = ""
        except (OSError, ValueError) as error:
            # Whether somebody has stopped it is not known: it stands.
            self._kept = f"unknown: {self._file} cannot be read ({error})"
        return self._kept

    def keep(self, held: str) -> None:
        """Write what holds the rover from now on; the disk is not waited for."""
        failed = self._failed_s > -math.inf and time.monotonic() - self._failed_s > RETRY_S
        if held != self._kept or failed:
            self._kept = held
            in_background(self._write)

    def forget(self) -> None:
        """Remove the file, as nothing is to be remembered."""
        self._kept = ""
        self._write()

    def _write(self) -> None:
        with self._lock:
            held = self._kept  # the newest, whichever thread comes first
            try:
                if held:
                    self._file.parent.mkdir(parents=True, exist_ok=True)
                    replace_file(self._file, f"{held}\n")
                else:
                    self._file.unlink(missing_ok=True)
            except OSError as error:
                if self._failed_s == -math.inf:
                    self._log.error(
                        f"{self._file}: cannot be written ({error}): a guard that is killed "
                        "forgets what holds the rover"
                    )
                self._failed_s = time.monotonic()
            else:
                self._failed_s = -math.inf
