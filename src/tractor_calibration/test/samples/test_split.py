"""Which frames validate: apart in time from those that calibrate."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tractor_calibration.samples import split


@given(
    gaps=st.lists(st.floats(0.01, 5.0), min_size=1, max_size=120),
    share=st.floats(0.0, 0.9),
    separation_s=st.floats(0.0, 3.0),
)
def test_held_out_frames_are_apart_from_the_pool_in_time(gaps, share, separation_s):
    stamps = (np.cumsum(gaps) * 1e9).astype(np.int64).tolist()
    count = int(len(stamps) * share)
    pool, held_out = split.hold_out(stamps, count, separation_s)
    assert len(held_out) == count
    assert held_out == sorted(set(held_out))
    assert not set(pool) & set(held_out)
    for i in pool:
        for j in held_out:
            assert abs(stamps[i] - stamps[j]) >= separation_s * 1e9


def test_held_out_frames_are_runs_spread_over_the_recording():
    pool, held_out = split.hold_out([None] * 100, 40, 1.0)
    ends = (20, 40, 60, 80, 100)
    assert held_out == [frame for end in ends for frame in range(end - 8, end)]
    assert sorted(pool + held_out) == list(range(100))


def test_nothing_is_held_out_when_nothing_is_asked_for():
    assert split.hold_out([1, 2, 3], 0, 1.0) == ([0, 1, 2], [])
