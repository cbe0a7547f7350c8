"""Nodes and commands as processes of their own, for the demo, the benches and the tests."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tractor_core.child import stops_with_starter

STOP_LIMIT_S = 10.0


class Process:
    """Python in a process of its own, which logs to a file and ends by SIGINT.

    Args:
        arguments: of Python.
        log: what it prints goes there.
        stdout: as of subprocess.Popen; then only the errors go to the log.
        cwd: where it runs.
        nice: how much it stands back behind others, 0 to 19.

    Attributes:
        process: the one that runs.
    """

    def __init__(
        self, arguments: list[str], log: Path, stdout: int | None = None, cwd: Path | None = None,
        nice: int = 0,
    ) -> None:  # fmt: skip
        self.log = log
        with log.open("wb") as file:
            self.process: subprocess.Popen = subprocess.Popen(
                [*stops_with_starter("INT"), "nice", "-n", str(nice), sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file if stdout is None else stdout,
                stderr=file,
                cwd=cwd,
            )

    @classmethod
    def of_node(
        cls,
        name: str,
        module: str,
        params: Path,
        log: Path,
        arguments: Sequence[str] = (),
        cwd: Path | None = None,
        **parameters: Any,
    ) -> Process:
        """Start a node with a parameter file, further arguments and parameters of its own."""
        command = ["-m", module, "--ros-args", "--params-file", str(params), *arguments]
        for key, value in parameters.items():
            command += ["-p", f"{name}:{key}:={json.dumps(value)}"]
        return cls(command, log, cwd=cwd)

    def output(self) -> str:
        """Return what it printed so far."""
        return self.log.read_text(errors="replace")

    def tail(self, lines: int = 15) -> str:
        """Return the end of its log for an error message."""
        return "\n  ".join([f"the end of {self.log}:", *self.output().splitlines()[-lines:]])

    def stop(self, number: int = signal.SIGINT) -> int:
        """Signal the process, wait for its end and return its exit status.

        Raises:
            subprocess.TimeoutExpired: it did not end in time, and was killed.
        """
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end as `stop` does, without a signal."""
        try:
            return self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def stop_all(processes: Iterable[Process]) -> list[Process]:
    """Signal all, then wait for each; return those that did not end in time and were killed."""
    processes, killed = list(processes), []
    for process in processes:
        if process.process.poll() is None:
            process.process.send_signal(signal.SIGINT)
    for process in processes:
        try:
            process.wait()
        except subprocess.TimeoutExpired:
            killed.append(process)
    return killed
