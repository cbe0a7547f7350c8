from tractor_inference.freshness import InputMonitor

S = 1_000_000_000


def test_never_seen_is_named():
    assert InputMonitor("scan", 0.3).problem(5.0) == "scan never received"


def test_stale_is_named_with_age_and_limit():
    monitor = InputMonitor("scan", 0.3)
    assert monitor.accept(10 * S, 10 * S, 1.0)
    assert monitor.problem(1.29) is None
    assert monitor.problem(1.42) == "scan 0.42 s old, limit 0.30"


def test_stamps_ahead_old_or_backwards_are_rejected_and_counted():
    monitor = InputMonitor("depth", 0.3)
    assert monitor.accept(10 * S, 10 * S, 1.0)
    assert not monitor.accept(11 * S, 10 * S, 1.0)
    assert "ahead" in monitor.last_rejection
    assert not monitor.accept(9 * S, 10 * S, 1.0)
    assert "1.000 s old" in monitor.last_rejection
    assert not monitor.accept(10 * S - 1_000_000, 10 * S, 1.0)
    assert "backwards" in monitor.last_rejection
    assert monitor.rejected == 3
    assert "last rejected" in monitor.problem(2.0)


def test_a_clock_that_jumped_back_is_followed_once_the_old_stamp_is_stale():
    monitor = InputMonitor("scan", 0.3)
    assert monitor.accept(100 * S, 100 * S, 1.0)
    assert not monitor.accept(5 * S, 5 * S, 1.1)
    assert monitor.accept(5 * S, 5 * S, 1.5)
    assert monitor.problem(1.5) is None


def test_a_clock_that_stands_still_cannot_hide_staleness():
    monitor = InputMonitor("scan", 0.3)
    assert monitor.accept(0, 0, 1.0)
    assert monitor.problem(2.0) is not None
