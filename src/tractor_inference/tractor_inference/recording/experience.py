"""Keeps experience while the rover drives, off the control path."""

from __future__ import annotations

import collections
import dataclasses
import logging
import secrets
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import Contract
from tractor_core.errors import ExperienceError
from tractor_core.experience import Chunk, encode, pack_grid
from tractor_core.observation import Observation
from tractor_core.parameters import param
from tractor_core.spool import Spool
from tractor_core.system_error import explain

from .episodes import Episodes, Tick
from .folders import DEFAULT_EXPERIENCE
from .writer import Writer

log = logging.getLogger(__name__)

# Ten seconds at 30 Hz, for a disk that does not answer meanwhile; 131 kB each, 4 once packed.
QUEUED = 300
# Ten minutes, while the folder cannot be written; 3 kB each.
UNWRITTEN = 600
TRIM_S = 10.0
CLOSE_LIMIT_S = 2.0


@dataclasses.dataclass(frozen=True)
class ExperienceParameters:
    """Where experience is kept; see the sac_actor section of config/sac_rover.yaml."""

    experience_dir: str = param(
        "Folder of the experience, relative to where the node is started; the default one gets a "
        "folder for each namespace. Empty: none is kept.", DEFAULT_EXPERIENCE,
    )  # fmt: skip
    experience_max_mb: float = param(
        "Of all experience, MB: an hour takes about 11. The oldest goes first, of that which was "
        "sent before.", 500.0, minimum=1.0, maximum=1e6,
    )  # fmt: skip


def new_session() -> str:
    """Return a name that no other run of a recorder has."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + f"-{secrets.token_hex(4)}"


@dataclasses.dataclass(frozen=True)
class _Seen:
    """A tick whose grid is not packed yet: that would cost the control loop its time."""

    observation: Observation
    pose: tuple[float, float, float]
    answer: NDArray[np.float32]
    requested: NDArray[np.float32]
    model: str
    driver: str
    broken: bool

    def tick(self, broken: bool) -> Tick:
        """Return it packed; raises ExperienceError for a grid of other values than 0 and 1."""
        seen = self.observation
        return Tick(
            seen.stamp_ns, seen.proprio, pack_grid(seen.bev), self.pose, self.answer,
            self.requested, self.model, self.driver, self.broken or broken,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _End:
    why: str


class ExperienceRecorder:
    """Makes chunks of what the rover sees and does and writes them, in a thread.

    `take` and `end` never block and never raise. While the folder cannot be written, chunks wait in
    memory; what finds no room there is counted and said. Driving goes on.

    Attributes:
        steps: written.
        dropped: chunks removed for want of room on the disk before a server had them.
        error: why nothing is written now, or None.
    """

    def __init__(self, spool: Spool, contract: Contract) -> None:
        self.session, self._spool = new_session(), spool
        self._episodes = Episodes(self.session, contract.digest)
        # Of who drives: whether the queue was full, and how often; of the thread: unusable grids.
        self._broken, self._full, self._unusable, self._gap = False, 0, 0, False
        self._looks = 0
        # (id, steps, data), the oldest first.
        self._unwritten: collections.deque[tuple[str, int, bytes]] = collections.deque()
        self.steps = self.dropped = self._forgotten = 0
        self.error: str | None = None
        self._writer: Writer[_Seen | _End] = Writer(
            "experience", self._handle, self._look, TRIM_S, QUEUED
        )
        self._writer.start()

    def take(
        self,
        observation: Observation,
        pose: tuple[float, float, float],
        answer: NDArray[np.float32],
        requested: NDArray[np.float32],
        model: str,
        driver: str,
    ) -> None:
        """Take note of a frame that was driven on.

        Args:
            observation: its grid must hold 0 and 1 only; nobody may change it from now on.
            pose, answer, requested, model, driver: as of `Tick`.
        """
        seen = _Seen(observation, pose, answer, requested, model, driver, self._broken)
        self._broken = not self._writer.put(seen)
        self._full += self._broken

    @property
    def lost(self) -> int:
        """Steps that found no room in memory, or whose grid no builder of the suite made."""
        return self._full + self._unusable + self._forgotten

    def end(self, why: str) -> None:
        """End the episode, for a reason of `experience.ENDS`."""
        self._broken |= not self._writer.put(_End(why))

    def close(self) -> None:
        """Write what there is and end the thread; a disk that hangs is not waited for."""
        self.end("session end")
        if not self._writer.close(CLOSE_LIMIT_S):
            log.warning("%s does not answer: queued experience is lost", self._spool.folder)
        elif self._unwritten:
            steps = sum(steps for _, steps, _ in self._unwritten)
            log.warning("%d steps of experience are lost: %s", steps, self.error)

    def describe(self) -> dict[str, Any]:
        """Return counters for diagnostics."""
        values: dict[str, Any] = {"experience steps": self.steps}
        if self.lost:
            values["experience lost"] = self.lost
        if self.dropped:
            values["experience dropped"] = f"{self.dropped} chunks that no server had"
        if self.error is not None:
            values["experience"] = self.error
        return values

    # The thread

    def _handle(self, item: _Seen | _End, _: Any) -> None:
        chunks = self._episodes.end(item.why) if isinstance(item, _End) else self._chunks(item)
        for chunk in chunks:
            self._unwritten.append((chunk.id, len(chunk), encode(chunk)))
            if len(self._unwritten) > UNWRITTEN:
                self._forgotten += self._unwritten.popleft()[1]
        if chunks or isinstance(item, _End):
            self._write()

    def _chunks(self, seen: _Seen) -> list[Chunk]:
        try:
            tick = seen.tick(self._gap)
        except ExperienceError as error:  # of a builder of somebody else
            if not self._unusable:
                log.warning("experience is lost: %s", error)
            self._unusable, self._gap = self._unusable + 1, True
            return []
        self._gap = False
        return self._episodes.take(tick)

    def _write(self) -> None:
        """Write what waits in memory, as far as the disk takes it."""
        try:
            while self._unwritten:
                chunk_id, steps, data = self._unwritten[0]
                self._spool.add(chunk_id, data)
                self._unwritten.popleft()
                self.steps += steps
        except OSError as error:
            reason = explain(error, self._spool.folder)
            if self.error is None:
                log.warning("experience waits in memory: %s", reason)
            self.error = reason
        else:
            self.error = None

    def _look(self) -> None:
        """Try again what was not written, and keep within the room that there is.

        What a killed writer left is removed twice: at the start it may be too new to be told.
        """
        self._write()
        try:
            if self._looks < 2:
                self._spool.remove_unfinished()
            self._looks += 1
            dropped = self._spool.trim()
        except OSError as error:
            log.warning("%s", explain(error, self._spool.folder))
            return
        self.dropped += dropped.waiting
        if dropped.waiting:
            log.warning(
                "%d chunks of experience were removed before a server had them: more than "
                "experience_max_mb", dropped.waiting,
            )  # fmt: skip
