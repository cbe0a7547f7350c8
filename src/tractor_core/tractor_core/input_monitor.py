"""Is an input there, in time and in order? Time is always an argument."""

from __future__ import annotations

import logging
import zlib

from numpy.typing import NDArray

from .errors import SensorError

# A clock that disagrees by more than this cannot be used to judge an age.
MAX_FUTURE_S = 0.1
# A delay worth a word when an input is stale.
LATE_S = 0.05
# Weight of the newest interval in the mean that gives the rate.
RATE_WEIGHT = 0.1
# Two grids may have the stamp of one scan; two measurements never have one stamp.
REPEATING = ("bev",)
# After an input was stale so many messages must come in time, one after the other: an input that
# comes now and then would let the rover drive in jerks.
RESUME_MESSAGES = 3
# Those that come in a shorter time than this share of the time between their stamps waited for each
# other on the way: what comes in bursts is away in between.
BURST = 0.25
# Reasons are few, but a sensor that fails in ever new ways must not fill the memory.
MAX_REASONS = 16
# Longer than any max_input_age_s may be, so that the rover stands, and than a driver that is
# started again is away, so that a passing stranger cannot take its place.
FRAME_SILENCE_S = 6.0

_log = logging.getLogger(__name__)


class InputMonitor:
    """Watches one input: refuses stamps that cannot be right, and names it when it is stale.

    Stamps are compared with the ROS clock, which may be simulated, jump or stand still; from the
    arrival on age is counted on a steady clock, which cannot. What was stale counts again after
    RESUME_MESSAGES in a row. The first frame_id is the one that later messages must carry, because
    the extrinsics are those of one sensor; another one is adopted when that sensor has been silent
    for FRAME_SILENCE_S. A sensor has noise: what says the same to the bit as the one before is as
    old as that, and after `frozen_s` the sensor is frozen, whatever its stamps say.

    Args:
        required: False when the rover may drive without this input.
        frozen_s: 0 for a sensor without noise, as in some simulators.

    Attributes:
        received, rejected: messages that could be used, and that could not.
        rejection: why the last message could not be used, None when it could.
        measured_s: when what the last of the former says was measured, on the steady clock.
        untimely: those of the latter whose stamps and the ROS clock disagree.
    """

    def __init__(
        self, name: str, max_age_s: float, required: bool = True, frozen_s: float = 0.0
    ) -> None:
        self.name = name
        self.max_age_s = max_age_s
        self.required = required
        self._frozen_s = frozen_s
        self._content: int | None = None
        self._changed_s = self._heard_s = self._same_s = 0.0
        self.received = 0
        self.rejected = 0
        self.untimely = 0
        self.rejection: SensorError | None = None
        self._reasons: dict[str, int] = {}
        self._frame_id: str | None = None
        self._arrival_s: float | None = None
        self.measured_s = 0.0
        # How many messages are missing until it counts again.
        self._missing = 0
        self._interval_s: float | None = None
        self._stamp_ns = self._clock_ns = 0

    @property
    def last_rejection(self) -> str:
        """The last message's fault in words; empty when it could be used."""
        rejection = self.rejection  # another thread may ask
        return "" if rejection is None else str(rejection)

    def reject(self, error: SensorError) -> None:
        """Count a message that could not be used, by what was expected of it."""
        self.rejected += 1
        self.rejection = error
        expected = error.expected.removeprefix(f"{self.name}: ")
        if expected not in self._reasons and len(self._reasons) >= MAX_REASONS:
            expected = "other reasons"
        self._reasons[expected] = self._reasons.get(expected, 0) + 1

    def accept(
        self,
        frame_id: str,
        stamp_ns: int,
        clock_ns: int,
        now_s: float,
        content: NDArray | None = None,
    ) -> bool:
        """Take note of a message; False when its stamp, frame or content cannot be right.

        Args:
            frame_id: the message's frame, which must be one that `adopts` says yes to.
            stamp_ns: the message's header stamp.
            clock_ns: the ROS clock.
            now_s: a steady clock.
            content: what noise changes from one message to the next; None where it does not.
        """
        age_s = (clock_ns - stamp_ns) * 1e-9
        in_time = self.in_time(now_s)
        behind = in_time and stamp_ns < self._stamp_ns
        known = self._arrival_s is not None and frame_id == self._frame_id
        again = known and stamp_ns == self._stamp_ns and self.name not in REPEATING
        self.untimely += not -MAX_FUTURE_S <= age_s <= self.max_age_s
        if age_s < -MAX_FUTURE_S:
            self._reject(f"a stamp at most {MAX_FUTURE_S} s ahead", f"{-age_s:.3f} s ahead")
        elif age_s > self.max_age_s:
            self._reject(f"a stamp at most {self.max_age_s} s old", f"{age_s:.3f} s old")
        elif behind:
            step_s = (self._stamp_ns - stamp_ns) * 1e-9
            self._reject("stamps that increase", f"{step_s:.3f} s backwards")
        elif not frame_id:
            self._reject("a frame_id", "none; set it in the driver that publishes this topic")
        elif not self.adopts(frame_id, now_s):
            self._reject(f"frame_id {self._frame_id!r}", repr(frame_id))
        elif again:
            self._reject("stamps that increase", "the one before again")
        elif (same_s := self._same_for_s(content, now_s)) > self._frozen_s:
            self._reject(
                "content that changes, as the noise of a sensor does",
                f"the same for more than {self._frozen_s:g} s; the driver hangs, or the sensor has "
                "no noise: then set frozen_input_s to 0",
            )
        else:
            if self._frame_id not in (None, frame_id):
                _log.warning(
                    f"{self.name}: frame_id {frame_id!r} adopted, because {self._frame_id!r} has "
                    f"been silent for more than {FRAME_SILENCE_S:g} s"
                )
            self._frame_id = frame_id
            if self._arrival_s is not None:
                step_s = now_s - self._arrival_s
                burst = clock_ns - self._clock_ns < BURST * (stamp_ns - self._stamp_ns)
                mean_s = step_s if self._interval_s is None else self._interval_s
                self._interval_s = mean_s + RATE_WEIGHT * (step_s - mean_s)
                if not in_time:
                    self._missing = RESUME_MESSAGES - 1
                elif self._missing and not burst:
                    self._missing -= 1
            self.received += 1
            self.rejection = None
            self._arrival_s, self._stamp_ns, self._clock_ns = now_s, stamp_ns, clock_ns
            self._same_s = same_s
            self.measured_s = now_s - max(0.0, age_s) - same_s
            return True
        return False

    def _same_for_s(self, content: NDArray | None, now_s: float) -> float:
        """Note what a message says, and return for how long they have said the same."""
        if content is None or not self._frozen_s:
            self._content = None
            return 0.0
        found = zlib.crc32(content.tobytes())
        if found != self._content or now_s - self._heard_s > self.max_age_s:
            self._content, self._changed_s = found, now_s
        self._heard_s = now_s
        return now_s - self._changed_s

    def _reject(self, expected: str, found: str) -> None:
        self.reject(SensorError(f"{self.name}: expected {expected}", found))

    def adopts(self, frame_id: str, now_s: float) -> bool:
        """True when a message of this frame can be accepted; never for an empty one."""
        known = self._frame_id in (None, frame_id)
        silent = self._arrival_s is not None and now_s - self._arrival_s > FRAME_SILENCE_S
        return bool(frame_id) and (known or silent)

    def fresh(self, now_s: float) -> bool:
        """True when the last accepted message is young enough, and none is missing before it."""
        return self.in_time(now_s) and not self._missing

    def in_time(self, now_s: float) -> bool:
        """True when what the last accepted message says is young enough."""
        return self._arrival_s is not None and now_s - self.measured_s <= self.max_age_s

    def problem(self, now_s: float) -> str | None:
        """Return why the rover must not drive on this input, or None."""
        if self.fresh(now_s):
            return None
        if self.in_time(now_s):
            return (
                f"{self.name} was away: {self._missing} more messages must follow, none of which "
                f"is {self.max_age_s:.2f} s old before the next"
            )
        why = f" (last rejected: {self.last_rejection})" if self.last_rejection else ""
        if self._arrival_s is None:
            return f"{self.name} never received{why}"
        age_s, same_s = now_s - self.measured_s, self._same_s
        late_s = self._arrival_s - self.measured_s - same_s
        late = f", of which {late_s:.2f} before it came" if late_s >= LATE_S else ""
        same = f", for {same_s:.2f} the same to the bit" if same_s else ""
        return f"{self.name} {age_s:.2f} s old, limit {self.max_age_s:.2f}{late}{same}{why}"

    def describe(self, now_s: float) -> dict[str, str]:
        """Return rate, age and counters for diagnostics."""
        values = {"received": str(self.received), "rejected": str(self.rejected)}
        if self._arrival_s is not None:
            values["age s"] = f"{now_s - self.measured_s:.2f}"
        if self._interval_s:
            values["rate Hz"] = f"{1.0 / self._interval_s:.1f}"
        if self.last_rejection:
            values["last rejection"] = self.last_rejection
        values |= {f"rejected, {expected}": str(n) for expected, n in self._reasons.items()}
        return {f"{self.name} {key}": value for key, value in values.items()}
