"""The thread that writes: in order, never in the way, and ended in time."""

import threading
from concurrent.futures import Future
from pathlib import Path

from tractor_inference.recording.writer import QUEUED, Writer


def writer(handle, idle=lambda: None, period_s=60.0):
    made = Writer("test", handle, idle, period_s)
    made.start()
    return made


def test_items_are_handled_in_order_after_the_first_look():
    said = []
    one = writer(lambda item, future: said.append(item), lambda: said.append("look"))
    assert all(one.put(number) for number in range(5))
    assert one.close(10.0)
    assert said == ["look", 0, 1, 2, 3, 4]


def test_a_full_queue_refuses_and_never_blocks():
    free, busy = threading.Event(), threading.Event()

    def handle(item, future):
        busy.set()
        free.wait(10.0)

    one = writer(handle)
    assert one.put(0) and busy.wait(10.0)
    assert [one.put(number) for number in range(QUEUED + 2)] == [True] * QUEUED + [False] * 2
    assert not one.close(0.05)
    free.set()
    assert one.close(10.0)


def test_it_looks_again_when_the_period_has_passed():
    looked = threading.Semaphore(0)
    one = writer(lambda item, future: None, looked.release, period_s=0.01)
    assert all(looked.acquire(timeout=10.0) for _ in range(3))
    assert one.close(10.0)


def test_a_handler_that_raises_answers_who_waits_and_the_thread_goes_on():
    def handle(item, future):
        if item == "bad":
            raise RuntimeError("a fault that nobody thought of")
        future.set_result(Path(item))

    one, futures = writer(handle), {"bad": Future(), "good": Future()}
    assert all(one.put(item, future) for item, future in futures.items())
    assert "nobody thought of" in str(futures["bad"].exception(10.0))
    assert futures["good"].result(10.0) == Path("good")
    assert one.close(10.0)
