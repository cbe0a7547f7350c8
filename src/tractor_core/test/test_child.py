"""A child in a session of its own stands back as far as who started it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tractor_core.child import keep_niceness

STARTED = """
import os, subprocess, sys
from tractor_core.child import keep_niceness
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
