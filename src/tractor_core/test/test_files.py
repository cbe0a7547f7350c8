"""Writing files whole on disks that lack links, modes or what else a Linux disk has."""

import errno
import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tractor_core import files, samples

# What vfat, exFAT, SMB, FUSE, 9p and VirtualBox answer.
REFUSALS = [
    errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EROFS, errno.EPROTO,
    errno.EACCES, errno.EINVAL, errno.EXDEV,
]  # fmt: skip


def refuse(monkeypatch, call, number):
    def refusing(*args, **_):
        raise OSError(number, os.strerror(number), str(args[0]))

    monkeypatch.setattr(os, call, refusing)


@pytest.fixture(params=REFUSALS, ids=errno.errorcode.get)
def no_links(request, monkeypatch):
    refuse(monkeypatch, "link", request.param)


@pytest.fixture
def frame(contract):
    bev = np.zeros(contract.bev_shape, np.float32)
    return samples.Sample(bev, np.array([2.0, 0, 0, 0, 0, 0], np.float32), 1)


def test_samples_are_written_whole_without_hard_links(tmp_path, no_links, frame, contract):
    written = [samples.write(tmp_path, frame, contract) for _ in range(5)]
    assert sorted(tmp_path.iterdir()) == sorted(written)
    for path in written:
        assert np.array_equal(samples.read(path, contract).bev, frame.bev)
        assert path.stat().st_mode & 0o777 == 0o644


def test_nothing_is_replaced_without_hard_links(tmp_path, no_links):
    (tmp_path / "a").write_text("another's")
    (tmp_path / "b").symlink_to("nowhere")
    assert files.add_file(tmp_path, iter("abc"), b"ours") == tmp_path / "c"
    assert (tmp_path / "a").read_text() == "another's" and (tmp_path / "b").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]


@pytest.mark.parametrize("links", [True, False])
def test_writers_at_the_same_time_never_take_the_same_name(tmp_path, monkeypatch, links):
    if not links:
        refuse(monkeypatch, "link", errno.EPERM)

    def add(number):
        names = map(str, itertools.count())
        return files.add_file(tmp_path, names, str(number).encode() * 1000)

    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(add, range(80)))
    assert len({*paths}) == 80 == len(os.listdir(tmp_path))
    for number, path in enumerate(paths):
        assert path.read_bytes() == str(number).encode() * 1000


@pytest.mark.parametrize("call", ["link", "fsync", "open"])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, monkeypatch, frame, contract, call):
    refuse(monkeypatch, call, errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        samples.write(tmp_path, frame, contract)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_modes_and_syncs_holds_files_all_the_same(tmp_path, monkeypatch):
    refuse(monkeypatch, "chmod", errno.EPERM)
    refuse(monkeypatch, "fsync", errno.EINVAL)
    files.replace_file(tmp_path / "a", "text")
    files.add_file(tmp_path, iter("b"), b"data")
    files.set_mode(tmp_path / "a", 0o444)
    files.sync(tmp_path)
    assert (tmp_path / "a").read_text() == "text" and (tmp_path / "b").read_bytes() == b"data"


def test_a_name_as_long_as_a_disk_takes_is_replaced(tmp_path):
    path = tmp_path / ("x" * 255)
    files.replace_file(path, "one")
    files.replace_file(path, "two")
    assert path.read_text() == "two"
    assert os.listdir(tmp_path) == [path.name]


def test_symbolic_links_are_missed_where_there_are_none(tmp_path, monkeypatch):
    assert files.has_symbolic_links(tmp_path)
    refuse(monkeypatch, "symlink", errno.EPERM)
    assert not files.has_symbolic_links(tmp_path)
    refuse(monkeypatch, "symlink", errno.ENOSPC)
    with pytest.raises(OSError):
        files.has_symbolic_links(tmp_path)
    assert os.listdir(tmp_path) == []


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    old = time.time() - 2 * files.UNFINISHED_S
    there = {
        ".calib_1.npz.tmp": old, ".calib_2.npz.tmp": time.time(), "calib_3.npz": old,
        ".other.tmp": old, ".calib_4.npz": old, ".calib_5.npz.tmp": time.time() + 999.0,
    }  # fmt: skip
    for name, at_s in there.items():
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (at_s, at_s))
    assert files.remove_unfinished(tmp_path, "calib_") == 2
    left = {path.name for path in tmp_path.iterdir()}
    assert left == there.keys() - {".calib_1.npz.tmp", ".calib_5.npz.tmp"}
