"""What happens to a process happens to the rover: stopped, killed, asked to end, orphaned."""

import os
import signal
import subprocess
import time
from functools import partial

import pytest

from faults.report import chosen
from faults.rig import ACTOR, PERIOD_S, STOP_S, WATCHED_S, Fault, Measured, Rig
from tractor_bringup.process import STOP_LIMIT_S, Process

pytestmark = [pytest.mark.ros, pytest.mark.slow]

KIND = "Processes"
TWO, ONE = ("bev_builder", "sac_actor", "cmd_guard"), ("drive", "cmd_guard")
# An actor that is gone commands nothing: its last command counts for command_timeout_s.
SILENT = "zero by the guard"
UNGUARDED = "no more commands: the base must stop by itself"
# What is said to be missing.
NAMED = {"bev_builder": "bev", "sac_actor": "command of the actor", "drive": "command of the actor"}
# For a node to end after a signal.
END_S = 0.5
STARTER = """
import sys, time
from pathlib import Path
from tractor_bringup.process import Process
module, params, log, samples = sys.argv[1:]
settings = {"backend": "fake", "calibration_dir": samples}
node = Process.of_node("sac_actor", module, Path(params), Path(log), **settings)
print(node.process.pid, flush=True)
time.sleep(3600)
"""


def sent(number, name):
    return lambda rig: rig.processes[name].process.send_signal(number)


def started_again(name):
    def heal(rig):
        rig.processes[name].process.wait()
        rig.start(name)

    return heal


def stopped(name):
    """Return the rows of a process before the guard, which is the one to see it."""
    return [
        Fault(f"SIGSTOP of {name}, then SIGCONT", SILENT, sent(signal.SIGSTOP, name),
              sent(signal.SIGCONT, name), says=NAMED[name], repeats=2),
        Fault(f"kill -9 of {name}, started again", SILENT, sent(signal.SIGKILL, name),
              started_again(name), says=NAMED[name], ends=name, resume_s=None, repeats=2,
              short=name == "sac_actor"),
    ]  # fmt: skip


def asked(name):
    """Return the rows of a process that is asked to end."""
    return [
        Fault(f"{number.name} of {name}", "zero, exit code 0", sent(number, name),
              started_again(name), bound_s=END_S, ends=name, resume_s=None, repeats=2)
        for number in (signal.SIGINT, signal.SIGTERM)
    ]  # fmt: skip


def without_scan(rig):
    """Start the actor anew where no scan was ever seen."""
    rig.sensors.muted.add("scan")
    rig.restart("sac_actor")


LATE = Fault(
    "sac_actor starts before the LiDAR", "zero, named, until every input was there", without_scan,
    bound_s=END_S, says="scan never received", watched_s=4.0, repeats=2,
)  # fmt: skip
GUARDS = [
    Fault("kill -9 of cmd_guard, started again", UNGUARDED, sent(signal.SIGKILL, "cmd_guard"),
          started_again("cmd_guard"), bound_s=PERIOD_S, resume_s=None, repeats=2),
    Fault("SIGSTOP of cmd_guard, then SIGCONT", UNGUARDED, sent(signal.SIGSTOP, "cmd_guard"),
          sent(signal.SIGCONT, "cmd_guard"), bound_s=PERIOD_S, repeats=2),
]  # fmt: skip
ASLEEP = Fault(
    "SIGSTOP of cmd_guard, the scan ends meanwhile, SIGCONT",
    "what was commanded before is not passed on", sent(signal.SIGSTOP, "cmd_guard"),
    bound_s=PERIOD_S, says="scan ", repeats=2,
)  # fmt: skip
ORPHANED = Fault(
    "kill -9 of what started sac_actor", "zero, and the node ends: none outlives its launch",
    bound_s=END_S, ends="sac_actor", resume_s=None, repeats=2,
)  # fmt: skip


def plainly(rig, fault):
    return rig.suffer(fault)


def asked_to_end(rig, fault):
    """As Rig.suffer; the process must end with 0."""
    rig.ready()
    process = rig.processes[fault.ends].process
    measured = rig.suffer(fault)
    if process.returncode != 0:
        measured.wrong.append(f"{fault.ends} ended with {process.returncode}")
    return measured


def falls_silent(rig, fault):
    """Measure how long commands go on to come, in place of zeros that nobody sends."""
    rig.ready()
    at_s = rig.inject(fault)
    rig.listen(WATCHED_S)
    after = rig.since(at_s)
    measured = Measured(stop_s=after[-1].at_s - at_s if after else 0.0)
    rig.resume(fault, measured)
    return measured


def wakes_up(rig, fault):
    """Let the scan end while the guard sleeps; measure what it says when it wakes up."""
    rig.ready()
    rig.inject(fault)
    rig.listen(WATCHED_S)
    rig.sensors.muted.add("scan")
    rig.listen(STOP_S)
    rig.said.clear()
    rig.processes["cmd_guard"].process.send_signal(signal.SIGCONT)
    awake_s = time.monotonic()
    rig.listen(WATCHED_S)
    after = rig.since(awake_s)
    moving = [command.at_s - awake_s for command in after if command.moves]
    measured = Measured(stop_s=max(moving, default=0.0), held=float(bool(after)))
    if not rig.says_so(fault, "cmd_guard"):
        measured.wrong.append(f"did not say {fault.says!r}")
    rig.resume(fault, measured)
    return measured


def orphan(rig, fault):
    """Start the actor by another process and kill that."""
    rig.start()
    rig.processes["sac_actor"].stop()
    folder, params = rig.graph.folder, rig.graph.params
    words = [params, folder / "orphan.log", folder / "samples"]
    starter = Process(
        ["-c", STARTER, ACTOR, *map(str, words)], folder / "starter.log", subprocess.PIPE, folder
    )
    pid = int(starter.process.stdout.readline())
    # Rig.ready would start an actor beside it.
    assert rig.drives()
    at_s = time.monotonic()
    starter.process.kill()
    starter.process.wait()
    rig.listen(WATCHED_S)
    zeros = [command for command in rig.since(at_s) if not command.moves]
    measured = Measured()
    if zeros:
        measured.stop_s = zeros[0].at_s - at_s
        measured.held = len(zeros) / len(rig.since(zeros[0].at_s))
    if not rig.wait(lambda: not os.path.exists(f"/proc/{pid}"), STOP_LIMIT_S):
        measured.wrong.append(f"still there after {STOP_LIMIT_S:g} s")
    measured.note = f"gone after {time.monotonic() - at_s:.1f} s at most"
    rig.start("sac_actor")
    rig.resume(fault, measured)
    return measured


ROWS = [
    *((TWO, fault, plainly) for name in TWO[:2] for fault in stopped(name)),
    *((TWO, fault, asked_to_end) for name in TWO for fault in asked(name)),
    *((TWO, fault, falls_silent) for fault in GUARDS),
    (TWO, ASLEEP, wakes_up),
    (TWO, LATE, plainly),
    (TWO, ORPHANED, orphan),
    *((ONE, fault, plainly) for fault in stopped("drive")),
    *((ONE, fault, asked_to_end) for fault in asked("drive")),
]


@pytest.fixture(scope="module")
def rig(request, shared_ros_graph):
    rig = Rig(shared_ros_graph, request.param)
    yield rig
    rig.end()


@pytest.mark.parametrize(
    ("rig", "fault", "suffer"),
    [row for row in ROWS if chosen([row[1]])],
    indirect=["rig"],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
def test_row(rig, report, fault, suffer):
    report.measure(KIND, fault, partial(suffer, rig))
