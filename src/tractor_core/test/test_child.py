"""A child in a session of its own stands back as far as who started it."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tractor_core.child import keep_niceness, same_modules

STARTED = """
import os, subprocess, sys
from tractor_core.child import keep_niceness, same_modules
os.nice(7)
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
keep_niceness(child.pid)
print(open(f"/proc/{child.pid}/autogroup").read())
child.kill()
"""


def test_its_session_gets_the_niceness():
    if not Path("/proc/self/autogroup").exists():
        pytest.skip("this kernel has no autogroups")
    done = subprocess.run([sys.executable, "-c", STARTED], capture_output=True, text=True)
    assert done.stdout.strip().endswith("nice 7"), done.stdout + done.stderr


def test_a_process_that_is_gone_is_left_alone():
    child = subprocess.Popen(["true"])
    child.wait()
    keep_niceness(child.pid)
    assert os.getpriority(os.PRIO_PROCESS, 0) >= 0


def test_modules_of_the_folder_where_a_child_is_started_are_not_taken_for_ours(tmp_path):
    (tmp_path / "select.py").write_text("raise SystemExit(1)\n")
    done = subprocess.run(
        [sys.executable, "-m", "tractor_core.child"], cwd=tmp_path, env=os.environ | same_modules()
    )
    assert done.returncode == 0


# sum() of this never gives the interpreter away.
KILLED = """
import itertools, sys
from tractor_core.child import killed_with
killed_with(int(sys.argv[1]))
print("busy", flush=True)
sum(itertools.repeat(0))
"""


@pytest.mark.parametrize("state", ["busy", "stopped", "closed before"])
def test_the_kernel_kills_a_child_whose_line_is_closed_whatever_it_does(state):
    ours, theirs = socket.socketpair()
    if state == "closed before":
        ours.close()
    with theirs:
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(theirs.fileno())], pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
        )  # fmt: skip
    if state != "closed before":
        assert child.stdout.readline() == b"busy\n"
        if state == "stopped":
            child.send_signal(signal.SIGSTOP)
        assert child.poll() is None
        ours.close()
    assert child.wait(10.0) == -signal.SIGKILL
    child.stdout.close()
