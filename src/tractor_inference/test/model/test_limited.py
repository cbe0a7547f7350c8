"""A function in a child process: what it returns and raises, and that limits hold."""

import operator
import os
import select
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tractor_core import parameters
from tractor_core.errors import ParameterError
from tractor_inference.model import limited
from tractor_inference.model.limited import LimitError, Limits

ROOMY = Limits(30.0, 500.0)


def test_a_function_returns_from_a_child_as_it_would_here():
    assert limited.call(ROOMY, operator.add, (1, b"x" * 1_000_000), (None,)) == (
        1, b"x" * 1_000_000, None,
    )  # fmt: skip
    assert limited.call(ROOMY, os.getpid) != os.getpid()
    assert np.array_equal(limited.call(ROOMY, np.arange, 5), np.arange(5))


def test_errors_of_the_suite_come_back_as_they_are_and_others_with_their_traceback(tmp_path):
    with pytest.raises(ParameterError, match=r"none\.yaml"):
        limited.call(ROOMY, parameters.read_file, tmp_path / "none.yaml")
    with pytest.raises(limited.ChildError, match=r"Traceback(.|\n)*ZeroDivisionError"):
        limited.call(ROOMY, divmod, 1, 0)


def test_what_takes_too_long_is_ended():
    with pytest.raises(LimitError, match=r"took longer than 0\.3 s"):
        limited.call(Limits(0.3, 500.0), time.sleep, 600)


def test_what_takes_too_much_memory_is_ended_and_the_answer_counts_too():
    with pytest.raises(LimitError, match="took more than 100 MB of memory"):
        limited.call(Limits(30.0, 100.0), bytes, 10**9)
    with pytest.raises(LimitError, match="took more than 100 MB of memory"):
        limited.call(Limits(30.0, 100.0), bytes, 60 * 10**6)  # twice, once pickled


@pytest.mark.parametrize(
    ("function", "argument", "end"),
    [(os._exit, 3, "code 3"), (signal.raise_signal, signal.SIGSEGV, "SIGSEGV")],
)
def test_a_child_that_dies_is_an_error_that_says_how(function, argument, end):
    with pytest.raises(LimitError, match=f"ended with {end}"):
        limited.call(ROOMY, function, argument)


def test_what_a_child_prints_stays_off_stdout(capfd):
    limited.call(ROOMY, os.write, 1, b"chatter")
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == "chatter"


STARTER = """
import sys
from tractor_inference.model import limited
wait = "import os, pathlib, time; pathlib.Path(%r).write_text(str(os.getpid())); time.sleep(600)"
limited.call(limited.Limits(600.0, 500.0), exec, wait % sys.argv[1])
"""


def test_a_child_ends_with_the_process_that_started_it(tmp_path):
    file = tmp_path / "pid"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(file)], env=environment)
    deadline_s = time.monotonic() + 30.0
    while not (file.exists() and file.read_text()) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    child = os.pidfd_open(int(file.read_text()))
    starter.kill()
    starter.wait()
    assert select.select([child], [], [], 30.0)[0]
    os.close(child)
