"""The rover's link to a training server: experience there, models back, and a word of both."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import threading
from collections.abc import Callable
from typing import Any

from tractor_core.text import printable

from .connection import ANSWER_S, Reconnecting, ended
from .downlink import Downlink
from .install import Installer
from .streams import STATUS
from .uplink import Uplink

STATUS_PERIOD_S, LOOK_S = 5.0, 0.1


class RoverLink:
    """Runs the parts of the link side by side, each of which goes on whatever fails.

    Args:
        address: of the server.
        rover: its name there.
        uplink, downlink, installer: the parts.
        waiting: returns how many chunks wait.
    """

    def __init__(
        self,
        address: str,
        rover: str,
        uplink: Uplink,
        downlink: Downlink,
        installer: Installer,
        waiting: Callable[[], int],
    ) -> None:
        self._rover, self._waiting = rover, waiting
        self._uplink, self._downlink, self._installer = uplink, downlink, installer
        self._report = Reconnecting(address, "status", f"key-value store {STATUS}")
        self._chunks_waiting = 0

    def run(self, ending: threading.Event) -> None:
        """Run until `ending` is set."""
        asyncio.run(self._run(ending))

    async def _run(self, ending: threading.Event) -> None:
        works = (
            self._uplink.run(), self._downlink.run(), self._installer.run(), self._count(),
            self._report.run(self._tell),
        )  # fmt: skip
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            while not ending.is_set():
                done, _ = await asyncio.wait(
                    tasks, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    task.result()
        finally:
            await ended(*tasks)

    @property
    def problem(self) -> str | None:
        """What is wrong with any part, or None; what is wrong with several is said once."""
        named = {
            "experience": self._uplink.problem, "models": self._downlink.problem,
            "conversion": self._installer.problem, "status": self._report.problem,
        }  # fmt: skip
        parts: dict[str, list[str]] = {}
        for name, problem in named.items():
            if problem:
                parts.setdefault(problem, []).append(name)
        words = [f"{', '.join(names)}: {problem}" for problem, names in parts.items()]
        return "; ".join(words) or None

    def describe(self) -> dict[str, Any]:
        """Return what was sent, what waits, and which models came, for /diagnostics."""
        sent, down, install = self._uplink.status, self._downlink, self._installer
        values = {
            "rover": self._rover, "chunks sent": sent.chunks, "bytes sent": sent.bytes,
            "chunks waiting": self._chunks_waiting, "model offered": down.offered,
            "offer refused": down.refused, "model waits": install.waits,
            "model installed": install.installed, "model refused": install.refused,
        }  # fmt: skip
        return {name: value for name, value in values.items() if value != ""}

    async def _count(self) -> None:
        while True:
            with contextlib.suppress(OSError):  # which the uplink names
                self._chunks_waiting = await asyncio.to_thread(self._waiting)
            await asyncio.sleep(STATUS_PERIOD_S / 5.0)

    async def _tell(self, connection: Any) -> None:
        """Tell the server what `describe` says, and the problem."""
        store = await connection.jetstream(timeout=ANSWER_S).key_value(STATUS)
        while not connection.is_closed:
            now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
            said = self.describe() | {"time": now, "problem": printable(self.problem or "")}
            words = {name.replace(" ", "_"): value for name, value in said.items()}
            await store.put(self._rover, json.dumps(words).encode())
            self._report.succeeded()
            await asyncio.sleep(STATUS_PERIOD_S)
