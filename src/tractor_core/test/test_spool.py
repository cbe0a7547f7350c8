"""Experience waits until a server has it, is kept while there is room, and never mixed up."""

import os

import pytest

from tractor_core.spool import Dropped, Spool


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "experience", max_bytes=1000)


def names(paths):
    return [path.stem for path in paths]


def test_chunks_wait_in_order_until_they_are_sent(spool):
    assert spool.waiting() == spool.sent() == []
    for name in ("b", "a", "c"):
        spool.add(name, b"x")
    assert names(spool.waiting()) == ["a", "b", "c"]
    spool.mark_sent(spool.waiting()[0])
    assert names(spool.waiting()) == ["b", "c"] and names(spool.sent()) == ["a"]
    assert spool.send_again() == 1 and names(spool.waiting()) == ["a", "b", "c"]


def test_none_replaces_another(spool):
    spool.add("a", b"first")
    with pytest.raises(FileExistsError):
        spool.add("a", b"second")
    assert spool.waiting()[0].read_bytes() == b"first"


def test_the_oldest_goes_first_and_of_that_what_a_server_has(spool):
    for name in "abcdef":
        spool.add(name, bytes(200))
    for path in spool.waiting()[2:4]:
        spool.mark_sent(path)
    # A tenth more than what is too much.
    assert spool.trim() == Dropped(sent=2) and names(spool.waiting()) == ["a", "b", "e", "f"]
    spool.max_bytes = 500
    assert spool.trim() == Dropped(waiting=2)
    assert names(spool.waiting()) == ["e", "f"]
    assert spool.trim() == Dropped()
    spool.add("g", bytes(200))
    assert spool.trim() == Dropped(waiting=1) and names(spool.waiting()) == ["f", "g"]


def test_what_a_killed_writer_left_is_removed_and_never_sent(spool):
    spool.add("a", b"x")
    left = spool.folder / ".b.rvxp.tmp"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    assert names(spool.waiting()) == ["a"]
    spool.remove_unfinished()
    assert not left.exists() and names(spool.waiting()) == ["a"]


def test_what_was_removed_meanwhile_is_no_error(spool):
    spool.add("a", b"x")
    (path,) = spool.waiting()
    path.unlink()
    spool.mark_sent(path)
    assert spool.sent() == []
