"""Which candidates stay; the files are the sampler's."""

import random

import numpy as np
import pytest
from sample_files import CONTRACT

from tractor_core.samples import Sample
from tractor_inference.recording.retention import MostDiverse, Reservoir


def at(lidar_min):
    proprio = np.array([lidar_min, 0, 0, 0, 0, 0], np.float32)
    return Sample(np.zeros(CONTRACT.bev_shape, np.float32), proprio, 7)


class Kept:
    """A rule and the keys that would be files now."""

    def __init__(self, rule):
        self.rule, self.keys = rule, []

    def offer(self, key, lidar_min):
        taken, replaced = self.rule.offer(key, at(lidar_min))
        if replaced is not None:
            self.keys.remove(replaced)
        if taken:
            self.keys.append(key)
        else:
            assert replaced is None
        return taken


@pytest.fixture(params=["reservoir", "coverage"])
def kept(request):
    if request.param == "reservoir":
        return Kept(Reservoir(4, random.Random(0)))
    return Kept(MostDiverse(4, CONTRACT))


def test_never_more_stay_than_asked_for(kept):
    for key in range(200):
        kept.offer(key, 4.0 * (key % 97) / 97)
        assert len(kept.keys) == min(key + 1, 4)


def test_a_lower_number_takes_no_more_and_removes_nothing(kept):
    for key in range(4):
        kept.offer(key, float(key))
    kept.rule.keep = 2
    assert not any(kept.offer(key, 0.1 * key) for key in range(10, 40))
    assert kept.keys == [0, 1, 2, 3]


def test_what_is_gone_leaves_its_place(kept):
    for key in range(4):
        kept.offer(key, float(key))
    kept.rule.remove(2)
    kept.keys.remove(2)
    kept.rule.remove(99)  # was never there
    assert kept.offer(5, 2.0)
    assert len(kept.keys) == 4


def test_the_most_diverse_stay_and_what_was_there_before_counts():
    kept = Kept(MostDiverse(2, CONTRACT))
    kept.rule.fix(0, at(0.0))
    for key, lidar_min in enumerate((0.05, 4.0, 2.0, 3.9, 0.1), start=1):
        kept.offer(key, lidar_min)
    assert kept.keys == [2, 3]
