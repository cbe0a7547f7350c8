"""A fault that goes on is said at once and then ever more seldom; another one is not hidden."""

from tractor_inference.nodes.base.repeated import Repeated


def said_at(repeated, events):
    return [at_s for at_s, kind in events if repeated.due(kind, at_s)]


def test_what_goes_on_all_night_is_said_some_dozen_times():
    night = [(float(second), "late") for second in range(8 * 3600)]
    said = said_at(Repeated(), night)
    assert said[:5] == [0.0, 2.0, 6.0, 14.0, 30.0]
    assert len(said) < 60


def test_another_fault_is_said_within_two_seconds():
    events = [(second / 2, "late" if second < 200 else "wrong unit") for second in range(210)]
    assert said_at(Repeated(), events)[-2:] == [100.0, 102.0]


def test_two_faults_that_alternate_flood_no_log():
    events = [(second / 10, str(second % 2)) for second in range(100)]
    assert len(said_at(Repeated(), events)) <= 6
    night = [(float(second), str(second % 3)) for second in range(8 * 3600)]
    assert len(said_at(Repeated(), night)) < 3 * 60


def test_what_comes_back_is_said_at_once():
    events = [(float(second), "late") for second in [*range(100), 120]]
    assert said_at(Repeated(), events)[-1] == 120.0
