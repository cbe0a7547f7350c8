"""Nodes and commands as processes of their own, and a ROS domain that they have to themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tractor_core.errors import TractorError

from .process import STOP_LIMIT_S, Process, stop_all


class StepError(TractorError):
    """A step of a command that works in steps failed."""


class Processes:
    """The processes of a drive, by name.

    Args:
        params: the shared parameter file.
        logs: folder of the logs.
    """

    def __init__(self, params: Path, logs: Path) -> None:
        self._params, self._logs = params.resolve(), logs
        self._running: dict[str, Process] = {}

    def __getitem__(self, name: str) -> Process:
        return self._running[name]

    def _log(self, name: str) -> Path:
        return self._logs / f"{len(os.listdir(self._logs)):02}_{name}.log"

    def start(self, name: str, *arguments: str, stdout: int | None = None) -> Process:
        """Start Python with these arguments, see Process."""
        self._running[name] = Process([*arguments], self._log(name), stdout)
        return self._running[name]

    def answer(self, name: str, *arguments: str) -> bytes:
        """Run Python with these arguments to its end and return what it printed.

        Raises:
            StepError: it failed; with the end of its log.
        """
        printed, _ = self.start(name, *arguments, stdout=subprocess.PIPE).process.communicate()
        self.check(may_end=name)
        return printed

    def start_behind(self, name: str, nice: int, *arguments: str) -> Process:
        """Start Python as `start` does, behind what drives."""
        self._running[name] = Process([*arguments], self._log(name), nice=nice)
        return self._running[name]

    def start_node(self, name: str, module: str, **parameters: Any) -> Process:
        """Start a node with the shared parameter file and overrides of its own parameters."""
        log = self._log(name)
        self._running[name] = Process.of_node(name, module, self._params, log, **parameters)
        return self._running[name]

    def check(self, may_end: str = "") -> None:
        """Raise StepError with the end of its log when one failed, or ended that should run."""
        for name, running in self._running.items():
            status = running.process.poll()
            if status is not None and (status != 0 or name != may_end):
                raise StepError(f"{name} ended with status {status}; {running.tail()}")

    def stop(self, *names: str) -> None:
        """End the named nodes, or all, and wait for them."""
        chosen = {name: self._running.pop(name) for name in names or tuple(self._running)}
        killed = stop_all(chosen.values())
        for name, running in chosen.items():
            if running in killed:
                print(
                    f"{name} did not end within {STOP_LIMIT_S:.0f} s and was killed; "
                    f"{running.tail()}",
                    file=sys.stderr,
                )

    def close(self) -> None:
        """End all."""
        self.stop()
