"""A folder of samples is read once and kept packed."""

import dataclasses
import tracemalloc

import numpy as np
import pytest

from tractor_calibration.samples.packed import PackedSamples
from tractor_calibration.samples.reading import read_folder
from tractor_core import samples


def test_good_samples_are_listed_in_time_and_bad_ones_by_name(calibration_dir, contract):
    good = samples.list_files(calibration_dir)
    (calibration_dir / "calib_0.npz").write_bytes(good[0].read_bytes()[:500])
    (calibration_dir / "calib_1.npz").write_text("text")
    content = {path.name: path.read_bytes() for path in calibration_dir.iterdir()}
    checked = read_folder(calibration_dir, contract)
    assert checked.names == tuple(file.name for file in good)
    assert list(checked.stamps_ns) == [400_000_000 * (i + 1) for i in range(24)]
    assert [name in reason for name, reason in zip(["calib_0", "calib_1"], checked.rejected)] == [
        True,
        True,
    ]
    assert content == {path.name: path.read_bytes() for path in calibration_dir.iterdir()}


@pytest.mark.parametrize("kind", ["empty", "walls", "shades", "negative zero"])
def test_a_packed_sample_comes_back_bit_for_bit(contract, frame_maker, kind):
    sample = dataclasses.replace(frame_maker(np.random.default_rng(0), 7), sha256="f" * 64)
    if kind == "empty":
        sample.bev[:] = 0.0
    if kind == "shades":
        sample.bev[0, 5] = np.linspace(0.0, 1.0, 128)
    if kind == "negative zero":
        sample.bev[1, 5] = -0.0
    first, again = frame_maker(np.random.default_rng(1)), PackedSamples([sample])[0]
    assert again.bev.tobytes() == sample.bev.tobytes()
    assert (again.bev.dtype, again.bev.shape) == (np.float32, contract.bev_shape)
    assert again.proprio.tobytes() == sample.proprio.tobytes()
    assert (again.stamp_ns, again.sha256) == (7, sample.sha256)
    both = PackedSamples([first, sample])
    assert both.pick([1, 0]).sha256 == (sample.sha256, "")
    assert [len(both), len(both[:1]), len(both[1:5])] == [2, 1, 1]
    np.testing.assert_array_equal(both[:1][-1].bev, first.bev)


def test_a_thousand_samples_take_a_few_megabytes(frame_maker):
    rng = np.random.default_rng(0)
    tracemalloc.start()
    packed = PackedSamples(frame_maker(rng) for _ in range(1000))
    taken, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(packed) == 1000
    # A bit a cell is 4.1 MB; as float32 they are 131 MB.
    assert taken < peak < 8e6
