"""Frames outside of what a model was calibrated with, and when that is said."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tractor_core import contract as contract_module
from tractor_core.drift import WINDOW_S, DriftWatch, feature_names, features, ranges_of
from tractor_core.paths import default_params_file

CONTRACT = contract_module.load(default_params_file())
EMPTY = np.zeros(CONTRACT.bev_shape, np.float32)


def proprio(lidar_min=2.0, cur_ang=0.0):
    return np.array([lidar_min, 0, 0, 0.1, cur_ang, 0], np.float32)


def calibrated(*vectors):
    return ranges_of([features(EMPTY, v) for v in vectors], CONTRACT)


NEAR = calibrated(proprio(0.5, -0.5), proprio(1.5, 0.5))


def drive(watch, vectors, start_s=0.0, rate_hz=30.0):
    return [watch.step(EMPTY, v, start_s + i / rate_hz) for i, v in enumerate(vectors)]


def test_inside_of_the_ranges_nothing_is_said():
    watch = DriftWatch(CONTRACT, NEAR)
    assert not any(drive(watch, [proprio(0.5 + 0.01 * (i % 100)) for i in range(1000)]))
    assert watch.advice() is None


def test_more_than_a_hundredth_outside_says_recalibrate_and_names_the_feature():
    watch = DriftWatch(CONTRACT, NEAR)
    outside = drive(watch, [proprio(3.0 if i % 50 == 0 else 1.0) for i in range(1000)])
    assert sum(outside) == 20
    assert watch.advice() == (
        "recalibrate: outside of what the model was calibrated with are, of the last 1000 frames, "
        "lidar_min in 2.0%"
    )


def test_a_hundredth_is_not_yet_drift_and_few_frames_say_nothing():
    watch = DriftWatch(CONTRACT, NEAR)
    drive(watch, [proprio(3.0)] * 50)
    assert watch.advice() is None
    watch = DriftWatch(CONTRACT, NEAR)
    drive(watch, [proprio(3.0 if i % 100 == 0 else 1.0) for i in range(1000)])
    assert watch.advice() is None


def test_after_a_minute_inside_it_is_forgotten():
    watch = DriftWatch(CONTRACT, NEAR)
    drive(watch, [proprio(3.0)] * 500)
    assert watch.advice() is not None
    drive(watch, [proprio(1.0)] * 600, start_s=WINDOW_S + 20.0)
    assert watch.advice() is None


def test_occupancy_of_the_grid_is_watched():
    crowded = EMPTY.copy()
    crowded[1, :40] = 1.0
    watch = DriftWatch(CONTRACT, NEAR)
    assert watch.step(crowded, proprio(1.0), 0.0)


def test_a_model_without_ranges_is_not_watched():
    watch = DriftWatch(CONTRACT, {})
    assert not any(drive(watch, [proprio(x) for x in np.linspace(0, 4, 300)]))
    assert watch.advice() is None


@given(st.lists(st.tuples(*[st.floats(-4, 4, width=32)] * 6), min_size=1, max_size=20))
def test_the_frames_that_gave_the_ranges_lie_inside(vectors):
    frames = [np.array(v, np.float32) for v in vectors]
    found = calibrated(*frames)
    assert {*found} == {*feature_names(CONTRACT)}
    watch = DriftWatch(CONTRACT, found)
    assert not any(drive(watch, frames))


def test_ranges_of_nothing_are_none():
    assert ranges_of([], CONTRACT) == {}
