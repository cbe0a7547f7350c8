"""What goes wrong with the sensors while the rover drives: it begins, lasts for seconds, and ends.

A fault that is there from the start shows little: nothing moves. One that begins in the middle of a
drive finds the rover at full speed, and one that ends lets it start again.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tractor_core.sensors import DepthImage, Scan

from ..senses import CONTROL_HZ, SCAN_EVERY_TICKS
from ..sensors import DEPTH_NOISE
from ..simulation import Simulation

BEGINS_S, LASTS_S, PAUSES_S = (2.0, 4.0), (2.0, 4.0), (2.0, 4.0)
# A cover lies on the sensor's window.
COVER_M, COVER_NOISE_M = 0.10, 0.002
# At the far end of what the check of the image lets pass.
FAR_MM, SATURATED_MM = 15000, 65535
SCAN_PERIOD_S = SCAN_EVERY_TICKS / CONTROL_HZ


class Moment(NamedTuple):
    """Where in a fault a frame is taken: which time it is, since when it lasts; and a stream."""

    number: int
    since_s: float
    rng: np.random.Generator


def covered(scan: Scan, moment: Moment) -> Scan:
    """Return the scan of a LiDAR with a cover on it."""
    ranges_m = COVER_M + COVER_NOISE_M * moment.rng.standard_normal(len(scan.ranges_m))
    return dataclasses.replace(scan, ranges_m=ranges_m.astype(np.float32))


def endless(scan: Scan, moment: Moment) -> Scan:
    """Return the scan of a covered LiDAR that says +Inf, as if the way were free."""
    return dataclasses.replace(scan, ranges_m=np.full_like(scan.ranges_m, np.inf))


def seldom(scan: Scan, moment: Moment) -> Scan | None:
    """Return one scan a second."""
    return scan if moment.since_s % 1.0 < SCAN_PERIOD_S else None


def empty(depth: DepthImage, moment: Moment) -> DepthImage:
    """Return an image without any depth."""
    return dataclasses.replace(depth, pixels=np.zeros_like(depth.pixels))


def saturated(depth: DepthImage, moment: Moment) -> DepthImage:
    """Return an image that is at the greatest value everywhere."""
    return dataclasses.replace(depth, pixels=np.full_like(depth.pixels, SATURATED_MM))


def far(depth: DepthImage, moment: Moment) -> DepthImage:
    """Return an image of things far away, with noise: nothing in it tells that it is wrong."""
    noise = 1.0 + DEPTH_NOISE * moment.rng.standard_normal(depth.pixels.shape)
    return dataclasses.replace(depth, pixels=(FAR_MM * noise).astype(np.uint16))


@dataclasses.dataclass(frozen=True)
class Fault:
    """What one sensor does while it is at fault; each time it is the next of the kinds.

    `scan_late_s` and `frozen` go with any kinds: scans that arrive so much later, and the last
    frame before the fault again and again, with new stamps.
    """

    scan: tuple[Callable[[Scan, Moment], Scan | None], ...] = ()
    depth: tuple[Callable[[DepthImage, Moment], DepthImage], ...] = ()
    scan_late_s: tuple[float, ...] = ()
    frozen: str = ""
    with_walker: bool = False

    @property
    def of_camera(self) -> bool:
        """Whether the camera does not see while it lasts."""
        return bool(self.depth) or self.frozen == "depth"


FAULTS = {
    "none": Fault(),
    "covered LiDAR": Fault(scan=(covered, endless)),
    "frozen scan": Fault(frozen="scan"),
    "late scan": Fault(scan_late_s=(0.15, 0.25)),
    "scan at 1 Hz": Fault(scan=(seldom,)),
    "blind depth": Fault(depth=(empty, saturated, far)),
    "frozen depth": Fault(frozen="depth"),
    "somebody steps in": Fault(with_walker=True),
}


class Sensors:
    """The sensors of a simulation as they reach the rover: sound, or as their fault makes them.

    Args:
        seconds: how long it will be driven.
        rng: draws when the fault begins and ends.
    """

    def __init__(
        self, simulation: Simulation, fault: Fault, seconds: float, rng: np.random.Generator
    ) -> None:
        self._simulation, self._fault, self._rng = simulation, fault, rng
        # Not always the same of its kinds comes first.
        self._first = int(rng.integers(len(fault.scan + fault.depth + fault.scan_late_s) or 1))
        self._episodes: list[tuple[float, float]] = []
        begins_s = rng.uniform(*BEGINS_S)
        while begins_s < seconds:
            ends_s = begins_s + rng.uniform(*LASTS_S)
            self._episodes.append((begins_s, ends_s))
            begins_s = ends_s + rng.uniform(*PAUSES_S)
        self._scan: Scan | None = None
        self._depth: DepthImage | None = None
        self._on_the_way: collections.deque[tuple[float, float, Scan]] = collections.deque()

    @property
    def camera_sees(self) -> bool:
        """Whether the camera is sound now."""
        return not self._fault.of_camera or self._moment() is None

    def _moment(self) -> Moment | None:
        """Return where in the fault it is, None while all is sound."""
        now_s = self._simulation.time_s
        for number, (begins_s, ends_s) in enumerate(self._episodes, self._first):
            if begins_s <= now_s < ends_s:
                return Moment(number, now_s - begins_s, self._rng)
        return None

    def measure_scan(self) -> None:
        """Measure a scan now; it arrives by `scans`."""
        now_s, fault, moment = self._simulation.time_s, self._fault, self._moment()
        late_s = 0.0
        scan: Scan | None
        if moment is None:
            scan = self._scan = self._simulation.scan()
        elif fault.frozen == "scan":
            scan = self._scan
        else:
            scan = _changed(self._simulation.scan(), fault.scan, moment)
            if fault.scan_late_s:
                late_s = fault.scan_late_s[moment.number % len(fault.scan_late_s)]
        if scan is not None:
            self._on_the_way.append((now_s, now_s + late_s, scan))

    def scans(self) -> Iterator[tuple[float, Scan]]:
        """Yield the scans that arrive now, each with when it was measured, s."""
        while self._on_the_way and self._on_the_way[0][1] <= self._simulation.time_s:
            measured_s, _, scan = self._on_the_way.popleft()
            yield measured_s, scan

    def depth(self) -> DepthImage:
        """Return the image that arrives now."""
        moment = self._moment()
        if self._depth is None or moment is None or not self._fault.of_camera:
            self._depth = self._simulation.depth()
            return self._depth
        # A camera at fault looks at nothing: no ray need be cast.
        return _changed(self._depth, self._fault.depth, moment)


def _changed(frame: Any, kinds: tuple[Callable[[Any, Moment], Any], ...], moment: Moment) -> Any:
    return kinds[moment.number % len(kinds)](frame, moment) if kinds else frame
