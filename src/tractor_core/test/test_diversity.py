"""What a set of frames covers, and which frame is worth a place in it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor_core import contract as contract_module
from tractor_core.diversity import DiverseSet, all_regions, embedding, regions
from tractor_core.paths import default_params_file

CONTRACT = contract_module.load(default_params_file())
EMPTY = np.zeros(CONTRACT.bev_shape, np.float32)


def proprio(lidar_min=2.0, cur_lin=0.15, cur_ang=0.0, gap=0.0):
    return np.array([lidar_min, 0.0, 0.0, cur_lin, cur_ang, gap], np.float32)


def test_regions_speak_the_operator_s_words():
    crowded = EMPTY.copy()
    crowded[1, :20] = 1.0
    assert regions(crowded, proprio(0.3, cur_ang=0.5, gap=0.3), CONTRACT) == {
        "motion": "turning left, at speed",
        "clearance": "near obstacles",
        "gap": "gap left",
        "lidar": "lidar empty",
        "depth": "depth crowded",
    }
    assert regions(EMPTY, proprio(cur_ang=-0.5, cur_lin=0.0), CONTRACT)["motion"] == (
        "turning right, standing"
    )


@given(st.tuples(*[st.floats(0, 4), *[st.floats(-1, 1)] * 5]), st.floats(0, 1), st.integers(0, 9))
def test_every_frame_lies_in_one_known_region_and_has_a_finite_place(raw, density, seed):
    rng = np.random.default_rng(seed)
    bev = (rng.random(CONTRACT.bev_shape) < density).astype(np.float32)
    vector = np.array(raw, np.float32)
    found = regions(bev, vector, CONTRACT)
    known = all_regions(CONTRACT)
    assert {*found} == {*known}
    assert all(found[name] in known[name] for name in found)
    assert np.isfinite(embedding(bev, vector, CONTRACT)).all()


def test_alike_frames_are_near_and_others_far():
    wall = EMPTY.copy()
    wall[0, 20:22, 40:90] = 1.0
    moved = np.roll(wall, 1, axis=1)
    behind = wall[:, ::-1]
    at = {n: embedding(b, proprio(), CONTRACT) for n, b in
          dict(wall=wall, moved=moved, behind=behind, empty=EMPTY).items()}  # fmt: skip

    def gap(a, b):
        return np.linalg.norm(at[a] - at[b])

    assert gap("wall", "moved") < 0.5 * gap("wall", "behind")
    assert gap("wall", "moved") < 0.5 * gap("wall", "empty")


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_nearest_neighbours_are_right_after_any_changes(seed, capacity):
    rng = np.random.default_rng(seed)
    kept = DiverseSet(capacity)
    held = {}
    for key in range(60):
        point = rng.integers(0, 9, size=2).astype(np.float32)
        step = rng.random()
        if step < 0.2:
            kept.fix(key, point)
            held[key] = point
        elif step < 0.4 and held:
            gone = int(rng.choice([*held]))
            kept.remove(gone)
            del held[gone]
        else:
            taken, replaced = kept.offer(key, point)
            if taken:
                held[key] = point
                held.pop(replaced, None)
        assert {*kept.keys} == {*held}
        points = np.array([held[k] for k in kept.keys]).reshape(-1, 2)
        full = np.linalg.norm(points[:, None] - points[None], axis=2)
        np.fill_diagonal(full, np.inf)
        np.testing.assert_allclose(kept._nearest, full.min(axis=1, initial=np.inf), rtol=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(2, 20))
def test_a_full_set_only_becomes_more_diverse(seed, capacity):
    rng = np.random.default_rng(seed)
    kept = DiverseSet(capacity)
    held = {}
    for key in range(5 * capacity):
        point = rng.normal(size=4).astype(np.float32)
        before = min_distance(held) if len(held) == capacity else 0.0
        taken, replaced = kept.offer(key, point)
        if taken:
            held[key] = point
            if replaced is not None:
                del held[replaced]
        else:
            assert replaced is None
        assert {*kept.keys} == {*held} and len(held) <= capacity
        if len(held) == capacity:
            assert min_distance(held) >= before - 1e-3


def min_distance(held):
    points = np.stack([*held.values()])
    full = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(full, np.inf)
    return full.min()


def test_rare_frames_stay_however_late_the_common_ones_are():
    rng = np.random.default_rng(1)
    kept = DiverseSet(10)
    kept.offer("rare", np.array([9.0, 9.0], np.float32))
    for i in range(500):
        kept.offer(i, rng.normal(scale=0.1, size=2).astype(np.float32))
    assert "rare" in kept.keys
    assert kept.offer("rarer", np.array([-9.0, 0.0], np.float32))[0]


def test_fixed_members_stay_and_what_is_like_them_is_not_taken():
    kept = DiverseSet(2)
    for i, x in enumerate((0.0, 1.0, 2.0)):
        kept.fix(f"old {i}", np.array([x, 0.0], np.float32))
    assert kept.offer("same", np.array([1.1, 0.0], np.float32)) == (False, None)
    assert kept.offer("new", np.array([9.0, 0.0], np.float32)) == (True, None)
    assert kept.offer("newer", np.array([0.0, 9.0], np.float32)) == (True, None)
    taken, replaced = kept.offer("newest", np.array([50.0, 50.0], np.float32))
    assert taken and replaced in ("new", "newer")
    assert {"old 0", "old 1", "old 2"} < {*kept.keys}


def test_a_frame_that_was_taken_away_makes_room():
    kept = DiverseSet(2)
    for key, x in (("a", 0.0), ("b", 5.0)):
        kept.offer(key, np.array([x], np.float32))
    kept.remove("a")
    kept.remove("unknown")
    assert kept.keys == ["b"]
    assert kept.offer("c", np.array([5.0], np.float32)) == (True, None)


@pytest.mark.parametrize("cells", [16, 128, 100])
def test_the_embedding_has_one_size_for_every_grid(cells):
    bev = np.ones((2, cells, cells), np.float32)
    point = embedding(bev, proprio(), CONTRACT)
    assert point.shape == (6 + 2 * 16,) and point.dtype == np.float32
    np.testing.assert_allclose(point[6:], 4.0, rtol=0.05)
