from tractor_inference.nodes.base.timings import Timings


def test_nothing_is_said_before_the_first():
    assert Timings("latency", 10, 2).describe() == {}


def test_the_newest_count():
    timings = Timings("latency", 100, 1)
    for value_ms in (1000.0, *range(1, 101)):
        timings.add(value_ms)
    assert timings.describe() == {"latency p50 ms": "50.5", "latency p99 ms": "99.0"}
