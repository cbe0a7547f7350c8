"""What the system refuses names the place, what was expected and found, and what to do."""

import errno
import os

import pytest

from tractor_core.system_error import explain, is_about_writing

CAUSES = {
    errno.ENOSPC: "room on the disk", errno.EDQUOT: "quota", errno.EROFS: "read-only",
    errno.EACCES: "permission", errno.EPERM: "permission", errno.ENOENT: "check the name",
    errno.ENAMETOOLONG: "rename it", errno.EIO: "dmesg", errno.ENOTDIR: "a folder",
    errno.EISDIR: "a file", errno.EINVAL: "FAT", errno.ESTALE: "network", errno.EMFILE: "ulimit -n",
}  # fmt: skip


@pytest.mark.parametrize("number", CAUSES, ids=errno.errorcode.get)
def test_a_cause_is_explained_where_it_is(number):
    text = explain(OSError(number, os.strerror(number)), "/models")
    assert text.startswith("/models: expected ") and "found " in text
    assert CAUSES[number] in text and os.strerror(number) in text


def test_the_file_that_the_system_names_goes_first():
    error = OSError(errno.ENOSPC, "No space left on device", "/a/b.npz", None, "/c/d")
    assert explain(error, "/models").startswith("/a/b.npz -> /c/d: expected room")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_file_that_could_not_be_made_gives_way_to_its_folder(tmp_path, number):
    error = OSError(number, os.strerror(number), str(tmp_path / ".tmp8x2"))
    assert explain(error, "/models").startswith(f"{tmp_path}: expected ")
    (tmp_path / ".tmp8x2").touch()
    assert explain(error, "/models").startswith(f"{tmp_path / '.tmp8x2'}: expected ")


def test_a_name_within_an_open_folder_goes_with_the_folder():
    error = OSError(errno.EACCES, "Permission denied", "b.npz")
    assert explain(error, "/models").startswith("/models (b.npz): expected permission")
    error = OSError(errno.EACCES, "Permission denied", b"\xe9")
    assert "/models (\udce9)" in explain(error, "/models")


@pytest.mark.parametrize("number", [*errno.errorcode, 9999])
def test_every_error_of_the_system_is_a_sentence_with_the_place(number):
    text = explain(OSError(number, os.strerror(number)), "/models")
    assert text.startswith("/models: ") and os.strerror(number) in text


def test_words_of_our_own_are_kept():
    assert explain(OSError("/models/x: expected nothing"), "/models") == (
        "/models/x: expected nothing"
    )
    assert explain(OSError("too late"), "/models") == "/models: too late"


def test_a_disk_that_takes_no_more_is_about_writing():
    assert is_about_writing(OSError(errno.ENOSPC, ""))
    assert not is_about_writing(OSError(errno.ENOENT, ""))
    assert not is_about_writing(ValueError())
