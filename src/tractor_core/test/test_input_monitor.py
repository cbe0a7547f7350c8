import logging

import numpy as np

from tractor_core.errors import SensorError
from tractor_core.input_monitor import FRAME_SILENCE_S, RESUME_MESSAGES, InputMonitor

S = 1_000_000_000


def test_never_seen_is_named():
    assert InputMonitor("scan", 0.3).problem(5.0) == "scan never received"


def test_stale_is_named_with_age_and_limit():
    monitor = InputMonitor("scan", 0.3)
    assert monitor.accept("laser", 10 * S, 10 * S, 1.0)
    assert monitor.problem(1.29) is None
    assert monitor.problem(1.42) == "scan 0.42 s old, limit 0.30"


def test_stamps_ahead_old_or_backwards_are_rejected_and_counted():
    monitor = InputMonitor("depth", 0.3)
    assert monitor.accept("laser", 10 * S, 10 * S, 1.0)
    assert not monitor.accept("laser", 11 * S, 10 * S, 1.0)
    assert "ahead" in monitor.last_rejection
    assert not monitor.accept("laser", 9 * S, 10 * S, 1.0)
    assert "1.000 s old" in monitor.last_rejection
    assert not monitor.accept("laser", 10 * S - 1_000_000, 10 * S, 1.0)
    assert "backwards" in monitor.last_rejection
    assert monitor.rejected == 3
    assert "last rejected" in monitor.problem(2.0)


def test_a_clock_that_jumped_back_is_followed_once_the_old_stamp_is_stale():
    monitor = InputMonitor("scan", 0.3)
    assert monitor.accept("laser", 100 * S, 100 * S, 1.0)
    assert not monitor.accept("laser", 5 * S, 5 * S, 1.1)
    for i in range(RESUME_MESSAGES):
        assert monitor.accept("laser", (50 + i) * S // 10, (50 + i) * S // 10, 1.5 + i / 10)
    assert monitor.problem(1.7) is None


def test_a_clock_that_stands_still_cannot_hide_staleness():
    monitor = InputMonitor("scan", 0.3)
    assert monitor.accept("laser", 0, 0, 1.0)
    assert monitor.problem(2.0) is not None


def test_another_frame_is_refused_because_the_extrinsics_are_not_its_own():
    monitor = InputMonitor("depth", 0.3)
    assert monitor.accept("camera", 10 * S, 10 * S, 1.0)
    assert not monitor.accept("rear_camera", 10 * S, 10 * S, 1.0)
    assert "expected frame_id 'camera', found 'rear_camera'" in monitor.last_rejection


def test_a_frame_that_fell_silent_gives_way_to_another_which_is_logged(caplog):
    monitor = InputMonitor("scan", 0.3)
    assert monitor.accept("stray", 10 * S, 10 * S, 1.0)
    assert not monitor.accept("laser", 10 * S, 10 * S, 1.0 + FRAME_SILENCE_S)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert monitor.accept("laser", 10 * S, 10 * S, 1.1 + FRAME_SILENCE_S)
    assert "frame_id 'laser' adopted" in caplog.text and "'stray'" in caplog.text
    assert not monitor.accept("stray", 11 * S, 11 * S, 1.2 + FRAME_SILENCE_S)
    assert monitor.accept("laser", 11 * S, 11 * S, 1.3 + FRAME_SILENCE_S)


def test_an_empty_frame_is_never_adopted():
    monitor = InputMonitor("scan", 0.3)
    assert not monitor.accept("", 10 * S, 10 * S, 1.0)
    assert "expected a frame_id, found none; set it in the driver" in monitor.last_rejection
    assert monitor.accept("laser", 10 * S, 10 * S, 1.0)
    assert not monitor.accept("", 10 * S, 10 * S, 1.1 + FRAME_SILENCE_S)


def test_a_reason_of_the_past_does_not_explain_a_later_stop():
    monitor = InputMonitor("scan", 0.3)
    monitor.reject(SensorError("scan: broken"))
    assert "broken" in monitor.problem(0.0)
    assert monitor.accept("laser", 10 * S, 10 * S, 1.0)
    assert "broken" not in monitor.problem(2.0)


def test_rate_and_age_are_described():
    monitor = InputMonitor("scan", 0.3)
    for i in range(20):
        assert monitor.accept("laser", 10 * S + i * S // 10, 10 * S + i * S // 10, 1.0 + i * 0.1)
    described = monitor.describe(3.0)
    assert described["scan rate Hz"] == "10.0" and described["scan age s"] == "0.10"


def test_age_counts_from_the_stamp_on():
    monitor = InputMonitor("scan", 0.3)
    assert monitor.accept("laser", 10 * S, 10 * S + S // 5, 1.0)
    assert monitor.problem(1.09) is None
    assert monitor.problem(1.12) == "scan 0.32 s old, limit 0.30, of which 0.20 before it came"
    assert monitor.describe(1.12)["scan age s"] == "0.32"


def test_the_same_message_again_is_not_new():
    monitor = InputMonitor("scan", 0.3)
    for i in range(10):
        # Also where the clock stands still.
        assert monitor.accept("laser", 10 * S, 10 * S, 1.0 + i / 10) == (i == 0)
    assert monitor.problem(1.4).startswith("scan 0.40 s old, limit 0.30 (last rejected: scan: ")
    assert "found the one before again" in monitor.last_rejection
    grids = InputMonitor("bev", 0.3)
    assert grids.accept("base_link", 10 * S, 10 * S, 1.0)
    assert grids.accept("base_link", 10 * S, 10 * S, 1.03)


def comes_every(period_s, seconds, monitor, start_s=0.0):
    """Let messages come and return the share of the time in which the rover may drive."""
    may_drive, next_s = [], start_s
    for now_s in np.arange(start_s, start_s + seconds, 0.01):
        if now_s >= next_s:
            monitor.accept("laser", round(now_s * S), round(now_s * S), now_s)
            next_s = now_s + period_s
        may_drive.append(monitor.problem(now_s) is None)
    return np.mean(may_drive)


def test_an_input_that_comes_too_seldom_does_not_let_the_rover_drive_in_jerks():
    assert comes_every(0.1, 10.0, InputMonitor("scan", 0.3)) == 1.0
    # Once, after the first; never again.
    assert comes_every(1.0, 10.0, InputMonitor("scan", 0.3)) < 0.04


def test_what_was_away_counts_again_after_some_in_a_row_and_says_so():
    monitor = InputMonitor("scan", 0.3)
    comes_every(0.1, 1.0, monitor)
    assert monitor.problem(2.0) is not None
    monitor.accept("laser", 2 * S, 2 * S, 2.0)
    assert monitor.problem(2.0) == (
        "scan was away: 2 more messages must follow, none of which is 0.30 s old before the next"
    )
    for now_s in (2.1, 2.2):
        assert monitor.problem(now_s) is not None
        monitor.accept("laser", round(now_s * S), round(now_s * S), now_s)
    assert monitor.problem(2.2) is None


def test_what_comes_in_bursts_does_not_let_the_rover_drive_in_jerks():
    """Five scans of half a second at once, of which the last ones are fresh."""
    monitor, may_drive = InputMonitor("scan", 0.3), []
    for burst in range(20):
        for i in range(5):
            stamp_ns = round((10.0 + 0.5 * burst + 0.1 * i) * S)
            monitor.accept("laser", stamp_ns, round((10.4 + 0.5 * burst) * S), 0.5 * burst)
        may_drive += [monitor.problem(0.5 * burst + wait) is None for wait in (0.0, 0.2, 0.4)]
    # Once, after the first; never again.
    assert not any(may_drive[3:])


def test_a_simulated_clock_that_runs_ten_times_as_fast_lets_it_drive_again():
    monitor = InputMonitor("scan", 0.3)
    for i in (0, 1, 2, 3, 50, 51, 52):
        monitor.accept("laser", i * S // 10, i * S // 10, 0.01 * i)
    assert monitor.problem(0.52) is None


def test_a_link_that_holds_some_back_lets_the_rover_drive_again():
    """Odometry at 100 Hz that comes ten at a time."""
    monitor = InputMonitor("odom", 0.3)
    monitor.accept("odom", 0, 0, 0.0)
    for group in range(10, 14):
        for i in range(10):
            stamp_ns = round((0.1 * group + 0.01 * i) * S)
            monitor.accept("odom", stamp_ns, round((0.1 * group + 0.1) * S), 0.1 * group)
    assert monitor.problem(1.3) is None


def test_content_that_never_changes_is_frozen_whatever_the_stamps_say():
    monitor, still, moves = InputMonitor("scan", 0.3, frozen_s=1.0), np.ones(9), np.zeros(9)

    def accepts(now_s, content):
        return monitor.accept("laser", round(now_s * S), round(now_s * S), now_s, content)

    for now_s in np.arange(1.0, 2.0, 0.1):
        assert accepts(now_s, still)
    for now_s in np.arange(2.1, 5.0, 0.1):  # though it is stale meanwhile
        assert not accepts(now_s, still)
    assert "the same for more than 1 s; the driver hangs" in monitor.last_rejection
    assert accepts(5.0, moves)
    # What has no noise is not judged: nothing within range, or a parameter that says so.
    for now_s in np.arange(5.1, 8.0, 0.1):
        assert accepts(now_s, None)
    noiseless = InputMonitor("scan", 0.3, frozen_s=0.0)
    for now_s in np.arange(1.0, 5.0, 0.1):
        assert noiseless.accept("laser", round(now_s * S), round(now_s * S), now_s, still)


def test_what_repeats_itself_is_as_old_as_when_it_was_new():
    monitor, still = InputMonitor("scan", 0.3, frozen_s=1.0), np.ones(9)
    for now_s in (1.0, 1.1, 1.2):
        assert monitor.accept("laser", round(now_s * S), round(now_s * S), now_s, still)
        assert round(monitor.measured_s, 9) == 1.0
    assert monitor.problem(1.29) is None
    assert monitor.problem(1.35) == "scan 0.35 s old, limit 0.30, for 0.20 the same to the bit"
