"""Exploration goes somewhere and comes back, stays within bounds, and ends where it is narrow."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor_core import contract as contract_module
from tractor_core.observation import Observation
from tractor_core.paths import default_params_file
from tractor_inference.model.backends.fake import FakeBackend
from tractor_inference.model.exploration import (
    NONE_M,
    STRETCH_NS,
    WHOLE_M,
    Exploration,
    ExplorationParameters,
    Explorer,
    pink,
)

CONTRACT = contract_module.load(default_params_file())
HALF = np.full(2, 0.5, np.float32)
TICK_NS = 33_333_333


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


# When there is noise, and how much


def model(scale, digest="a" * 64):
    backend = FakeBackend(CONTRACT)
    backend.exploration_scale, backend.digest = scale, digest
    return backend


def explorer(seed=0, **parameters):
    return Explorer(ExplorationParameters(**({"explore": True} | parameters)), seed)


def seen(stamp_ns, lidar_min_m=2.0):
    proprio = np.array([lidar_min_m, 0, 0, 0, 0, 0], np.float32)
    return Observation(np.zeros(CONTRACT.bev_shape, np.float32), proprio, stamp_ns)


def noise(explorer, scale=0.2, ticks=600, first_ns=0, answer=HALF, lidar_min_m=2.0, **more):
    """Return what is added to the same answer, (ticks, 2)."""
    backend = model(scale)
    return np.array(
        [
            explorer.requested(seen(first_ns + i * TICK_NS, lidar_min_m), answer, backend, **more)
            - answer
            for i in range(ticks)
        ]
    )


def explores(explorer, stretch):
    return bool(noise(explorer, ticks=2, first_ns=stretch * STRETCH_NS).any())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_there_is_noise_for_the_share_of_the_time_in_whole_stretches(share):
    one = explorer(explore_share=share)
    found = np.array([explores(one, stretch) for stretch in range(1000)])
    assert found.mean() == pytest.approx(share, abs=0.0 if share in (0.0, 1.0) else 0.05)
    for stretch in (3, 4, 5):
        whole = noise(one, ticks=600, first_ns=stretch * STRETCH_NS).any(axis=1)
        assert whole.mean() == (1.0 if found[stretch] else 0.0)


def test_another_seed_explores_at_other_times_and_the_same_seed_does_it_alike():
    first, again, other = (
        [explores(explorer(seed, explore_share=0.5), stretch) for stretch in range(64)]
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert (noise(explorer(1, explore_share=1.0)) == noise(explorer(1, explore_share=1.0))).all()


def test_no_two_stretches_have_the_same_noise():
    one = explorer(explore_share=1.0)
    first, second = (noise(one, ticks=100, first_ns=i * STRETCH_NS) for i in range(2))
    assert not (first == second).all()


def test_a_stop_or_a_stamp_that_jumps_back_ends_in_no_error_and_the_same_choice():
    one = explorer(explore_share=0.5)
    there = explores(one, 50)
    explores(one, -1)
    assert explores(one, 50) == there


def test_a_model_gets_what_it_asks_for_up_to_the_cap():
    def spread(scale):
        one, zero = explorer(explore_max_scale=0.1, explore_share=1.0), np.zeros(2, np.float32)
        return noise(one, scale, ticks=9000, answer=zero).std()

    assert spread(0.05) == pytest.approx(0.05, rel=0.25)
    assert spread(0.1) == spread(1.0) == pytest.approx(0.1, rel=0.25)
    assert spread(0.0) == 0.0


def test_where_it_is_narrow_there_is_less_and_an_action_stays_one():
    wide, narrow = (
        np.abs(noise(explorer(explore_share=1.0), lidar_min_m=m)).mean() for m in (2.0, 0.5)
    )
    assert 0.0 < narrow < 0.5 * wide
    assert not noise(explorer(explore_share=1.0), lidar_min_m=NONE_M).any()
    edge = np.ones(2, np.float32)
    asked = noise(explorer(explore_max_scale=1.0, explore_share=1.0), 1.0, answer=edge) + edge
    assert asked.max() == 1.0 and asked.min() >= -1.0


def test_a_model_that_names_no_scale_drives_without_noise_and_that_is_said_once(caplog):
    caplog.set_level(logging.WARNING)
    one = explorer(explore_share=1.0)
    for digest in ("a" * 64, "b" * 64, "a" * 64):
        backend = model(None, digest)
        for i in range(5):
            assert one.requested(seen(i * TICK_NS), HALF, backend) is HALF
        assert one.describe(True) == "none: the model names no exploration_scale"
    said = [record.getMessage() for record in caplog.records]
    assert [text.count("a" * 64) for text in said] == [1, 0]
    assert all("names no exploration_scale" in text for text in said)
    assert noise(one).any()
    assert one.describe(True) == "scale 0.2, the model asks for 0.2; now with noise"


def test_without_explore_nothing_is_added_or_said(caplog):
    caplog.set_level(logging.WARNING)
    one = explorer(explore=False, explore_share=1.0)
    assert not noise(one, 1.0).any() and not noise(one, None).any()
    assert one.describe(True) == "off" and not caplog.records


def test_a_model_on_trial_and_an_operator_have_no_noise_and_then_it_goes_on():
    one, other = explorer(explore_share=1.0), explorer(explore_share=1.0)
    whole = noise(one, ticks=20)
    begun = noise(other, ticks=10)
    assert not noise(other, ticks=5, on_trial=True).any()
    assert other.describe(True).endswith("now without noise: the model is on trial")
    assert not noise(other, ticks=5, operated=True).any()
    assert other.describe(True).endswith("now without noise: the operator drives")
    assert other.describe(False).endswith("now without noise: it stands")
    assert (np.concatenate([begun, noise(other, ticks=10)]) == whole).all()


def test_changed_parameters_count_from_the_next_frame_on():
    one = explorer(explore_share=0.0)
    assert not noise(one).any()
    assert (
        one.describe(True) == "scale 0.2, the model asks for 0.2; now without noise, for evaluation"
    )
    one.adjust(ExplorationParameters(explore=True, explore_share=1.0, explore_max_scale=0.1))
    assert noise(one).any()
    assert one.describe(True) == "scale 0.1, the model asks for 0.2; now with noise"
