"""What a trainer has acknowledged is there again, whole and in order, whatever ended it."""

import errno
import os
import subprocess
import sys

import pytest

from tractor_training.chunk_log import ChunkLog


def chunks(first, count, size=100):
    return [number.to_bytes(4, "little") * (size // 4) for number in range(first, first + count)]


def test_chunks_come_back_in_their_order(tmp_path):
    log = ChunkLog(tmp_path / "log", 10**9)
    assert list(log) == [] and log.bytes == 0
    log.append(chunks(0, 3))
    log.append([])
    log.append(chunks(3, 2))
    assert list(ChunkLog(tmp_path / "log", 10**9)) == chunks(0, 5)


@pytest.mark.parametrize("left", [1, 3, 4, 50, 103])
def test_what_was_cut_off_is_removed_and_the_rest_stays(tmp_path, left):
    log = ChunkLog(tmp_path, 10**9)
    log.append(chunks(0, 3))
    (segment,) = tmp_path.glob("*.chunks")
    os.truncate(segment, 2 * 104 + left)
    again = ChunkLog(tmp_path, 10**9)
    assert list(again) == chunks(0, 2)
    (aside,) = tmp_path.glob("*.cut_off")
    assert aside.stat().st_size == left
    again.append(chunks(7, 1))
    assert list(ChunkLog(tmp_path, 10**9)) == chunks(0, 2) + chunks(7, 1)


def test_beyond_its_room_the_oldest_go(tmp_path):
    log = ChunkLog(tmp_path, 5000, segment_bytes=1000)
    for first in range(0, 100, 5):
        log.append(chunks(first, 5))
    kept = list(log)
    assert log.bytes <= 5000 + 1000
    assert kept == chunks(100 - len(kept), len(kept)) and len(kept) >= 35


def test_what_the_disk_does_not_take_leaves_no_half(tmp_path, monkeypatch):
    log = ChunkLog(tmp_path, 10**9)
    log.append(chunks(0, 2))

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="space"):
            log.append(chunks(2, 2))
    log.append(chunks(4, 1))
    assert list(log) == chunks(0, 2) + chunks(4, 1)


FULL = """
import resource, signal, sys
from pathlib import Path
from tractor_training.chunk_log import ChunkLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = ChunkLog(Path(sys.argv[1]), 10**9)
log.append([b"a" * 3000])
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
try:
    log.append([b"b" * 3000])
except OSError:
    pass
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
log.append([b"c" * 3000])
"""


def test_what_a_full_disk_took_in_part_is_not_before_what_comes_later(tmp_path):
    subprocess.run([sys.executable, "-c", FULL, tmp_path], check=True)
    assert list(ChunkLog(tmp_path, 10**9)) == [b"a" * 3000, b"c" * 3000]
    assert not list(tmp_path.glob("*.cut_off"))
