"""The format of experience: what comes out is what went in, and nothing else is taken."""

import dataclasses
import json
import struct
import zlib

import numpy as np
import pytest
from experience_file import make
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor_core import experience
from tractor_core.errors import ExperienceError


def same(one, other):
    ours, theirs = (dataclasses.asdict(chunk) for chunk in (one, other))
    return all(np.array_equal(ours[name], theirs[name]) for name in ours)


@settings(max_examples=50, deadline=None)
@given(
    count=st.integers(1, experience.MAX_STEPS),
    seed=st.integers(0, 2**32 - 1),
    end=st.sampled_from(experience.ENDS),
)
def test_what_is_read_is_what_was_written(contract, count, seed, end):
    chunk = make(contract, count, seed, end=end)
    again = experience.parse(experience.encode(chunk), contract)
    assert same(chunk, again)
    assert len(again) == count and again.id == "20261130T154012Z-0badcafe_000000060"
    assert again.terminated == (end in ("contact", "stuck"))


def test_what_was_executed_is_in_the_next_observation(contract):
    chunk = make(contract)
    assert chunk.executed.shape == (30, 2)
    assert (chunk.executed == chunk.rows["proprio"][1:, 1:3]).all()


def test_grids_come_back_as_they_were(contract):
    bev = (np.random.default_rng(0).random(contract.bev_shape) < 0.3).astype(np.float32)
    packed = experience.pack_grid(bev)
    assert (experience.unpack_grids(packed[None], contract)[0] == bev).all()
    bev[0, 5, 5] = 0.5
    with pytest.raises(ExperienceError, match="cells of 0 and 1"):
        experience.pack_grid(bev)


def test_a_file_is_read_and_one_that_cannot_be_is_named(contract, tmp_path):
    path = tmp_path / f"x{experience.SUFFIX}"
    with pytest.raises(ExperienceError, match=r"x\.rvxp: no such file"):
        experience.read(path, contract)
    chunk = make(contract)
    path.write_bytes(experience.encode(chunk))
    assert same(experience.read(path, contract), chunk)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ExperienceError, match=r"x\.rvxp: damaged or cut off"):
        experience.read(path, contract)
    (tmp_path / "link.rvxp").symlink_to(path)
    with pytest.raises(ExperienceError, match="regular file"):
        experience.read(tmp_path / "link.rvxp", contract)


def row(name, value, at=1):
    def change(rows):
        rows[name][at] = value

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (row("proprio", np.nan), "proprio: expected finite values"),
        (row("pose", np.inf, at=-1), "pose: expected finite values"),
        (row("answer", -np.inf), "answer: expected finite values"),
        (row("requested", 1.5), "requested: expected -1..1, found 1.5"),
        (row("proprio", (9.0, 0, 0, 0, 0, 0)), "lidar_min: expected 0..4, found 9"),
        (row("stamp_ns", 0, at=0), "expected steps of at most 1 s"),
        (row("stamp_ns", 1_795_000_000_000_000_000), "expected steps of at most 1 s, found 0.000"),
        (row("driver", 4), "driver: expected 0..3"),
    ],
)
def test_what_no_rover_did_is_refused(contract, change, sentence):
    chunk = make(contract)
    change(chunk.rows)
    with pytest.raises(ExperienceError, match=sentence):
        experience.parse(experience.encode(chunk), contract)


def test_what_was_seen_by_another_contract_is_refused_with_both_digests(contract):
    other = dataclasses.replace(contract, grid_extent_m=6.0)
    with pytest.raises(ExperienceError) as caught:
        experience.parse(experience.encode(make(other)), contract)
    assert contract.digest in str(caught.value) and other.digest in str(caught.value)


def signed(header, packed, version=experience.VERSION, magic=experience.MAGIC, length=None):
    """Return the bytes of a file with a right CRC-32 and whatever else."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    data = struct.pack("<4sHI", magic, version, size) + text + packed
    return data + struct.pack("<I", zlib.crc32(data))


def pieces(contract):
    data = experience.encode(make(contract))
    length = struct.unpack_from("<4sHI", data)[2]
    return json.loads(data[10 : 10 + length]), data[10 + length : -4]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"session": "../../x"}, "session: not a value"),
        ({"first": -1}, "first: not a value"),
        ({"first": True}, "first: not a value"),
        ({"episode": 1.5}, "episode: not a value"),
        ({"steps": 0}, "steps: not a value"),
        ({"steps": 301}, "steps: not a value"),
        ({"steps": 29}, "expected 30 observations"),
        ({"steps": 31}, "expected 32 observations"),
        ({"model": "x"}, "model: not a value"),
        ({"end": "bored"}, "end: not a value"),
        ({"reward": 1.0}, "expected a header with session"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(contract, fields, sentence):
    header, packed = pieces(contract)
    with pytest.raises(ExperienceError, match=sentence):
        experience.parse(signed(header | fields, packed), contract)


def test_what_is_no_chunk_is_said(contract):
    header, packed = pieces(contract)
    for data, sentence in (
        (b"", "found 0 bytes"),
        (signed(header, packed, magic=b"PK34"), "begins with b'PK34'"),
        (signed(header, packed, version=2), "expected version 1 of the format, found 2"),
        (signed(header, packed, length=10**6), "header of at most 4096 bytes"),
        (signed(b"{" * 2000, packed), "Expecting|nests"),
        (signed(header, b""), "expected 31 observations"),
        (signed(header, packed[:-20]), "expected 31 observations"),
        (signed(header, packed + packed), "expected 31 observations|more than"),
        (signed(header, zlib.compress(packed)), "."),
        (bytes(5_000_000), "at most 4194304 bytes"),
    ):
        with pytest.raises(ExperienceError, match=sentence):
            experience.parse(data, contract)


def test_a_bomb_takes_no_more_memory_than_the_header_says(contract):
    from backports import zstd

    header, _ = pieces(contract)
    with pytest.raises(ExperienceError, match="unpacks to more"):
        experience.parse(signed(header, zstd.compress(bytes(10**8))), contract)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_is_changed_it_is_read_or_refused(contract, data):
    header, packed = pieces(contract)
    damaged = bytearray(packed)
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        chunk = experience.parse(signed(header, bytes(damaged)), contract)
    except ExperienceError:
        return
    assert len(chunk) == 30 and np.isfinite(chunk.rows["proprio"]).all()
