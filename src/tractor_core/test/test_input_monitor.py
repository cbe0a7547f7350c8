import logging

from tractor_core.errors import SensorError
from tractor_core.input_monitor import FRAME_SILENCE_S, InputMonitor

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
    assert monitor.accept("laser", 5 * S, 5 * S, 1.5)
    assert monitor.problem(1.5) is None


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
    assert not monitor.accept("stray", 10 * S, 10 * S, 1.2 + FRAME_SILENCE_S)
    assert monitor.accept("laser", 10 * S, 10 * S, 1.3 + FRAME_SILENCE_S)


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
