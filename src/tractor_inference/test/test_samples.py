import errno
import io
import os
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor_core import contract as contract_module
from tractor_core import parameters, samples
from tractor_core.errors import ParameterError, SampleError, TractorError
from tractor_core.paths import default_params_file
from tractor_core.samples import Sample
from tractor_inference import sampler as sampler_module
from tractor_inference.sampler import Sampler, SamplerParameters, sample_folder

CONTRACT = contract_module.load(default_params_file())


def frame(seed=0, stamp_ns=7):
    rng = np.random.default_rng(seed)
    bev = (rng.random(CONTRACT.bev_shape) < 0.05).astype(np.float32)
    proprio = np.array([1.0, 0.5, -0.5, 0.1, 0.2, 0.3], np.float32)
    return Sample(bev, proprio, stamp_ns)


def save(folder, **members):
    good = frame()
    content = {"bev": good.bev, "proprio": good.proprio} | members
    path = folder / "calib_1.npz"
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    return path


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


def write_hostile_samples(folder):
    """Write a file of each kind that an attacker, or a bad disk, may leave; return them."""
    bev, proprio = frame().bev, frame().proprio
    headers = {
        "no_character": b"{'descr':'<U1','fortran_order':False,'shape':()}",
        "deep": b"{'descr':'<U1','fortran_order':False,'shape':" + b"(" * 400 + b")" * 400 + b"}",
        "signs": b"{'descr':'<U1','fortran_order':False,'shape':" + b"-" * 900 + b"1}",
        "negative": b"{'descr':'<U1','fortran_order':False,'shape':(-1,)}",
        "huge": b"{'descr':'<U999999999','fortran_order':False,'shape':()}",
        "several": b"{'descr':'<U1','fortran_order':False,'shape':(1,)}",
        "fields": b"{'descr':[('a','<f4')],'fortran_order':False,'shape':()}",
    }
    for name, header in headers.items():
        with zipfile.ZipFile(folder / f"calib_0_{name}.npz", "w") as archive:
            for member, array in (("bev", bev), ("proprio", proprio)):
                data = io.BytesIO()
                np.lib.format.write_array(data, array)
                archive.writestr(f"{member}.npy", data.getvalue())
            start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
            archive.writestr("contract.npy", start + header + b"\xff\xff\xff\xff")
    with zipfile.ZipFile(folder / "calib_0_many.npz", "w") as archive:
        for number in range(500):
            archive.writestr(str(number), b"")
    whole = save(folder).read_bytes()
    (folder / "calib_1.npz").rename(folder / "calib_0_encrypted.npz")
    # The bit that says so, in both headers: https://pkware.cachefly.net/webdocs/APPNOTE.TXT, 4.4.4
    data = bytearray(whole)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(signature, at + 1)
    (folder / "calib_0_encrypted.npz").write_bytes(data)
    os.mkfifo(folder / "calib_0_pipe.npz")
    (folder / "calib_0_folder.npz").mkdir()
    return samples.list_files(folder)


def test_hostile_samples_are_refused_and_the_others_are_read(tmp_path):
    hostile = write_hostile_samples(tmp_path)
    assert len(hostile) == 11
    for file in hostile:
        with pytest.raises(SampleError, match=file.name):
            samples.read(file, CONTRACT)
    good = samples.write(tmp_path, frame(), CONTRACT)
    keeper = sampler(tmp_path, sample_probability=1.0)
    before = keeper.kept
    keeper.save(frame(1)).result(10)
    keeper.close()
    assert keeper.kept == before + 1 and good.exists()
    assert all(os.path.lexists(file) for file in hostile)


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


def sampler(folder, **values):
    return Sampler(SamplerParameters(calibration_dir=str(folder), **values), CONTRACT)


def drawn_from(keeper, frames):
    """Offer frames one after the other, each when the one before is dealt with."""
    for one in frames:
        keeper.offer(one)
        keeper._queue.join()


def at(lidar_min):
    """A frame that differs from others by its distance only."""
    return Sample(np.zeros(CONTRACT.bev_shape, np.float32), np.array(
        [lidar_min, 0, 0, 0, 0, 0], np.float32), 7)  # fmt: skip


def distances(folder):
    return sorted(float(samples.read(f, CONTRACT).proprio[0]) for f in samples.list_files(folder))


def test_keeping_the_first_is_refused_with_what_to_use():
    with pytest.raises(ParameterError, match=r"one of \['coverage', 'reservoir'\], found 'first'"):
        parameters.from_values(SamplerParameters, {"sample_retention": "first"})


def test_coverage_keeps_what_is_least_alike_however_late_it_comes(tmp_path):
    keeper = sampler(tmp_path, sample_probability=1.0, sample_keep=3)
    drawn_from(keeper, [at(2.0 + 0.001 * i) for i in range(20)])
    drawn_from(keeper, [at(0.0), at(4.0)])
    drawn_from(keeper, [at(2.0 + 0.001 * i) for i in range(20)])
    keeper.close()
    kept = distances(tmp_path)
    assert len(kept) == 3 and keeper.kept == 3
    assert kept[0] == 0.0 and kept[2] == 4.0


def test_reservoir_keeps_a_uniform_choice(tmp_path):
    late = 0
    for seed in range(12):
        folder = tmp_path / str(seed)
        keeper = sampler(
            folder, sample_probability=1.0, sample_keep=4, seed=seed, sample_retention="reservoir"
        )
        drawn_from(keeper, [at(0.1 * i) for i in range(24)])
        keeper.close()
        assert len(distances(folder)) == 4
        late += sum(d > 1.15 for d in distances(folder))
    # Half of 48 are expected in the later half; 10 is four standard deviations below.
    assert 10 < late < 38


@pytest.mark.parametrize("retention", sampler_module.RETENTIONS)
def test_what_was_there_before_and_snapshots_are_never_removed(tmp_path, retention):
    settings = dict(sample_probability=1.0, sample_keep=2, sample_retention=retention)
    before = sampler(tmp_path, **settings)
    drawn_from(before, [at(1.0), at(1.1)])
    before.close()
    old = {*samples.list_files(tmp_path)}
    assert len(old) == 2
    keeper = sampler(tmp_path, **settings)
    snapshot = keeper.save(at(1.05)).result(10)
    drawn_from(keeper, [at(0.2 * i) for i in range(20)])
    keeper.close()
    left = {*samples.list_files(tmp_path)}
    assert old | {snapshot} <= left
    assert len(left) <= 2 + 1 + 2
    sessions = {samples.read(f, CONTRACT).session for f in old}
    assert sessions == {before.session} and before.session
    assert samples.read(snapshot, CONTRACT).origin == "snapshot"
    for new in left - old - {snapshot}:
        sample = samples.read(new, CONTRACT)
        assert (sample.session, sample.origin) == (keeper.session, "drawn")


def test_a_new_session_adds_only_what_the_folder_does_not_have(tmp_path):
    first = sampler(tmp_path, sample_probability=1.0, sample_keep=8)
    drawn_from(first, [at(0.5 * i) for i in range(8)])
    first.close()
    second = sampler(tmp_path, sample_probability=1.0, sample_keep=8)
    drawn_from(second, [at(0.5 * i + 0.05) for i in range(8)])
    assert len(samples.list_files(tmp_path)) == 8
    crowded = Sample(np.ones(CONTRACT.bev_shape, np.float32), at(1.0).proprio, 7)
    drawn_from(second, [crowded])
    second.close()
    assert len(samples.list_files(tmp_path)) == 9


def test_the_operator_hears_what_is_missing(tmp_path):
    keeper = sampler(tmp_path, sample_probability=1.0, sample_keep=10)
    drawn_from(keeper, [at(0.3), at(0.31)])
    assert "near obstacles: 2" in keeper.lacking
    assert "turning left, at speed: 0" in keeper.lacking
    drawn_from(keeper, [at(0.32)])
    keeper.close()
    assert "near obstacles" not in keeper.lacking


def test_sampling_probability_is_that_of_the_parameter(tmp_path):
    keeper = sampler(tmp_path, sample_probability=0.1, sample_keep=0)
    keeper.close()  # nobody empties the queue
    sample, count = frame(), 0
    for _ in range(10_000):
        before = keeper._queue.unfinished_tasks + keeper.dropped
        keeper.offer(sample)
        count += keeper._queue.unfinished_tasks + keeper.dropped != before
    assert 850 < count < 1150


def test_snapshot_is_saved_whatever_the_limit(tmp_path):
    keeper = sampler(tmp_path, sample_keep=0)
    path = keeper.save(frame()).result(10)
    keeper.close()
    assert samples.read(path, CONTRACT).stamp_ns == 7


def test_unwritable_folder_stops_sampling_and_says_so(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    keeper = sampler(blocker / "folder", sample_probability=1.0)
    with pytest.raises(OSError):
        keeper.save(frame()).result(10)
    assert keeper.error is not None and "sampling stopped" in keeper.error
    keeper.close()


def test_a_folder_that_cannot_be_listed_stops_sampling_until_it_can(tmp_path, monkeypatch):
    monkeypatch.setattr(sampler_module, "RECOUNT_S", 0.05)

    def refuse(_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(samples.os, "listdir", refuse)
        keeper = sampler(tmp_path, sample_probability=1.0)
        assert "sampling stopped" in keeper.error and "expected permission" in keeper.error
        with pytest.raises(SampleError, match=r"No calibration samples found: .* permission"):
            samples.require_folder(tmp_path)
    for _ in range(200):
        if keeper.error is None:
            break
        threading.Event().wait(0.05)
    assert keeper.save(frame()).result(10).exists() and keeper.error is None
    keeper.close()


def test_a_full_queue_drops_and_counts_without_blocking(tmp_path, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(samples, "write", lambda *_: release.wait(10) and tmp_path)
    keeper = sampler(tmp_path, sample_probability=1.0)
    for _ in range(20):
        keeper.offer(frame())
    assert keeper.dropped > 0
    with pytest.raises(TractorError, match="busy"):
        keeper.save(frame())
    release.set()
    keeper.close()


def test_whatever_goes_wrong_while_writing_the_sampler_lives_on(tmp_path, monkeypatch):
    keeper = sampler(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(samples, "write", lambda *_: (_ for _ in ()).throw(MemoryError("full")))
        with pytest.raises(MemoryError):
            keeper.save(frame()).result(10)
    assert "full" in keeper.error
    assert keeper.save(frame()).result(10).exists() and keeper.error is None
    keeper.close()


def test_files_that_are_moved_away_make_room(tmp_path, monkeypatch):
    monkeypatch.setattr(sampler_module, "RECOUNT_S", 0.05)
    samples.write(tmp_path / "full", frame(), CONTRACT)
    keeper = sampler(tmp_path / "full", sample_probability=1.0, sample_keep=1)
    keeper.offer(frame())
    assert keeper.kept == 1
    (tmp_path / "full").rename(tmp_path / "old")
    for _ in range(200):
        if keeper.kept == 0:
            break
        threading.Event().wait(0.05)
    keeper.offer(frame())
    keeper.close()
    assert len(samples.list_files(tmp_path / "full")) == 1


@pytest.mark.parametrize("retention", ["coverage", "reservoir"])
def test_how_much_is_kept_can_be_changed_and_nothing_is_removed_for_it(tmp_path, retention):
    keeper = sampler(tmp_path, sample_probability=1.0, sample_keep=4, sample_retention=retention)
    frames = [at(distance) for distance in np.linspace(0.1, 3.9, 40)]

    def change(**values):
        keeper.adjust(SamplerParameters(**values))

    drawn_from(keeper, frames[::2])
    assert keeper.kept == 4
    change(sample_probability=1.0, sample_keep=12)
    drawn_from(keeper, frames[1::2])
    assert keeper.kept == 12
    before = {file.name for file in samples.list_files(tmp_path)}
    for changed in ({"sample_keep": 2}, {"sample_probability": 0.0}):
        change(**({"sample_probability": 1.0, "sample_keep": 12} | changed))
        drawn_from(keeper, frames)
        assert {file.name for file in samples.list_files(tmp_path)} == before
    keeper.close()


def test_two_samplers_of_one_folder_keep_their_own_and_lose_nothing(tmp_path):
    keepers = [sampler(tmp_path, sample_probability=1.0, sample_keep=6, seed=n) for n in (1, 2)]
    snapshots = []
    for distance in np.linspace(0.1, 3.9, 60):
        for keeper in keepers:
            keeper.offer(at(distance))
        snapshots += [keeper.save(at(distance)) for keeper in keepers if distance > 3.0]
        for keeper in keepers:
            keeper._queue.join()
    for keeper in keepers:
        keeper.close()
    files = samples.list_files(tmp_path)
    origins = [samples.read(file, CONTRACT).origin for file in files]
    assert origins.count("drawn") == 12
    assert {future.result() for future in snapshots} <= {*files}


@pytest.mark.parametrize(
    ("folder", "namespace", "expected"),
    [
        ("calibration_data", "/", "calibration_data"),
        ("./calibration_data/", "/rover1", "calibration_data/rover1"),
        ("calibration_data", "/fleet/rover1", "calibration_data/fleet/rover1"),
        ("elsewhere", "/rover1", "elsewhere"),
        ("/data/samples", "/rover1", "/data/samples"),
    ],
)
def test_the_default_folder_has_one_of_each_namespace(folder, namespace, expected):
    found = sample_folder(folder, namespace)
    assert found.is_absolute() and found == Path.cwd() / expected
