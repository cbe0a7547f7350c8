"""A set of reference observations is read as it was written, for its contract and robot only."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tractor_core import reference_observations
from tractor_core.errors import SampleError
from tractor_core.paths import config_file
from tractor_core.reference_observations import Origin
from tractor_core.samples import Sample

MADE_BY = "python -m tractor_sim observations --seed 3"


WORLDS = [10, 10, 11, 12, 13]


@pytest.fixture(autouse=True)
def few_frames(monkeypatch):
    """Let sets of these tests be smaller than a conversion needs."""
    monkeypatch.setattr(reference_observations, "LEAST_A_HALF", 2)
    monkeypatch.setattr(reference_observations, "LEAST_WORLDS", 2)


@pytest.fixture
def origin(params_file):
    return Origin.load(params_file)


def frames(contract, count=5):
    rng = np.random.default_rng(0)
    return [
        Sample(
            (rng.random(contract.bev_shape) < 0.02).astype(np.float32),
            rng.uniform(0.0, 1.0, contract.proprio_size).astype(np.float32),
        )
        for _ in range(count)
    ]


@pytest.fixture
def file(tmp_path, contract, origin):
    path = tmp_path / "set.npz"
    reference_observations.write(path, frames(contract), WORLDS, MADE_BY, origin)
    return path


def test_what_is_written_is_read(file, contract, origin):
    found = reference_observations.read(file, origin)
    assert found.made_by == MADE_BY
    assert found.worlds == (10, 10, 11, 12, 13)
    for frame, wanted in zip(found.samples, frames(contract)):
        np.testing.assert_array_equal(frame.bev, wanted.bev)
        np.testing.assert_array_equal(frame.proprio, wanted.proprio)
    # No world does both.
    assert (found.calibrating, found.validating) == ([0, 1, 3], [2, 4])


def test_the_same_frames_make_the_same_file(file, tmp_path, contract, origin):
    again = tmp_path / "again.npz"
    reference_observations.write(again, frames(contract), WORLDS, MADE_BY, origin)
    assert again.read_bytes() == file.read_bytes()


def test_another_robot_contract_or_grid_is_refused_with_what_differs(file, origin):
    rover, grid = origin.robot, origin.grid
    wider = replace(origin, robot=replace(rover, half_width_m=0.3))
    there = rover.half_width_m
    with pytest.raises(SampleError, match=f"half_width_m: here 0.3, there {there}.*make them anew"):
        reference_observations.read(file, wider)
    clipped = replace(origin, contract=replace(origin.contract, proprio_clip=5.0))
    with pytest.raises(SampleError, match=r"proprio_clip: here 5.0, there 3.0"):
        reference_observations.read(file, clipped)
    nearer = replace(origin, grid=replace(grid, depth_max_m=2.0))
    with pytest.raises(SampleError, match=r"depth_max_m: here 2.0, there 4.0"):
        reference_observations.read(file, nearer)
    # Where the poses come from is no property of the robot, and no set holds faded scans.
    same = replace(origin, robot=replace(rover, use_tf=True), grid=replace(grid, scan_decay_s=0.3))
    assert len(reference_observations.read(file, same).samples) == 5


@pytest.mark.parametrize("worlds", [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9], [0, 0, 1, 1, 3]])
def test_a_set_without_enough_of_both_halves_is_neither_written_nor_read(
    tmp_path, contract, origin, monkeypatch, worlds
):
    path, least = tmp_path / "set.npz", reference_observations.LEAST_WORLDS
    with pytest.raises(SampleError, match="expected at least 2 frames of 2 worlds that"):
        reference_observations.write(path, frames(contract), worlds, MADE_BY, origin)
    assert not path.exists()
    monkeypatch.setattr(reference_observations, "LEAST_A_HALF", 0)
    monkeypatch.setattr(reference_observations, "LEAST_WORLDS", 0)
    reference_observations.write(path, frames(contract), worlds, MADE_BY, origin)
    monkeypatch.setattr(reference_observations, "LEAST_WORLDS", least)
    with pytest.raises(SampleError, match="expected at least 0 frames of 2 worlds that"):
        reference_observations.read(path, origin)


def test_shades_are_not_kept_as_ones(tmp_path, contract, origin):
    shaded = frames(contract)
    shaded[3].bev[0, 5, 5] = 0.8
    with pytest.raises(SampleError, match="zeros and ones"):
        reference_observations.write(tmp_path / "a.npz", shaded, WORLDS, MADE_BY, origin)


def test_what_is_cited_of_a_hostile_set_is_bounded(file, origin):
    text = json.dumps({"grid_extent_m": "x" * 900_000} | {f"x{i}": i for i in range(100)})
    spoiled(file, contract=np.array(text))
    with pytest.raises(SampleError) as refused:
        reference_observations.read(file, origin)
    assert len(str(refused.value)) < 10_000
    assert "more)" in str(refused.value)


def test_none_is_said_with_the_command_that_makes_one(tmp_path, contract, origin):
    with pytest.raises(SampleError, match="no such file; make them: python -m tractor_sim obs"):
        reference_observations.read(tmp_path / "absent.npz", origin)
    with pytest.raises(SampleError, match=r"in an \.npz file"):
        reference_observations.read(tmp_path / "set.dat", origin)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(SampleError, match="regular"):
        reference_observations.read(tmp_path / "folder.npz", origin)


def spoiled(file, **members):
    with np.load(file) as good:
        arrays = {name: good[name] for name in good.files}
    arrays |= members
    np.savez_compressed(
        file, **{name: value for name, value in arrays.items() if value is not None}
    )


@pytest.mark.parametrize(
    ("members", "why"),
    [
        (dict(bev=None), "missing bev"),
        (dict(bev=np.zeros((5, 7), np.uint8)), r"bev: expected \(5, 4096\) uint8, found \(5, 7\)"),
        (dict(world=np.zeros(4, np.int64)), r"world: expected \(5,\) int64, found \(4,\)"),
        (dict(proprio=np.full((5, 6), np.nan, np.float32)), "frame 0: proprio: expected finite"),
        (dict(proprio=np.zeros((0, 6), np.float32)), "expected 1 to 4096 frames, found 0"),
        (dict(contract=np.array("[1]")), "contract: expected an object"),
        (dict(robot=np.array("{")), "not a set of reference observations"),
        (dict(made_by=np.zeros(3)), "made_by: expected one text"),
        (dict(made_by=np.array("x" * 501)), "made_by: expected at most 500 characters"),
    ],
)
def test_a_malformed_set_is_refused(file, origin, members, why):
    spoiled(file, **members)
    with pytest.raises(SampleError, match=why):
        reference_observations.read(file, origin)


def test_a_cut_set_is_refused(file, origin):
    file.write_bytes(file.read_bytes()[:400])
    with pytest.raises(SampleError, match="not a set of reference observations"):
        reference_observations.read(file, origin)


@pytest.mark.parametrize("name", ["set.npz", "../config/a#b.npz", "a.npz#1.npz"])
def test_frames_have_names_that_no_sample_has(name):
    assert reference_observations.file_and_index(name) is None
    named = reference_observations.frame_name(name, 17)
    assert reference_observations.file_and_index(named) == (name, 17)


def test_the_suites_own_set_is_for_the_shipped_parameters(origin):
    path = config_file(reference_observations.FILE_NAME)
    found = reference_observations.read(path, origin)
    assert path.stat().st_size < 200_000
    assert min(len(found.calibrating), len(found.validating)) >= 150
