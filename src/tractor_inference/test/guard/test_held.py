"""What holds the rover outlives the guard, and a file that cannot be read holds it too."""

import math
import os

import pytest

from tractor_inference.guard import held
from tractor_inference.guard.held import HeldNote, default_file


def settled(condition):
    """Wait for the thread that writes."""
    import time

    end = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_it_is_kept_until_it_is_let_go(tmp_path):
    file = tmp_path / "made" / "held.txt"
    note = HeldNote(file)
    assert note.read() == "" and not file.exists()
    note.keep("stopped by a call of ~/stop")
    settled(file.exists)
    assert HeldNote(file).read() == "stopped by a call of ~/stop"
    note.keep("")
    settled(lambda: not file.exists())
    note.keep("the operator had the rover")
    settled(file.exists)
    note.forget()
    assert not file.exists() and HeldNote(file).read() == ""


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * 5000, b""])
def test_a_note_that_says_nothing_readable_holds_the_rover(tmp_path, content):
    file = tmp_path / "held.txt"
    file.write_bytes(content)
    assert HeldNote(file).read().startswith("unknown")


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path, caplog):
    (tmp_path / "taken").write_text("a file")
    note = HeldNote(tmp_path / "taken" / "held.txt")
    note.keep("a stop")
    settled(lambda: caplog.records)
    note.keep("another")
    note.forget()
    assert len(caplog.records) == 1 and "forgets what holds the rover" in caplog.text


def test_what_could_not_be_written_is_written_once_it_can_be(tmp_path, monkeypatch):
    monkeypatch.setattr(held, "RETRY_S", 0.01)
    (tmp_path / "taken").write_text("a file")
    note = HeldNote(tmp_path / "taken" / "held.txt")
    note.keep("a stop")
    settled(lambda: note._failed_s > -math.inf)
    (tmp_path / "taken").unlink()

    def kept():
        note.keep("a stop")
        return (tmp_path / "taken" / "held.txt").exists()

    settled(kept)


def test_each_guard_of_a_machine_has_a_file_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("ROS_HOME", str(tmp_path))
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    assert default_file("/rover1/cmd_guard") == tmp_path / "rover1.cmd_guard_held_7.txt"
    monkeypatch.delenv("ROS_HOME")
    monkeypatch.delenv("ROS_DOMAIN_ID")
    home = os.path.expanduser("~")
    assert str(default_file("/cmd_guard")) == f"{home}/.ros/cmd_guard_held_0.txt"
