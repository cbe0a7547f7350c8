import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from sample_files import CONTRACT, frame, write_hostile_samples

from tractor_core import parameters, samples
from tractor_core.errors import ParameterError, SampleError, TractorError
from tractor_core.samples import Sample
from tractor_inference.recording import sampler as sampler_module
from tractor_inference.recording.folders import recording_folder
from tractor_inference.recording.sampler import Sampler, SamplerParameters


def sampler(folder, **values):
    return Sampler(SamplerParameters(calibration_dir=str(folder), **values), CONTRACT)


def drawn_from(keeper, frames):
    """Offer frames one after the other, each when the one before is dealt with."""
    for one in frames:
        keeper.offer(one)
        keeper._writer.join()


def at(lidar_min):
    """A frame that differs from others by its distance only."""
    return Sample(np.zeros(CONTRACT.bev_shape, np.float32), np.array(
        [lidar_min, 0, 0, 0, 0, 0], np.float32), 7)  # fmt: skip


def distances(folder):
    return sorted(float(samples.read(f, CONTRACT).proprio[0]) for f in samples.list_files(folder))


def test_keeping_the_first_is_refused_with_what_to_use():
    with pytest.raises(ParameterError, match=r"one of \['coverage', 'reservoir'\], found 'first'"):
        parameters.from_values(SamplerParameters, {"sample_retention": "first"})


def test_coverage_keeps_what_is_most_diverse_however_late_it_comes(tmp_path):
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
        before = keeper._writer._queue.unfinished_tasks + keeper.dropped
        keeper.offer(sample)
        count += keeper._writer._queue.unfinished_tasks + keeper.dropped != before
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
    begun, release = threading.Event(), threading.Event()

    def write(*_):
        begun.set()
        return release.wait(10) and tmp_path

    monkeypatch.setattr(samples, "write", write)
    keeper = sampler(tmp_path, sample_probability=1.0)
    keeper.offer(frame())
    # Were it to take the first one only now, there would be room for another.
    assert begun.wait(10)
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
            keeper._writer.join()
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
    found = recording_folder(folder, namespace)
    assert found.is_absolute() and found == Path.cwd() / expected


def test_hostile_samples_are_left_alone_and_more_are_kept(tmp_path):
    hostile = write_hostile_samples(tmp_path)
    good = samples.write(tmp_path, frame(), CONTRACT)
    keeper = sampler(tmp_path, sample_probability=1.0)
    before = keeper.kept
    keeper.save(frame(1)).result(10)
    keeper.close()
    assert keeper.kept == before + 1 and good.exists()
    assert all(os.path.lexists(file) for file in hostile)
