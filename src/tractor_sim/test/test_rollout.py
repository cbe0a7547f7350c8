"""The expert and the reference actor in closed loop."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tractor_core import robot as robot_module
from tractor_core.sensors import Scan
from tractor_inference.model.backends.fake import FakeBackend
from tractor_sim import rollout
from tractor_sim.expert import Expert
from tractor_sim.rollout import FIRST_UNSEEN_SEED, Task, run
from tractor_sim.senses import CONTROL_HZ, Senses, Setup
from tractor_sim.simulation import Simulation


@pytest.fixture(scope="module")
def robot(params_file):
    return robot_module.load(params_file)


@pytest.fixture(scope="module")
def actor(repository):
    return repository / "models" / "sac_actor_reference.onnx"


def scan_of(*walls: tuple[float, float, float]) -> Scan:
    """Return a scan of 450 beams; each wall is (from_rad, to_rad, range_m)."""
    increment = 2 * np.pi / 450
    angles = -np.pi + increment * np.arange(450)
    ranges = np.full(450, np.inf, np.float32)
    for low, high, range_m in walls:
        ranges[(angles >= low) & (angles <= high)] = range_m
    return Scan(ranges, -np.pi, increment, 0.05, 12.0)


def test_expert_drives_straight_where_all_is_free(robot):
    assert Expert(robot).act(scan_of(), 0.0) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_expert_turns_to_the_free_side(robot, side):
    # A wall ahead and on one side: left is positive, so the right track is faster for it.
    low, high = sorted((-side * 2.0, side * 0.4))
    left, right = Expert(robot).act(scan_of((low, high, 0.6)), 0.0)
    assert side * (right - left) > 0.5


def test_expert_frees_itself_without_touching(robot):
    # Something 1 cm ahead of the bumper: no forward command may come.
    left, right = Expert(robot).act(scan_of((-0.3, 0.3, 0.23)), 0.0)
    assert left + right <= 0.0
    assert (left, right) != (0.0, 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_expert_drives_without_a_collision(params_file, seed):
    result = run(Task(FIRST_UNSEEN_SEED + 100 + seed, 30.0, str(params_file)))
    assert result.collisions == 0
    assert result.distance_m > 3.0
    assert result.trajectory.shape == (900, 4)
    steps_m = np.hypot(*np.diff(result.trajectory[:, :2], axis=0).T)
    assert steps_m.sum() == pytest.approx(result.distance_m, rel=0.02)


def test_a_scan_is_held_for_three_ticks(params_file):
    setup = Setup.load(params_file)
    simulation = Simulation(0, setup.robot)
    senses = Senses(simulation, setup)
    seen = []
    for _ in range(6):
        senses.tick()
        seen.append(senses.observe().proprio[0])
        simulation.step(0.1, 0.0, 1 / 30)
    assert seen[0] == seen[1] == seen[2] != seen[3]
    assert seen[3] == seen[4] == seen[5]


@pytest.mark.slow
def test_reference_actor_drives(actor, params_file):
    result = run(Task(FIRST_UNSEEN_SEED + 200, 15.0, str(params_file), str(actor)))
    assert result.collisions == 0
    assert result.distance_m > 1.2


def test_command_measures_the_expert(params_file, capsys):
    status = rollout.main(
        ["--expert", "--worlds", "2", "--seconds", "5", "--params", str(params_file), "--json"]
    )
    assert status == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["runs"], figures["collisions"]) == (2, 0)
    assert 0.0 < figures["least_m"] <= figures["mean_m"] < 5 * 0.18


def test_command_refuses_a_missing_model(params_file, tmp_path, capsys):
    missing = tmp_path / "none.onnx"
    status = rollout.main(["--model", str(missing), "--worlds", "1", "--params", str(params_file)])
    assert status == 1
    assert str(missing) in capsys.readouterr().err


def test_commands_help_without_the_heavy_libraries(capsys):
    with pytest.raises(SystemExit) as end:
        rollout.main(["--help"])
    assert end.value.code == 0
    assert "--" in capsys.readouterr().out


def test_the_actor_sees_the_action_that_it_just_took(params_file):
    setup = Setup.load(str(params_file))
    seen = []

    def script(frame):
        return np.array([[0.3, -0.4]], np.float32)

    class Recorder(FakeBackend):
        def _run(self, bev, proprio):
            seen.append(proprio[0, 1:3].tolist())
            return super()._run(bev, proprio)

    simulation = Simulation(0, setup.robot)
    act = rollout._actor(simulation, setup, 0, Recorder(setup.contract, script))
    for _ in range(2):
        simulation.step(*act(), 1.0 / CONTROL_HZ)
    assert seen == [[0.0, 0.0], pytest.approx([0.3, -0.4])]


def test_an_interrupt_ends_a_rollout_at_once_and_without_a_traceback(params_file):
    command = [sys.executable, "-m", "tractor_sim.rollout", "--expert", "--seconds", "600"]
    process = subprocess.Popen(
        [*command, "--params", params_file], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    try:
        end_s = time.monotonic() + 60.0
        while len(workers.read_text().split()) < 2:
            assert time.monotonic() < end_s and process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert said.endswith("interrupted\n") and "Traceback" not in said
