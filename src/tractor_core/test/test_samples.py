import io
import os
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_files import CONTRACT, frame, save, write_hostile_samples

from tractor_core import samples
from tractor_core.errors import SampleError


def test_round_trip_keeps_raw_values_stamp_and_contract(tmp_path):
    path = samples.write(tmp_path / "new" / "folder", frame(), CONTRACT)
    back = samples.read(path, CONTRACT)
    np.testing.assert_array_equal(back.bev, frame().bev)
    np.testing.assert_array_equal(back.proprio, frame().proprio)
    assert back.stamp_ns == 7
    assert path.name.startswith("calib_") and path.suffix == ".npz"
    with np.load(path) as data:
        assert str(data["contract"]) == CONTRACT.digest
        assert data["stamp"].dtype == np.int64
    assert os.listdir(path.parent) == [path.name]


def test_files_with_only_bev_and_proprio_are_read(tmp_path):
    assert samples.read(save(tmp_path), CONTRACT).stamp_ns is None


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"bev": np.full((2, 128, 128), np.nan, np.float32)}, "NaN or Inf"),
        ({"proprio": np.array([1, 0, 0, np.inf, 0, 0], np.float32)}, "1 NaN or Inf"),
        ({"bev": np.zeros((128, 128, 2), np.float32)}, r"expected shape \(2, 128, 128\)"),
        ({"bev": np.zeros((2, 128, 128))}, "expected float32, found float64"),
        ({"bev": np.full((2, 128, 128), 1.5, np.float32)}, "expected 0..1"),
        ({"proprio": np.array([9, 0, 0, 0, 0, 0], np.float32)}, "lidar_min: expected 0..4"),
        ({"proprio": np.array([1, 0, 0, 1e4, 0, 0], np.float32)}, "cur_lin"),
        ({"proprio": None}, "missing .*proprio"),
        ({"contract": np.array("f" * 64)}, "expected contract"),
        ({"bev": np.array([{"a": 1}], dtype=object)}, "pickle"),
        ({"stamp": np.float64("nan")}, "stamp: expected one integer in ns, found float64"),
        ({"stamp": np.array("noon")}, "stamp: expected one integer"),
        ({"stamp": np.complex64(1j)}, "stamp: expected an array of numbers"),
        ({"stamp": np.datetime64("2025-01-01")}, "stamp: expected an array of numbers"),
        ({"stamp": np.array([7])}, r"stamp: expected one integer in ns, found int64 .*\(1,\)"),
    ],
)
def test_unusable_samples_say_why(tmp_path, members, message):
    with pytest.raises(SampleError, match=message):
        samples.read(save(tmp_path, **members), CONTRACT)


def test_all_reasons_are_given_at_once(tmp_path):
    path = save(tmp_path, bev=np.zeros((1, 2)), proprio=np.array([9, 0, 0, 0, 0, 7], np.float32))
    with pytest.raises(SampleError) as caught:
        samples.read(path, CONTRACT)
    for text in ("bev", "lidar_min", "gap_heading", str(path)):
        assert text in str(caught.value)


def test_truncated_empty_and_missing_files_are_refused(tmp_path):
    path = samples.write(tmp_path, frame(), CONTRACT)
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(SampleError, match=path.name):
            samples.read(path, CONTRACT)
    with pytest.raises(SampleError, match="no such file"):
        samples.read(tmp_path / "none.npz", CONTRACT)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "calib_1.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (60_000, 60_000)}
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bev.npy", header.getvalue() + bytes(1000))
    with pytest.raises(SampleError, match="declares 14400000000 bytes"):
        samples.read(path, CONTRACT)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_unpacks_without_a_bound_is_refused(tmp_path, method):
    path = tmp_path / "calib_1.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("bev.npy", bytes(1_000_000))
    with pytest.raises(SampleError, match="expected stored or deflated data"):
        samples.read(path, CONTRACT)


def test_a_member_is_read_once(tmp_path):
    path = save(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("bev", archive.read("bev.npy"))
    with pytest.raises(SampleError, match="bev: expected one such member, found several"):
        samples.read(path, CONTRACT)


def test_links_are_not_followed(tmp_path):
    path = samples.write(tmp_path, frame(), CONTRACT)
    link = tmp_path / "calib_link.npz"
    link.symlink_to(path)
    with pytest.raises(SampleError, match="regular file"):
        samples.read(link, CONTRACT)


def test_hostile_samples_are_refused(tmp_path):
    hostile = write_hostile_samples(tmp_path)
    assert len(hostile) == 11
    for file in hostile:
        with pytest.raises(SampleError, match=file.name):
            samples.read(file, CONTRACT)


@pytest.mark.parametrize("stamp", [np.int64(-1), np.uint64(2**64 - 1)])
def test_a_stamp_that_is_no_time_is_refused(tmp_path, stamp):
    with pytest.raises(SampleError, match="stamp: expected one integer in ns"):
        samples.read(save(tmp_path, stamp=stamp), CONTRACT)


def test_other_layouts_of_the_same_numbers_are_read(tmp_path):
    bev = frame(3).bev
    for array in (np.asfortranarray(bev), bev.astype(">f4")):
        back = samples.read(save(tmp_path, bev=array), CONTRACT)
        np.testing.assert_array_equal(back.bev, bev)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_a_sample_error_only(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "calib_1.npz"
    path.write_bytes(content)
    with pytest.raises(SampleError):
        samples.read(path, CONTRACT)


def test_an_unusable_frame_is_not_written(tmp_path):
    broken = frame()
    broken.proprio[0] = np.nan
    with pytest.raises(SampleError):
        samples.write(tmp_path, broken, CONTRACT)
    assert not list(tmp_path.iterdir())
