"""What can happen to the folder of the samples; it drives on, and samples again afterwards."""

import os
import shutil
import subprocess
import time
from functools import partial

import pytest

from faults.report import chosen
from faults.rig import Fault, Rig
from tractor_core import samples
from tractor_inference.recording.sampler import RECOUNT_S

pytestmark = [pytest.mark.ros, pytest.mark.slow]

KIND = "Disk"
DISK_BYTES = 2 * 2**20
NOBODY = 65534
ON = "sampling stops with a warning, driving goes on; samples again within 10 s"


def fill(rig):
    with open(rig.disk / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def remount(how, rig):
    subprocess.run(["mount", "-o", f"remount,{how}", rig.disk], check=True)


def owned_by(user, rig):
    os.chown(rig.samples, user, user)
    rig.samples.chmod(0o755 if os.geteuid() == 0 else 0o555 if user else 0o755)


def all_load(rig):
    """Read every sample that the killed process left, then start it again."""
    rig.processes["sac_actor"].process.wait()
    for file in samples.list_files(rig.samples):
        samples.read(file, rig.contract)
    rig.start()


FAULTS = [
    Fault("disk full", ON, fill, lambda rig: (rig.disk / "filler").unlink(), stops=False,
          says="sampling stopped", repeats=2, watched_s=3.0),
    Fault("folder deleted", "made anew, driving goes on", lambda rig: shutil.rmtree(rig.samples),
          stops=False, repeats=2, watched_s=3.0),
    Fault("folder replaced by a file", ON,
          lambda rig: (shutil.rmtree(rig.samples), rig.samples.write_text("")),
          lambda rig: rig.samples.unlink(), stops=False, says="sampling stopped", repeats=2,
          watched_s=3.0, short=True),
    Fault("disk read-only", ON, partial(remount, "ro"), partial(remount, "rw"), stops=False,
          says="sampling stopped", repeats=2, watched_s=3.0),
    Fault("folder owned by another", ON, partial(owned_by, NOBODY), partial(owned_by, 0),
          stops=False, says="sampling stopped", repeats=2, watched_s=3.0),
    Fault("kill -9 of sac_actor while it samples", "zero by the guard; every sample left loads",
          lambda rig: rig.processes["sac_actor"].process.kill(), all_load, ends="sac_actor",
          resume_s=None, repeats=3),
]  # fmt: skip


@pytest.fixture(scope="module")
def rig(shared_ros_graph, contract):
    disk = shared_ros_graph.folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", disk]
    mounted = subprocess.run(mount, capture_output=True).returncode == 0
    rig = Rig(
        shared_ros_graph,
        sac_actor={
            "calibration_dir": str(disk / "samples"), "sample_probability": 1.0,
            "sample_keep": 30, "sample_retention": "reservoir",
        },
    )  # fmt: skip
    rig.modules["sac_actor"] = "faults.unprivileged_actor"
    rig.disk, rig.samples, rig.mounted, rig.contract = disk, disk / "samples", mounted, contract
    yield rig
    try:
        rig.end()
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.parametrize("fault", chosen(FAULTS), ids=lambda fault: fault.name)
def test_row(rig, report, fault):
    if fault.name.startswith("disk") and not rig.mounted:
        pytest.skip("a disk of two megabytes can be mounted by root only")
    report.measure(KIND, fault, partial(suffer, rig))


def suffer(rig, fault):
    """As Rig.suffer; then samples must come again."""
    rig.ready()
    assert rig.wait(lambda: rig.samples.is_dir() and samples.list_files(rig.samples))
    measured = rig.suffer(fault)
    healed_s = time.time()

    def newer():
        return rig.samples.is_dir() and any(
            file.stat().st_mtime > healed_s for file in rig.samples.glob("*.npz")
        )

    if rig.wait(newer, RECOUNT_S + 5.0):
        measured.note = f"samples again after {time.time() - healed_s:.1f} s"
    else:
        measured.wrong.append("no sample came afterwards")
    return measured
