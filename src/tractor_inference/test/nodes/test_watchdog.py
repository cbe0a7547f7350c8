"""The watchdog stops the rover while there is a reason to, and ends a process that hangs."""

import subprocess
import sys
import threading

from tractor_inference.actor_parameters import ActorParameters
from tractor_inference.nodes.watchdog import EXIT_HUNG, Watchdog

HANGING = """
import threading, time
from tractor_inference.actor_parameters import ActorParameters
from tractor_inference.nodes.watchdog import Watchdog
own = ActorParameters(watchdog_period_s=0.01, max_input_age_s=0.05, inference_exit_s=0.5)
say = lambda level, text: print(text)
dog = Watchdog(own, lambda now_s: None, print, lambda: print("noted"), say)
dog.start()
with dog.asking():
    time.sleep(600)
"""


def test_the_rover_is_stopped_while_an_input_is_stale():
    stale, stopped = threading.Event(), threading.Semaphore(0)
    reasons = []

    def stop(reason):
        reasons.append(reason)
        stopped.release()

    dog = Watchdog(
        ActorParameters(watchdog_period_s=0.01),
        lambda now_s: "scan 0.42 s old" if stale.is_set() else None,
        stop, lambda: None, lambda level, text: None,
    )  # fmt: skip
    dog.start()
    assert not stopped.acquire(timeout=0.1)
    stale.set()
    assert all(stopped.acquire(timeout=10.0) for _ in range(3))
    dog.end()
    assert {*reasons} == {"scan 0.42 s old"}
    dog.end()  # harmless


def test_an_inference_that_hangs_is_a_reason_then_ends_the_process():
    done = subprocess.run([sys.executable, "-uc", HANGING], capture_output=True, text=True)
    assert done.returncode == EXIT_HUNG, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("inference has not answered for 0.")
    assert lines[-2].endswith("; ending so that a supervisor starts it anew")
    assert lines[-1] == "noted"
