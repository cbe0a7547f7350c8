"""Calibration frames reach the extremes; held-out frames come from other times."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor_calibration import selection


@given(
    gaps=st.lists(st.floats(0.01, 5.0), min_size=1, max_size=120),
    share=st.floats(0.0, 0.9),
    separation_s=st.floats(0.0, 3.0),
)
def test_held_out_frames_are_apart_from_the_pool_in_time(gaps, share, separation_s):
    stamps = (np.cumsum(gaps) * 1e9).astype(np.int64).tolist()
    count = int(len(stamps) * share)
    pool, held_out = selection.hold_out(stamps, count, separation_s)
    assert len(held_out) == count
    assert held_out == sorted(set(held_out))
    assert not set(pool) & set(held_out)
    for i in pool:
        for j in held_out:
            assert abs(stamps[i] - stamps[j]) >= separation_s * 1e9


def test_held_out_frames_are_runs_spread_over_the_recording():
    pool, held_out = selection.hold_out([None] * 100, 40, 1.0)
    assert held_out == [*range(15, 25), *range(40, 50), *range(65, 75), *range(90, 100)]
    assert sorted(pool + held_out) == list(range(100))


def test_nothing_is_held_out_when_nothing_is_asked_for():
    assert selection.hold_out([1, 2, 3], 0, 1.0) == ([0, 1, 2], [])


def _covered(lows, highs, chosen):
    """Mean share of each tensor's whole range that the chosen frames cover."""
    span = highs.max(axis=0) - lows.min(axis=0)
    return np.mean((highs[chosen].max(axis=0) - lows[chosen].min(axis=0)) / span)


@given(st.integers(0, 2**32 - 1))
def test_coverage_beats_random_choice_of_the_same_size(seed):
    rng = np.random.default_rng(seed)
    lows, highs = -rng.exponential(1.0, (200, 12)), rng.exponential(1.0, (200, 12))
    chosen = selection.by_coverage(lows, highs, 20)
    random = [_covered(lows, highs, rng.choice(200, 20, replace=False).tolist()) for _ in range(20)]
    assert len(set(chosen)) == 20
    assert _covered(lows, highs, chosen) > max(random)
    assert chosen == selection.by_coverage(lows, highs, 20)


def test_the_widest_frame_comes_first_and_the_rest_fills_up_evenly():
    lows, highs = np.zeros((9, 1)), np.ones((9, 1))
    highs[4] = 5.0
    assert selection.by_coverage(lows, highs, 1) == [4]
    assert selection.by_coverage(lows, highs, 4) == [4, 0, 5, 8]
    assert sorted(selection.by_coverage(lows, highs, 50)) == list(range(9))


def test_every_tensor_of_the_network_is_measured(tmp_path, contract, actor_writer, frame_maker):
    pytest.importorskip("onnxruntime")
    data = actor_writer(tmp_path / "actor.onnx").read_bytes()
    frames = [frame_maker(np.random.default_rng(i)) for i in range(3)]
    lows, highs = selection.activation_ranges(data, contract, iter(frames))
    # Two inputs and the outputs of twelve nodes.
    assert lows.shape == highs.shape == (3, 14)
    assert (lows <= highs).all()
    assert lows[:, 0].tolist() == [0.0] * 3
    assert highs[:, 0].tolist() == [1.0] * 3
