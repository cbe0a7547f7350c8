"""The reference observations: the same of the same seed, varied, and of worlds of their own."""

import dataclasses

import numpy as np
import pytest

from tractor_core import diversity, reference_observations
from tractor_core.kinematics import action_to_velocity, velocity_to_action
from tractor_core.packed import PackedSamples
from tractor_core.paths import config_file
from tractor_core.reference_observations import Origin
from tractor_sim import observations
from tractor_sim.rollout import FIRST_UNSEEN_SEED
from tractor_sim.senses import Setup

pytest.importorskip("mujoco", reason="MuJoCo is not installed")


@pytest.fixture
def few_frames(monkeypatch):
    """Let a set be smaller than a conversion needs."""
    monkeypatch.setattr(reference_observations, "LEAST_A_HALF", 3)
    monkeypatch.setattr(reference_observations, "LEAST_WORLDS", 1)


@pytest.fixture
def origin(params_file):
    return Origin.load(params_file)


@pytest.fixture
def setup(params_file):
    return Setup.load(params_file)


def test_a_drive_is_the_same_again_and_its_frames_follow_the_contract(params_file, setup):
    drive = observations.Drive(observations.FIRST_SEED, str(params_file), frames=4)
    first, again = observations.observe(drive), observations.observe(drive)
    assert 0 < len(first) <= 4
    for one, other in zip(first, again, strict=True):
        assert one.bev.tobytes() == other.bev.tobytes()
        assert one.proprio.tobytes() == other.proprio.tobytes()
        assert one.bev.shape == setup.contract.bev_shape


def test_no_world_is_one_that_actors_learn_in_or_are_judged_in():
    judged = FIRST_UNSEEN_SEED + 100_000
    assert judged < observations.FIRST_SEED


def test_made_written_and_read(params_file, origin, few_frames, tmp_path, capsys):
    out = tmp_path / "set.npz"
    arguments = ["--out", str(out), "--frames", "6", "--worlds", "2", "--processes", "1"]
    assert observations.main([*arguments, "--params", str(params_file)]) == 0
    found = reference_observations.read(out, origin)
    assert {*found.worlds} == {observations.FIRST_SEED, observations.FIRST_SEED + 1}
    assert len(found.calibrating) == len(found.validating) == 3
    made_by = f"{reference_observations.COMMAND} --seed 0 --frames 6 --worlds 2"
    assert found.made_by == f"{made_by} --params {params_file}"
    printed = capsys.readouterr().out
    assert "turning left, slow" in printed and "lidar_min" in printed


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--out", "set.txt"], "a name that ends in .npz"),
        (["--out", "absent/set.npz"], "a folder that exists"),
        (["--out", "set.npz", "--seed", "100"], "expected 0 to 99, found 100"),
        (["--out", "set.npz", "--worlds", "1"], "expected 2 to"),
        (["--out", "set.npz", "--frames", "99"], "expected 100 to"),
    ],
)
def test_wrong_usage_says_what_was_expected(arguments, why, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        observations.main(arguments)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_said(params_file, few_frames, tmp_path, capsys):
    out = tmp_path / "set.npz"
    out.mkdir()
    arguments = ["--out", str(out), "--frames", "6", "--worlds", "2", "--processes", "1"]
    assert observations.main([*arguments, "--params", str(params_file)]) == 1
    assert str(out) in capsys.readouterr().err


def test_a_rover_that_sees_too_little_makes_no_set(params_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(observations, "observe", _blind)
    arguments = ["--out", str(tmp_path / "set.npz"), "--worlds", "2", "--processes", "1"]
    assert observations.main([*arguments, "--params", str(params_file)]) == 1
    assert "expected 1 to 4096 frames, found 0" in capsys.readouterr().err
    assert not (tmp_path / "set.npz").exists()


def _blind(drive):
    return PackedSamples()


def test_another_action_space_is_driven_by_the_same_expert(params_file, setup, tmp_path):
    twist = tmp_path / "params.yaml"
    text = params_file.read_text()
    twist.write_text(text.replace('action_space: "tracks"', 'action_space: "twist"'))
    assert Setup.load(twist).contract.action_space == "twist"
    drives = [
        observations.observe(observations.Drive(observations.FIRST_SEED, str(file), frames=6))
        for file in (params_file, twist)
    ]
    robot, contract = setup.robot, dataclasses.replace(setup.contract, action_space="twist")
    for tracks, other in zip(*drives, strict=True):
        np.testing.assert_array_equal(tracks.bev, other.bev)
        # What was executed, in the words of the other space.
        velocity = action_to_velocity(tracks.proprio[1:3], setup.contract, robot)
        wanted = velocity_to_action(velocity, contract, robot)
        np.testing.assert_allclose(other.proprio[1:3], wanted, atol=1e-6)


def test_the_suites_own_set_reaches_every_region(setup, origin):
    path = config_file(reference_observations.FILE_NAME)
    found = reference_observations.read(path, origin)
    for half in (found.calibrating, found.validating):
        regions = [
            diversity.regions(frame.bev, frame.proprio, setup.contract)
            for frame in (found.samples[i] for i in half)
        ]
        for feature, names in diversity.all_regions(setup.contract).items():
            assert {*names} == {one[feature] for one in regions}
        proprio = np.array([found.samples[i].proprio for i in half])
        # Both tracks forwards and backwards, turning both ways, near and far.
        tracks = proprio[:, 1:3]
        assert (tracks.min(axis=0) < -0.9).all() and (tracks.max(axis=0) > 0.9).all()
        assert proprio[:, 4].min() < -0.8 and proprio[:, 4].max() > 0.8
        assert proprio[:, 0].min() < 0.4 and proprio[:, 0].max() > 3.0
