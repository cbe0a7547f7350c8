"""A fault begins while the rover drives, is the one that was asked for, and ends."""

import itertools

import numpy as np
import pytest

from tractor_core.errors import SensorError
from tractor_core.sensors import ensure_usable
from tractor_sim.guarded.faults import FAULTS, Sensors
from tractor_sim.senses import CONTROL_HZ, SCAN_EVERY_TICKS, Setup
from tractor_sim.simulation import Simulation

SECONDS = 20.0


@pytest.fixture(scope="module")
def setup(params_file):
    return Setup.load(params_file)


def arrivals(setup, name):
    """Return what arrives in a drive: (now_s, measured_s, scan), (now_s, image) once a second."""
    simulation = Simulation(1, setup.robot)
    sensors = Sensors(simulation, FAULTS[name], SECONDS, np.random.default_rng(0))
    scans, images = [], []
    for tick in range(round(SECONDS * CONTROL_HZ)):
        now_s = simulation.time_s
        if tick % SCAN_EVERY_TICKS == 0:
            sensors.measure_scan()
        scans += [(now_s, *found) for found in sensors.scans()]
        if tick % 10 == 0 and "depth" in name:
            images.append((now_s, sensors.depth(), sensors.camera_sees))
        simulation.step(0.1, 0.2, 1.0 / CONTROL_HZ)
    return scans, images


def usable(setup, scan):
    try:
        ensure_usable(scan, setup.robot)
    except SensorError:
        return False
    return True


def test_a_covered_lidar_is_refused_and_sound_before_and_after(setup):
    good = [usable(setup, scan) for _, _, scan in arrivals(setup, "covered LiDAR")[0]]
    assert good[0] and 0.3 < np.mean(good) < 0.8
    # It comes back, and is not frozen.
    assert np.count_nonzero(np.diff(good)) >= 3


def test_a_frozen_scan_says_the_same_under_new_stamps(setup):
    scans = arrivals(setup, "frozen scan")[0]
    ranges_m = [scan.ranges_m for _, _, scan in scans]
    same = [np.array_equal(a, b) for a, b in itertools.pairwise(ranges_m)]
    assert 0.2 < np.mean(same) < 0.7
    stamps_s = [measured_s for _, measured_s, _ in scans]
    assert np.diff(stamps_s) == pytest.approx(0.1)


def test_late_scans_come_in_order_and_as_late_as_said(setup):
    scans = arrivals(setup, "late scan")[0]
    late_s = np.array([now_s - measured_s for now_s, measured_s, _ in scans])
    assert np.min(late_s) == 0.0
    assert np.any(np.abs(late_s - 0.16) < 0.02) and np.any(np.abs(late_s - 0.26) < 0.02)
    assert (np.diff([measured_s for _, measured_s, _ in scans]) > 0.0).all()


def test_of_scans_at_1_hz_one_in_ten_comes(setup):
    gaps_s = np.diff([now_s for now_s, _, _ in arrivals(setup, "scan at 1 Hz")[0]])
    assert np.count_nonzero(gaps_s > 0.9) >= 3 and np.count_nonzero(gaps_s < 0.11) > 50


def test_blind_depth_is_another_kind_each_time(setup):
    images = arrivals(setup, "blind depth")[1]
    blind = [image.pixels for _, image, sees in images if not sees]
    assert {0, 65535} <= {int(pixels.max()) for pixels in blind}
    assert any(14000 < np.median(pixels) < 16000 for pixels in blind)
    assert all(0 < np.median(image.pixels) < 7000 for _, image, sees in images if sees)


def test_frozen_depth_is_the_last_image_again(setup):
    images = arrivals(setup, "frozen depth")[1]
    for (_, before, _), (_, image, sees) in itertools.pairwise(images):
        assert sees != np.array_equal(before.pixels, image.pixels)
