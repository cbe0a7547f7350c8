"""What else the machine does, and whether it drives on; ten minutes without a fault first."""

import os
from pathlib import Path

import pytest

from faults.report import chosen
from faults.rig import Fault
from tractor_bringup.process import Process, stop_all

pytestmark = [pytest.mark.ros, pytest.mark.slow]

KIND = "Machine"
FAULT_FREE_S, BUSY_S = 600.0, 120.0
# At most, and of what is free: others work on this machine.
MEMORY_BYTES, MEMORY_SHARE = 8 * 2**30, 0.5
BUSY = "while True: pass"
MEMORY = """
import sys, time
data = bytearray(int(sys.argv[1]))
while True:
    for at in range(0, len(data), 4096):
        data[at] ^= 1
"""
ON = "drives on"


def burden(rig, *commands):
    """Run Python with these arguments beside the nodes, until the fault is over."""
    rig.burdens = [
        Process([*command], rig.graph.folder / f"burden_{number}.log")
        for number, command in enumerate(commands)
    ]


def busy_cores(rig):
    burden(rig, *[["-c", BUSY]] * (os.cpu_count() or 1))


def memory(rig):
    (free_kb,) = (
        int(line.split()[1])
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable:")
    )
    burden(rig, ["-c", MEMORY, str(min(MEMORY_BYTES, int(MEMORY_SHARE * free_kb * 1024)))])


def participants(rig):
    burden(rig, ["-m", "faults.participants"])


def relieve(rig):
    stop_all(rig.burdens)


ROWS = [
    Fault("none, for ten minutes", ON, stops=False, watched_s=FAULT_FREE_S, repeats=1),
    Fault("every core busy for two minutes", ON, busy_cores, relieve, stops=False,
          watched_s=BUSY_S, repeats=1),
    Fault("half of the free memory, at most 8 GB, taken and written without end for 30 s", ON,
          memory, relieve, stops=False, watched_s=30.0, repeats=1),
    # Who publishes waits a third of a second for ten new readers, so that what it sends is old.
    Fault("ten DDS participants come and go, again and again, for 30 s",
          "stands where the sensors' messages come late, and says which", participants,
          relieve, stops=False, most_zeros=5, watched_s=30.0, repeats=1),
]  # fmt: skip


@pytest.mark.parametrize("fault", chosen(ROWS), ids=lambda fault: fault.name)
def test_row(rig, report, fault):
    report.measure(KIND, fault, rig.suffer)
