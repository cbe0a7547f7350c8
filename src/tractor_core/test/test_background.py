"""A thread that dies is named, logged once with its traceback, and started anew."""

import logging
import threading

import pytest

from tractor_core import background
from tractor_core.background import Worker

LONG_S = 10.0


class Loop:
    """A loop that raises as often as it is told, then works until it ends."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.runs = 0
        self.works = threading.Event()

    def __call__(self, ending: threading.Event) -> None:
        self.runs += 1
        if self.errors:
            raise self.errors.pop(0)
        self.works.set()
        ending.wait()


@pytest.fixture
def start(monkeypatch):
    monkeypatch.setattr(background, "FIRST_PAUSE_S", 0.001)
    started = []

    def start(loop):
        started.append(Worker("test", loop))
        started[-1].start()
        return started[-1]

    yield start
    assert all(worker.stop(LONG_S) for worker in started)
    assert not background.troubles()


def test_a_loop_that_raises_is_named_and_started_anew(start, caplog):
    start(loop := Loop(KeyError("vendor_enum"), SystemExit(3)))
    assert loop.works.wait(LONG_S) and loop.runs == 3
    assert background.troubles() == ["thread test died and is started anew: SystemExit: 3"]
    texts = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(texts) == 2
    assert "KeyError: 'vendor_enum'" in texts[0] and "Traceback" in texts[0]


def test_what_it_dies_of_again_is_logged_once(start, caplog):
    start(loop := Loop(*[OSError("gone") for _ in range(4)]))
    assert loop.works.wait(LONG_S)
    assert len(caplog.records) == 1


def test_all_is_well_again_when_it_has_worked_for_a_while(start, monkeypatch):
    monkeypatch.setattr(background, "NAMED_S", 0.05)
    start(loop := Loop(OSError("gone")))
    assert loop.works.wait(LONG_S)
    for _ in range(200):
        if not background.troubles():
            return
        threading.Event().wait(0.01)
    raise AssertionError(background.troubles())


def test_the_pause_grows_and_ends_when_it_is_stopped(start, monkeypatch):
    monkeypatch.setattr(background, "FIRST_PAUSE_S", 60.0)
    died = threading.Event()

    def die(ending):
        died.set()
        raise OSError("gone")

    worker = start(die)
    assert died.wait(LONG_S)
    assert worker.stop(LONG_S)


def test_a_loop_that_hangs_is_not_waited_for(start):
    free = threading.Event()
    worker = start(lambda ending: free.wait())
    assert not worker.stop(0.01)
    free.set()


def test_it_begins_again_after_it_was_stopped(start):
    worker = start(loop := Loop())
    assert worker.stop(LONG_S)
    loop.works.clear()
    worker.start()
    assert loop.works.wait(LONG_S)
