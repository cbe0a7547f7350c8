"""From ticks of the control loop to chunks of experience. No clock, no file."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tractor_core.experience import DRIVERS, MAX_GAP_S, ROW, Chunk

# About a second at 30 Hz.
CHUNK_STEPS = 30
STANDING = ("stop", "stuck")
# What the guard says of who drives.
SAID = ("policy", "teleop", *STANDING)


@dataclasses.dataclass(frozen=True)
class Tick:
    """What was seen at one moment, and what was answered to it.

    Attributes:
        stamp_ns: of the observation.
        proprio: raw, (6,) float32.
        grid: its cells as bits, see `experience.pack_grid`.
        pose: x, y in m, yaw in rad, of the odometry.
        answer, requested: (2,) float32, of the model, and with exploration.
        model: its sha256.
        driver: who gave what was executed since the tick before, or why the base stood: of SAID.
        broken: a tick before this one is missing.
    """

    stamp_ns: int
    proprio: NDArray[np.float32]
    grid: NDArray[np.uint8]
    pose: tuple[float, float, float]
    answer: NDArray[np.float32]
    requested: NDArray[np.float32]
    model: str
    driver: str
    broken: bool = False


class Episodes:
    """Puts ticks together to steps, these to chunks, and says where an episode ends.

    A step is known when the next tick comes, which says what was executed and by whom. An episode
    ends where the rover stands, another one drives, another model answers or ticks are missing. No
    step begins where the rover stands.

        episodes = Episodes(session, contract.digest)
        for tick in ticks:
            chunks += episodes.take(tick)
        chunks += episodes.end("session end")
    """

    def __init__(self, session: str, contract: str) -> None:
        self._session, self._contract = session, contract
        self._ticks: list[Tick] = []
        # Who gave the step that each tick but the last began.
        self._drivers: list[str] = []
        # Who drives in this episode; empty at its beginning.
        self._driver = ""
        self._episode = self._first = 0

    def take(self, tick: Tick) -> list[Chunk]:
        """Take note of one more tick; return the chunks that are complete now."""
        chunks = self.end("gap") if self._ticks and self._follows_not(tick) else []
        if self._ticks:
            chunks += self._step_to(tick)
        if not self._ticks:
            self._ticks = [tick]
        return chunks

    def end(self, why: str) -> list[Chunk]:
        """End the episode, for a reason of `experience.ENDS`; what the last tick led to is open."""
        chunks = self._cut(why)
        self._ticks, self._driver = [], ""
        return chunks

    def _follows_not(self, tick: Tick) -> bool:
        apart_s = (tick.stamp_ns - self._ticks[-1].stamp_ns) * 1e-9
        return tick.broken or not 0.0 < apart_s <= MAX_GAP_S

    def _step_to(self, tick: Tick) -> list[Chunk]:
        """Complete the step that the last tick began.

        A chunk that is full is only then cut off: how its episode goes on is known now.
        """
        stands, before = tick.driver in STANDING, self._driver
        if stands and not before:  # it stood already
            self._ticks = []
            return []
        chunks = []
        if before and not stands and (tick.driver == "teleop") != (before == "teleop"):
            chunks = self._cut("operator")
        elif len(self._drivers) == CHUNK_STEPS:
            chunks = self._cut("")
        if stands:
            self._add(tick, "stop")
            return chunks + self.end(tick.driver)
        explores = not np.array_equal(self._ticks[-1].answer, self._ticks[-1].requested)
        self._add(tick, "exploring" if explores and tick.driver == "policy" else tick.driver)
        self._driver = tick.driver
        if tick.model != self._ticks[0].model:
            chunks += self._cut("model")
        return chunks

    def _add(self, tick: Tick, driver: str) -> None:
        self._drivers.append(driver)
        self._ticks.append(tick)

    def _cut(self, why: str) -> list[Chunk]:
        """Return what there is as a chunk; the last tick begins the next one."""
        if not self._drivers:
            return []
        rows = np.zeros(len(self._ticks), ROW)
        rows["stamp_ns"] = [tick.stamp_ns for tick in self._ticks]
        for name in ("proprio", "pose"):
            rows[name] = [getattr(tick, name) for tick in self._ticks]
        for name in ("answer", "requested"):
            rows[name][:-1] = [getattr(tick, name) for tick in self._ticks[:-1]]
        rows["driver"][:-1] = [DRIVERS.index(driver) for driver in self._drivers]
        chunk = Chunk(
            self._session, self._episode, self._first, self._ticks[0].model, self._contract, why,
            rows, np.stack([tick.grid for tick in self._ticks]),
        )  # fmt: skip
        self._first += len(chunk)
        self._episode += bool(why)
        self._ticks, self._drivers = self._ticks[-1:], []
        return [chunk]
