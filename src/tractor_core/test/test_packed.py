"""Samples kept packed come back bit for bit."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from sample_files import CONTRACT, frame

from tractor_core.packed import PackedSamples


@pytest.mark.parametrize("kind", ["empty", "walls", "shades", "negative zero"])
def test_a_packed_sample_comes_back_bit_for_bit(kind):
    sample = dataclasses.replace(frame(0, 7), sha256="f" * 64)
    if kind == "empty":
        sample.bev[:] = 0.0
    if kind == "shades":
        sample.bev[0, 5] = np.linspace(0.0, 1.0, 128)
    if kind == "negative zero":
        sample.bev[1, 5] = -0.0
    first, again = frame(1), PackedSamples([sample])[0]
    assert again.bev.tobytes() == sample.bev.tobytes()
    assert (again.bev.dtype, again.bev.shape) == (np.float32, CONTRACT.bev_shape)
    assert again.proprio.tobytes() == sample.proprio.tobytes()
    assert (again.stamp_ns, again.sha256) == (7, sample.sha256)
    both = PackedSamples([first, sample])
    assert both.pick([1, 0]).sha256 == (sample.sha256, "")
    assert [len(both), len(both[:1]), len(both[1:5])] == [2, 1, 1]
    np.testing.assert_array_equal(both[:1][-1].bev, first.bev)


def test_a_thousand_samples_take_a_few_megabytes():
    tracemalloc.start()
    packed = PackedSamples(frame(i) for i in range(1000))
    taken, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(packed) == 1000
    # A bit a cell is 4.1 MB; as float32 they are 131 MB.
    assert taken < peak < 8e6


def test_joined_samples_keep_their_order():
    parts = [PackedSamples([frame(0), frame(1)]), PackedSamples(), PackedSamples([frame(2)])]
    joined = PackedSamples.join(parts)
    assert [one.bev.tobytes() for one in joined] == [frame(i).bev.tobytes() for i in range(3)]
