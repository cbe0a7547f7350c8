"""What others wrote is read within bounds, or refused with a reason."""

import json
import os

import pytest

from tractor_core import outside


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nests deeper than 32"),
        ('{"a":' * 40 + "1" + "}" * 40, "nests deeper than 32"),
        ("[" + "1," * 300_000 + "1]", "at most 200000 values"),
        ("1" * 400, "number of 64 bits, found one of 400 digits"),
        (str(2**64), "number of 64 bits"),
        ("1e999", "finite number, found 1e999"),
        ("1." + "0" * 500, "finite number"),
        ("[NaN]", "finite number, found NaN"),
        ('{"a": 1, "a": 2}', "each key once, found 'a'"),
        ("[1" + " " * outside.MAX_TEXT_BYTES + "]", "at most 4194304 characters"),
        ("{", "Expecting property name"),
        (b"\xff", "codec can't decode"),
    ],
)
def test_json_beyond_the_bounds_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        outside.json_value(text)


def test_json_within_the_bounds_is_as_it_was():
    value = {"a": [1, -2.5, None, True, {"b": "\udcff é"}], "c": 2**63}
    assert outside.json_value(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nests deeper than 32"),
        ("- " * 100_000, "nests deeper than 32"),
        ("a: &x [*x]", r"the alias \*x; write the value itself"),
        ("a: &a [1, 1]\nb: [*a, *a]", r"the alias \*a"),
        ("a: 1\nb: 2\na: 3", "each key once, found 'a'"),
        ("- 1\n" * 300_000, "at most 60000 values"),
        ("a: " + "1" * 400, "number of 64 bits"),
        ("a: 0x" + "f" * 60, "number of 64 bits"),
        ("a: 1" + ":01" * 60, "number of 64 bits"),
        ("a: 2020-99-99", "month must be in"),
        ("!!int x", "invalid literal"),
        ("!!timestamp x", "does not fit its tag"),
        ("!!python/object:os.system x", "could not determine a constructor"),
        ("\0", "control characters"),
        ("{", "expected the node content|did not find expected node"),
    ],
)
def test_yaml_beyond_the_bounds_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        outside.yaml_value(text)


@pytest.mark.parametrize(
    ("name", "follow", "reason"),
    [
        ("pipe", True, "regular file, found a pipe"),
        ("folder", True, "regular file, found a folder"),
        ("/dev/zero", True, "regular file, found a special file"),
        ("link", False, "regular file, found a link"),
        ("large", True, "at most 10 bytes, found 11"),
    ],
)
def test_only_regular_files_of_a_size_are_read(tmp_path, name, follow, reason):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(bytes(11))
    (tmp_path / "small").write_bytes(b"small")
    (tmp_path / "link").symlink_to("small")
    with pytest.raises(ValueError, match=reason):
        outside.read_bytes(tmp_path / name, 10, follow=follow)
    assert outside.read_bytes(tmp_path / "link", 10) == b"small"


@pytest.mark.parametrize("kind", ["zstd", "lz4"])
def test_no_more_is_unpacked_than_was_asked_for(kind):
    if kind == "zstd":
        zstd = pytest.importorskip("backports.zstd", reason="backports.zstd is not installed")
        packed = zstd.compress(bytes(10_000_000))
    else:
        frame = pytest.importorskip("lz4.frame", reason="lz4 is not installed")
        packed = frame.compress(bytes(10_000_000))
    whole = outside.Unpacker(kind, 10_000_000)
    assert sum(map(len, whole.add(packed))) == 10_000_000 and whole.ended
    got = []
    with pytest.raises(ValueError, match="unpacks to more than it says"):
        got.extend(map(len, outside.Unpacker(kind, 1_000_000).add(packed)))
    assert sum(got) <= 1_000_000
    with pytest.raises(ValueError, match="unknown compression"):
        outside.Unpacker("xz", 1)


def test_a_fault_in_yaml_is_placed_without_a_name_that_is_none():
    with pytest.raises(ValueError, match=r"in line 2, column 2") as caught:
        outside.yaml_value("a: [1,\n]]")
    assert "unicode string" not in str(caught.value)
