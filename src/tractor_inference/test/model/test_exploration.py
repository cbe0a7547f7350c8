"""Exploration goes somewhere and comes back, stays within bounds, and ends where it is narrow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor_inference.model.exploration import NONE_M, WHOLE_M, Exploration, pink

HALF = np.full(2, 0.5, np.float32)


def test_pink_noise_has_variance_one_and_falls_with_the_frequency():
    noise = pink(4096, 64, np.random.default_rng(0))
    assert noise.shape == (4096, 64)
    assert noise.var() == pytest.approx(1.0, abs=0.1) and abs(noise.mean()) < 1e-9
    power = (np.abs(np.fft.rfft(noise, axis=0)) ** 2).mean(axis=1)
    slow, fast = power[8:16].mean(), power[512:1024].mean()
    assert slow / fast == pytest.approx(64.0, rel=0.2)


@settings(deadline=None)
@given(st.floats(-1.0, 1.0), st.floats(0.0, 4.0), st.floats(0.0, 2.0), st.integers(0, 100))
def test_what_is_requested_is_an_action(answer, lidar_min_m, scale, seed):
    exploration = Exploration(scale, np.random.default_rng(seed))
    requested = exploration.requested(np.full(2, answer, np.float32), lidar_min_m)
    assert requested.shape == (2,) and requested.dtype == np.float32
    assert np.abs(requested).max() <= 1.0


def spread(scale, lidar_min_m, ticks=4000):
    exploration = Exploration(scale, np.random.default_rng(0))
    return np.std([exploration.requested(HALF, lidar_min_m) - HALF for _ in range(ticks)])


def test_it_has_the_scale_where_there_is_room_and_none_where_it_is_narrow():
    assert spread(0.1, WHOLE_M) == pytest.approx(0.1, rel=0.25)
    assert spread(0.1, (NONE_M + WHOLE_M) / 2) == pytest.approx(0.05, rel=0.25)
    assert spread(0.3, NONE_M) == spread(0.0, WHOLE_M) == 0.0


def test_the_same_seed_explores_the_same():
    first, second = (Exploration(0.3, np.random.default_rng(5)) for _ in range(2))
    for _ in range(10):
        assert (first.requested(HALF, 2.0) == second.requested(HALF, 2.0)).all()
