"""A planar scan and a depth image: what their numbers say, and whether they can be used."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from .errors import Problem, SensorError
from .robot import Robot

# A scan of which less is known than this comes from a covered or failing sensor.
MIN_SEEN_BEAMS = 0.10
# So many beams of a code that says nothing are told with a scan of which too little is known.
MANY_BEAMS = 0.15
# In fewer blocks they are a cover, or a sector that is cropped.
SCATTERED_BLOCKS = 4
# Drivers are off by up to two beams between what they say and what they send.
LENGTH_TOLERANCE_BEAMS, LENGTH_TOLERANCE = 3.0, 0.01
# A planar LiDAR on the ground does not see this far in half of its beams.
MAX_TYPICAL_RANGE_M = 100.0
# What many drivers give as range_max is no limit: LMS1xx says 20 and measures up to 50 m. In
# another unit ranges are a hundred or a thousand times too large. Beyond this multiple of it, and
# beyond what a planar LiDAR sees, they are that, or a constant that says "nothing came back".
MAX_OVERSHOOT = 4.0

# Drivers of 360 degree LiDARs end up to three beams or a degree short of the circle (rplidar_ros,
# velodyne_laserscan), or repeat the first beam (ldlidar, ydlidar). What coarse beams leave out is
# no rounding but a hole, however few they are.
# With a margin for the single precision of a message.
SEAM_RAD, SEAM_BEAMS, SEAM_BEAMS_RAD = math.radians(5.05), 3.05, math.radians(15.05)


def seam_tolerance_rad(increment_rad: float) -> float:
    """Return by how much a scan of such beams may miss a full turn, or exceed it, and be one."""
    step = abs(increment_rad)
    return max(SEAM_RAD, 0.5 * step, min(SEAM_BEAMS * step, SEAM_BEAMS_RAD))


@dataclasses.dataclass(frozen=True)
class Scan:
    """One planar scan in the LiDAR's frame.

    `ranges_m` is (n,) float32; beam i points to angle_min_rad + i * angle_increment_rad. As in
    REP-117 a finite range is a measurement when range_min_m <= r <= range_max_m, -Inf means nearer
    than range_min_m, +Inf nothing within range_max_m, which itself may be Inf. NaN, zero (what many
    drivers send when nothing came back) and any other number say nothing. Beam i was taken
    i * time_increment_s after the first one.
    """

    ranges_m: NDArray[np.float32]
    angle_min_rad: float
    angle_increment_rad: float
    range_min_m: float
    range_max_m: float
    time_increment_s: float = 0.0

    def with_no_return(self, code: str) -> Scan:
        """Return the scan as REP-117 has it, when its driver sends so where nothing came back.

        Args:
            code: see robot.lidar_no_return.
        """
        if code == "inf":
            return self
        nothing = self._codes[code]
        return dataclasses.replace(
            self, ranges_m=np.where(nothing, np.float32(np.inf), self.ranges_m)
        )

    @property
    def _codes(self) -> dict[str, NDArray[np.bool_]]:
        """Where the beams (n,) hold what some drivers send in place of +Inf."""
        r = self.ranges_m
        far = (r > self.range_max_m) & (r < np.inf)
        # A code is one number; others are measurements, or of another unit.
        code = far if far.any() and np.ptp(r[far]) == 0.0 else np.zeros_like(far)
        return {
            "nan": np.isnan(r),
            "zero": r == 0.0,
            "beyond": code,
        }

    @property
    def other_convention(self) -> str:
        """Which parameter to look at when many beams hold a code that says nothing, or empty."""
        codes = self._codes
        shares = {code: float(found.mean()) for code, found in codes.items()}
        code = max(shares, key=lambda name: shares[name])
        blocks = np.count_nonzero(codes[code] & ~np.roll(codes[code], 1))
        if shares[code] < MANY_BEAMS or blocks < SCATTERED_BLOCKS:
            return ""
        meant = {"nan": "NaN", "zero": "0", "beyond": "more than range_max"}[code]
        return (
            f"{shares[code]:.0%} of its beams are {meant}: if its driver sends that where nothing "
            f"is within reach, and nothing else, set robot.lidar_no_return to {code}"
        )

    @property
    def angles_rad(self) -> NDArray[np.float64]:
        """(n,) beam angles in the LiDAR's frame."""
        return self.angle_min_rad + self.angle_increment_rad * np.arange(len(self.ranges_m))

    @property
    def measured(self) -> NDArray[np.bool_]:
        """(n,) True where the beam hit something within the sensor's limits."""
        r = self.ranges_m
        return (r > 0.0) & (r >= self.range_min_m) & (r <= self.range_max_m) & (r < np.inf)

    @property
    def too_close(self) -> NDArray[np.bool_]:
        """(n,) True where the beam hit something nearer than range_min_m."""
        return self.ranges_m == -np.inf

    @property
    def endless(self) -> NDArray[np.bool_]:
        """(n,) True where the beam met nothing within range_max_m."""
        return self.ranges_m == np.inf

    @property
    def content(self) -> NDArray[np.float32] | None:
        """What noise changes from one scan to the next; None where nothing was measured."""
        return self.ranges_m if self.measured.any() else None

    @property
    def closes(self) -> bool:
        """True when the beams go round, so that the last one is a neighbour of the first."""
        step = abs(self.angle_increment_rad)
        return 2.0 * math.pi - step * len(self.ranges_m) <= seam_tolerance_rad(step)

    def hits(self, robot: Robot) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return which beams (n,) hit something beyond the rover's own body, and where.

        The distances are float64 metres, one a hit. What is too close to be measured counts as
        lying at range_min_m, also within robot.lidar_min_range_m: that it is the rover's own body
        is not known.
        """
        hit = self.too_close | (self.measured & (self.ranges_m >= robot.lidar_min_range_m))
        distances = self.ranges_m[hit].astype(np.float64)
        distances[distances == -np.inf] = self.range_min_m
        return hit, distances

    def points(self, robot: Robot) -> NDArray[np.float64]:
        """Return the points of the `hits` in base_link at the time of each beam, (3, m) m."""
        hit, ranges = self.hits(robot)
        angles = self.angles_rad[hit]
        flat = np.stack([ranges * np.cos(angles), ranges * np.sin(angles)])
        return robot.lidar.rotation[:, :2] @ flat + robot.lidar.position[:, None]

    def known(self, robot: Robot) -> NDArray[np.bool_]:
        """Return which beams (n,) say how far it is beyond the rover's own body, +Inf included."""
        hit, _ = self.hits(robot)
        x, y, _ = self.points(robot)
        known = self.measured & hit
        known[hit] &= ~robot.covers(x, y)
        return known | self.endless

    def seen_fraction(self, robot: Robot | None = None) -> float:
        """Return the fraction of the beams that measured something or nothing (+Inf).

        Args:
            robot: whose own body does not count; None counts every measurement.
        """
        seen = self.measured | self.endless if robot is None else self.known(robot)
        return np.count_nonzero(seen) / max(1, len(self.ranges_m))


CONTENT_ROWS = 8
# A depth of zero says that there is none (REP-118), whatever the lower limit.
LEAST_DEPTH_UNITS = 1e-6


@dataclasses.dataclass(frozen=True)
class Intrinsics:
    """Pinhole intrinsics in pixels, of the image as it is: rectified, cropped and binned."""

    fx: float
    fy: float
    cx: float
    cy: float


@dataclasses.dataclass(frozen=True)
class DepthImage:
    """One depth image along the optical axis (REP-118): uint16 mm or float32 m, (height, width)."""

    pixels: NDArray[np.uint16] | NDArray[np.float32]
    intrinsics: Intrinsics

    @property
    def content(self) -> NDArray:
        """Rows enough to tell one image from the next by their noise."""
        return self.pixels[::CONTENT_ROWS]

    @property
    def metres_per_unit(self) -> float:
        """Scale from stored values to metres."""
        return 0.001 if self.pixels.dtype == np.uint16 else 1.0

    @property
    def valid_fraction(self) -> float:
        """Fraction of pixels that hold a depth: neither zero, NaN nor Inf."""
        return self.fraction_within(0.0, math.inf)

    def fraction_within(self, nearest_m: float, farthest_m: float) -> float:
        """Return the fraction of pixels that hold a depth within these limits, both inclusive."""
        count = self._count_within(self.pixels, nearest_m, farthest_m)
        return count / max(1, self.pixels.size)

    def has_within(self, nearest_m: float, farthest_m: float, fraction: float) -> bool:
        """Return whether `fraction_within` is at least this; looks no further than it must."""
        rows = max(1, len(self.pixels) // 8)
        count, needed = 0, fraction * self.pixels.size
        for top in range(0, len(self.pixels), rows):
            count += self._count_within(self.pixels[top : top + rows], nearest_m, farthest_m)
            if count >= needed:
                return True
        return False

    def _count_within(self, pixels: NDArray, nearest_m: float, farthest_m: float) -> int:
        least, most = nearest_m / self.metres_per_unit, farthest_m / self.metres_per_unit
        if pixels.dtype == np.uint16:
            low, high = max(1, math.ceil(least - 1e-6)), math.floor(min(most + 1e-6, 65535.0))
            if low > high:
                return 0
            # What is below the lower limit wraps around and becomes large: one comparison.
            return np.count_nonzero((pixels - np.uint16(low)) <= np.uint16(high - low))
        inside = pixels >= np.float32(max(least, LEAST_DEPTH_UNITS))
        inside &= pixels <= np.float32(min(most, float(np.finfo(np.float32).max)))
        return np.count_nonzero(inside)


def angle_problems(
    first_rad: float, last_rad: float, increment_rad: float, beams: int
) -> list[Problem]:
    """Return how a scan's finite angles contradict each other or its number of beams.

    Args:
        first_rad, last_rad, increment_rad: angle_min, angle_max and angle_increment of a LaserScan.
    """
    swept, tolerance = last_rad - first_rad, seam_tolerance_rad(increment_rad)
    turns = abs(increment_rad) * beams / (2.0 * math.pi)
    if abs(increment_rad) * (beams - 1) > 2.0 * math.pi + tolerance:
        return [
            Problem(
                "angle_increment: expected radians and at most one turn in all",
                f"{beams} beams of {increment_rad:g}, {turns:.1f} turns; convert to radians in the "
                "driver if these are degrees",
            )
        ]
    if swept * increment_rad < 0.0 and abs(swept) > tolerance:
        return [
            Problem(
                "angle_increment: expected the sign of angle_max - angle_min",
                f"{increment_rad:g} from {first_rad:g} to {last_rad:g}; correct it in the driver",
            )
        ]
    said = swept / increment_rad + 1.0
    if abs(said - beams) > max(LENGTH_TOLERANCE_BEAMS, LENGTH_TOLERANCE * beams):
        return [
            Problem(
                "ranges: expected as many as angle_min, angle_max and angle_increment say",
                f"{beams} in place of {said:.0f}; correct the angles in the driver",
            )
        ]
    return []


def _too_far(scan: Scan) -> NDArray[np.float32]:
    """Return the measured ranges when half of them are beyond what a planar LiDAR sees."""
    measured = scan.ranges_m[scan.measured]
    half = 0.5 * max(1, measured.size)
    return measured if np.count_nonzero(measured > MAX_TYPICAL_RANGE_M) > half else measured[:0]


def _beyond_the_sensor(scan: Scan) -> NDArray[np.float32]:
    """Return the ranges far beyond range_max when half of all numbers are, and are not a code."""
    numbers = scan.ranges_m[np.isfinite(scan.ranges_m) & (scan.ranges_m > 0.0)]
    far = numbers[numbers > min(MAX_OVERSHOOT * scan.range_max_m, MAX_TYPICAL_RANGE_M)]
    measured = np.count_nonzero(scan.measured) / max(1, len(scan.ranges_m))
    is_code = far.size and np.ptp(far) == 0.0 and measured >= MIN_SEEN_BEAMS
    return far[:0] if is_code or far.size <= 0.5 * numbers.size else far


def ensure_usable(scan: Scan, robot: Robot | None) -> None:
    """Refuse a scan that is in another unit than metres, or of which next to nothing is known.

    Args:
        robot: whose own body does not count as seen; None counts every measurement.

    Raises:
        SensorError: what was expected and found.
    """
    for far in (_too_far(scan), _beyond_the_sensor(scan)):
        if far.size:
            raise SensorError(
                f"scan: expected ranges in metres (REP-103) up to range_max = {scan.range_max_m:g}",
                f"{np.median(far):g} in the median of {far.size} of "
                f"{len(scan.ranges_m)} beams; divide by 1000 in the driver if they are "
                "millimetres, by 100 if they are centimetres"
                + (f"; or {scan.other_convention}" if np.ptp(far) == 0.0 else ""),
            )
    seen = scan.seen_fraction(robot)
    beams = len(scan.ranges_m)
    close = np.count_nonzero(scan.too_close)
    known = np.count_nonzero(scan.measured | scan.endless)
    if seen < MIN_SEEN_BEAMS:
        raise SensorError(
            f"scan: expected at least {MIN_SEEN_BEAMS:.0%} of the beams to see beyond the rover",
            f"{f'{seen:.1%}' if seen else 'none'} in {beams} beams ({beams - known - close} "
            f"without a range in {scan.range_min_m:g}..{scan.range_max_m:g} m, {close} too close "
            f"to measure, {known - round(seen * beams)} on the rover itself); is the sensor "
            f"covered?{scan.other_convention and f' {scan.other_convention}'}",
        )
    if robot is None:
        return
    met = np.count_nonzero(scan.known(robot) & ~scan.endless)
    if met < robot.lidar_least_measured * beams:
        raise SensorError(
            f"scan: expected at least {robot.lidar_least_measured:.0%} of the beams to meet "
            "something",
            f"{met} of {beams}, and nothing within range_max = {scan.range_max_m:g} m in the "
            "others; is the sensor covered? In an open field set robot.lidar_least_measured to 0",
        )
