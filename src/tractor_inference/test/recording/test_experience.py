"""Experience is written while the rover drives, whatever the disk does, and never makes it wait."""

import errno
import time

import numpy as np
import pytest

from tractor_core import experience
from tractor_core.observation import Observation
from tractor_core.spool import Spool
from tractor_inference.recording import experience as recording
from tractor_inference.recording.experience import ExperienceRecorder

PERIOD_NS = 33_333_333


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "experience", 10_000_000)


def seen(contract, at, value=1.0):
    bev = np.zeros(contract.bev_shape, np.float32)
    bev[0, at % 128] = value
    proprio = np.array([2.0, 0.5, 0.5, 0.1, 0.0, 0.0], np.float32)
    return Observation(bev, proprio, 1_795_000_000_000_000_000 + at * PERIOD_NS)


def drive(recorder, contract, ticks, first=0):
    action = np.array([0.5, 0.5], np.float32)
    for at in range(first, first + ticks):
        recorder.take(seen(contract, at), (0.0, 0.0, 0.0), action, action, "a" * 64, "policy")


def written(spool, contract):
    return [experience.read(path, contract) for path in spool.waiting()]


def until(condition, limit_s=10.0):
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def refuse(monkeypatch, refused):
    """Let the disk take chunks only while `refused` is empty."""
    add = Spool.add

    def sometimes(self, chunk_id, data):
        if refused:
            raise OSError(errno.ENOSPC, "No space left on device")
        return add(self, chunk_id, data)

    monkeypatch.setattr(Spool, "add", sometimes)


def test_a_drive_is_on_the_disk_when_it_ends(contract, spool):
    recorder = ExperienceRecorder(spool, contract)
    drive(recorder, contract, 45)
    recorder.end("stop")
    drive(recorder, contract, 10, first=100)
    recorder.close()
    chunks = written(spool, contract)
    assert [(len(chunk), chunk.end) for chunk in chunks] == [
        (30, ""), (14, "stop"), (9, "session end"),
    ]  # fmt: skip
    assert {chunk.session for chunk in chunks} == {recorder.session}
    assert recorder.steps == 53 and recorder.lost == 0
    assert recorder.describe() == {"experience steps": 53}


def test_what_the_disk_does_not_take_waits_and_is_written_later(
    contract, spool, monkeypatch, caplog
):
    refused = ["full"]
    refuse(monkeypatch, refused)
    recorder = ExperienceRecorder(spool, contract)
    drive(recorder, contract, 121)
    until(lambda: recorder.error is not None)
    assert "disk" in recorder.error or "space" in recorder.error
    assert len([r for r in caplog.records if "waits in memory" in r.message]) == 1
    refused.clear()
    drive(recorder, contract, 30, first=121)
    recorder.close()
    assert recorder.error is None and recorder.lost == 0
    assert sum(map(len, written(spool, contract))) == recorder.steps == 150


@pytest.mark.parametrize("ends", [True, False])
def test_what_waits_is_written_though_nothing_new_comes(contract, spool, monkeypatch, ends):
    monkeypatch.setattr(recording, "TRIM_S", 60.0 if ends else 0.05)
    refused = ["full"]
    refuse(monkeypatch, refused)
    recorder = ExperienceRecorder(spool, contract)
    drive(recorder, contract, 31)
    recorder.end("stop")
    until(lambda: recorder.error is not None)
    refused.clear()
    if not ends:
        until(lambda: recorder.steps == 30)
    recorder.close()
    assert recorder.error is None and sum(map(len, written(spool, contract))) == 30


def test_what_the_disk_never_took_is_said_when_it_ends(contract, spool, monkeypatch, caplog):
    refuse(monkeypatch, ["full"])
    recorder = ExperienceRecorder(spool, contract)
    drive(recorder, contract, 31)
    recorder.close()
    assert "30 steps of experience are lost" in caplog.text and spool.waiting() == []


def test_what_finds_no_room_in_memory_is_counted(contract, spool, monkeypatch):
    monkeypatch.setattr(recording, "UNWRITTEN", 2)
    monkeypatch.setattr(
        Spool, "add", lambda *_: (_ for _ in ()).throw(OSError(errno.EROFS, "Read-only"))
    )
    recorder = ExperienceRecorder(spool, contract)
    drive(recorder, contract, 151)
    until(lambda: recorder.lost == 60)
    assert recorder.describe()["experience lost"] == 60
    recorder.close()


def test_ticks_that_find_no_room_end_the_episode(contract, spool, monkeypatch):
    monkeypatch.setattr(recording, "QUEUED", 5)
    monkeypatch.setattr(ExperienceRecorder, "_look", lambda self: time.sleep(0.3))
    recorder = ExperienceRecorder(spool, contract)
    drive(recorder, contract, 20)
    until(lambda: recorder._writer._queue.empty())
    drive(recorder, contract, 3, first=20)
    recorder.close()
    chunks = written(spool, contract)
    assert recorder.lost >= 10
    assert chunks[0].end == "gap" and sum(map(len, chunks)) == recorder.steps


def test_a_grid_that_is_no_choice_of_0_and_1_is_said_once(contract, spool, caplog):
    recorder = ExperienceRecorder(spool, contract)
    action = np.zeros(2, np.float32)
    for at in range(3):
        half = seen(contract, at, value=0.5)
        recorder.take(half, (0.0, 0.0, 0.0), action, action, "", "policy")
    recorder.close()
    assert recorder.lost == 3 and spool.waiting() == []
    assert sum("experience is lost" in r.message for r in caplog.records) == 1


def test_beyond_its_room_the_oldest_goes_and_that_is_said(contract, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(recording, "TRIM_S", 0.05)
    spool = Spool(tmp_path, max_bytes=2000)
    recorder = ExperienceRecorder(spool, contract)
    drive(recorder, contract, 301)
    until(lambda: recorder.dropped and sum(p.stat().st_size for p in spool.waiting()) <= 2000)
    recorder.close()
    assert "before a server had them" in caplog.text
    assert "chunks that no server had" in recorder.describe()["experience dropped"]
