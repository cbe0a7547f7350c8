"""Where the rover was: recent odometry, and the motion between two stamps. Time is an argument."""

from __future__ import annotations

import bisect
import dataclasses
import math
from typing import NamedTuple


class Motion(NamedTuple):
    """How base_link moved: a point p of then lies at Rz(yaw_rad) p + (x_m, y_m) now."""

    x_m: float
    y_m: float
    yaw_rad: float


STILL = Motion(0.0, 0.0, 0.0)


class ScanMotion(NamedTuple):
    """The motion from the first and from the last beam of a scan to the moment of the grid."""

    first: Motion = STILL
    last: Motion = STILL


UNCOMPENSATED = ScanMotion()

KEEP_S = 2.0
# How far the twist of the last message may carry on; farther, slip and turns make it a guess.
REACH_S = 0.1
# A longer pause between two messages hides what happened in between.
MAX_GAP_S = 0.5
# No message is so far from where the last twist leads: the odometry was reset.
RESET_M, RESET_RAD = 0.1, 0.3


@dataclasses.dataclass(frozen=True)
class OdometrySample:
    """One odometry message: planar pose in the odom frame, twist in base_link (m, rad, s)."""

    stamp_ns: int
    x_m: float
    y_m: float
    yaw_rad: float
    linear_m_s: float
    angular_rad_s: float

    def carried(self, seconds: float) -> tuple[float, float, float]:
        """Return x, y, yaw after so many seconds of the same twist."""
        heading = self.yaw_rad + self.angular_rad_s * seconds / 2.0
        way_m = self.linear_m_s * seconds
        return (
            self.x_m + way_m * math.cos(heading),
            self.y_m + way_m * math.sin(heading),
            self.yaw_rad + self.angular_rad_s * seconds,
        )


class OdometryTrack:
    """The odometry of the last two seconds."""

    def __init__(self) -> None:
        self._samples: list[OdometrySample] = []
        self._stamps_ns: list[int] = []

    def add(self, sample: OdometrySample) -> None:
        """Note a message; after a reset of the odometry or of the clock what was before is gone."""
        if self._samples:
            last = self._samples[-1]
            seconds = (sample.stamp_ns - last.stamp_ns) * 1e-9
            if seconds == 0.0:
                return
            x_m, y_m, yaw_rad = last.carried(min(seconds, MAX_GAP_S))
            off_m = math.hypot(sample.x_m - x_m, sample.y_m - y_m)
            off_rad = abs(_wrapped(sample.yaw_rad - yaw_rad))
            if seconds < 0.0 or off_m > RESET_M or off_rad > RESET_RAD:
                self._samples.clear()
                self._stamps_ns.clear()
        self._samples.append(sample)
        self._stamps_ns.append(sample.stamp_ns)
        while sample.stamp_ns - self._stamps_ns[0] > KEEP_S * 1e9:
            del self._samples[0], self._stamps_ns[0]

    def pose(self, stamp_ns: int) -> tuple[float, float, float] | None:
        """Return x, y, yaw at a stamp, or None where the odometry does not tell."""
        after = bisect.bisect_left(self._stamps_ns, stamp_ns)
        if after < len(self._samples) and self._stamps_ns[after] == stamp_ns:
            return self._samples[after].carried(0.0)
        if not self._samples or after == 0:
            return None
        before = self._samples[after - 1]
        seconds = (stamp_ns - before.stamp_ns) * 1e-9
        if after < len(self._samples):
            following = self._samples[after]
            gap_s = (following.stamp_ns - before.stamp_ns) * 1e-9
            if gap_s <= MAX_GAP_S:
                share = seconds / gap_s
                return (
                    before.x_m + share * (following.x_m - before.x_m),
                    before.y_m + share * (following.y_m - before.y_m),
                    before.yaw_rad + share * _wrapped(following.yaw_rad - before.yaw_rad),
                )
        return before.carried(seconds) if seconds <= REACH_S else None

    def motion(self, from_ns: int, to_ns: int) -> Motion | None:
        """Return how base_link moved from one stamp to another, or None where it is not known."""
        if from_ns == to_ns:
            return STILL
        then, now = self.pose(from_ns), self.pose(to_ns)
        if then is None or now is None:
            return None
        cos, sin = math.cos(now[2]), math.sin(now[2])
        dx, dy = then[0] - now[0], then[1] - now[1]
        return Motion(cos * dx + sin * dy, cos * dy - sin * dx, _wrapped(then[2] - now[2]))


def _wrapped(angle_rad: float) -> float:
    return math.remainder(angle_rad, 2.0 * math.pi)
