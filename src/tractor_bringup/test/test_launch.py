"""The launch files, where ROS's launch is installed: with apt ROS, not with the wheels."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="launch_ros comes with apt ROS 2, not with its wheels")

ARGUMENTS = {
    "sac_rover": {
        "params_file", "model", "backend", "sim", "drivers", "calibration_dir", "namespace",
        "use_sim_time", "log_level", "one_process",
    },
    "sim": {"params_file", "world_seed", "namespace", "use_sim_time", "log_level"},
    "convert": {"onnx", "calibration_dir", "output", "params_file"},
}  # fmt: skip
START_LIMIT_S = 40.0


def description(repository, name):
    file = repository / "launch" / f"{name}.launch.py"
    spec = importlib.util.spec_from_file_location(f"{name}_launch", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def perform(description, **arguments):
    """Perform the actions of a launch file as ros2 launch would; return what they lead to."""
    from launch import LaunchContext

    context = LaunchContext()
    context.launch_configurations.update(arguments)
    return [result for action in description.entities for result in action.visit(context) or []]


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_argument_is_described(repository, name):
    arguments = {
        a.name: a.description for a in description(repository, name).get_launch_arguments()
    }
    assert set(arguments) == ARGUMENTS[name]
    assert [n for n, text in arguments.items() if not text or text == "no description given"] == []


def test_missing_driver_packages_are_named_together(repository, monkeypatch):
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(repository))
    with pytest.raises(RuntimeError) as refusal:
        perform(description(repository, "sac_rover"), drivers="true")
    assert "realsense2_camera is not installed: apt install" in str(refusal.value)
    assert "ldlidar_stl_ros2 is not installed" in str(refusal.value)


def test_every_problem_of_the_arguments_is_named(repository):
    with pytest.raises(RuntimeError) as refusal:
        perform(
            description(repository, "sac_rover"), drivers="true", sim="true", params_file="none"
        )
    assert "found both" in str(refusal.value)
    assert "found none at none" in str(refusal.value)


@pytest.fixture(scope="module")
def workspace(repository, tmp_path_factory):
    """Build an installed workspace and return its environment."""
    colcon = Path(sys.executable).with_name("colcon")
    if shutil.which("ros2") is None or not colcon.is_file():
        pytest.skip("needs the ros2 command and colcon")
    folder = tmp_path_factory.mktemp("workspace")
    build = [colcon, "--log-base", "log", "build", "--base-paths", repository / "src"]
    subprocess.run([*map(str, build)], cwd=folder, check=True, capture_output=True)
    sourced = subprocess.run(
        ["bash", "-c", f"source {folder}/install/setup.bash && env -0"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(line.split("=", 1) for line in sourced.stdout.split("\0") if line)


def launch(arguments, workspace, log):
    command = ["ros2", "launch", "tractor_bringup", *arguments]
    return subprocess.Popen(
        command, env=workspace, cwd=log.parent, stdout=log.open("w"), stderr=subprocess.STDOUT
    )


def wait_for(text, log, process):
    deadline_s = time.monotonic() + START_LIMIT_S
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline_s, log.read_text()
        time.sleep(0.1)


def running(workspace_folder):
    """Return the command lines of processes that run executables of the workspace."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if workspace_folder in line and "/lib/tractor_" in line:
            found.append(line)
    return found


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.parametrize("one_process", ["false", "true"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_node_outlives_its_launch_process(workspace, tmp_path, number, one_process):
    log = tmp_path / "launch.log"
    arguments = ["sac_rover.launch.py", "sim:=true", "backend:=fake", "namespace:=rover"]
    arguments.append(f"one_process:={one_process}")
    process = launch(arguments, workspace, log)
    try:
        wait_for("passing commands", log, process)
        process.send_signal(number)
        status = process.wait(timeout=15)
        assert status == (0 if number == signal.SIGINT else -number)
        prefix = str(Path(workspace["AMENT_PREFIX_PATH"].split(os.pathsep)[0]).parent)
        deadline_s = time.monotonic() + 10.0
        while left := running(prefix):
            assert time.monotonic() < deadline_s, left
            time.sleep(0.1)
    finally:
        process.kill()


@pytest.mark.ros
@pytest.mark.slow
def test_refused_parameters_end_the_launch(repository, workspace, tmp_path):
    params = tmp_path / "params.yaml"
    text = (repository / "config" / "sac_rover.yaml").read_text()
    params.write_text(text.replace("sample_keep:", "sample_kept:"))
    log = tmp_path / "launch.log"
    arguments = ["sac_rover.launch.py", f"params_file:={params}", "backend:=fake"]
    assert launch(arguments, workspace, log).wait(timeout=START_LIMIT_S) == 1
    assert "sample_kept: unknown parameter" in log.read_text()
    assert "sac_actor-2 refused its parameters" in log.read_text()


@pytest.mark.ros
@pytest.mark.slow
def test_a_failed_conversion_fails_the_launch(workspace, tmp_path):
    log = tmp_path / "launch.log"
    arguments = ["convert.launch.py", "onnx:=missing.onnx"]
    assert launch(arguments, workspace, log).wait(timeout=START_LIMIT_S) == 1
    assert "missing.onnx" in log.read_text()
    assert "convert ended with exit code" in log.read_text()
