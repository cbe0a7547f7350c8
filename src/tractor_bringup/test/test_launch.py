"""The launch files, where ROS's launch is installed: with apt ROS, not with the wheels."""

import functools
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

TOPICS = {
    "scan_topic", "depth_topic", "camera_info_topic", "odom_topic", "cmd_vel_raw_topic",
    "cmd_vel_topic", "tf_topic",
}  # fmt: skip
ARGUMENTS = {
    "sac_rover": {
        "params_file", "model", "backend", "sim", "world_seed", "drivers", "calibration_dir",
        "namespace", "use_sim_time", "log_level", "one_process", "enable_stamped_cmd_vel",
        "rviz", "lidar_frame", "camera_frame", "explore", "nats", "accept_models",
        *TOPICS,
    },
    "sim": {
        "params_file", "world_seed", "namespace", "use_sim_time", "log_level",
        "enable_stamped_cmd_vel", *TOPICS,
    },
    "convert": {"onnx", "calibration_dir", "output", "params_file"},
}  # fmt: skip
START_LIMIT_S = 40.0


def description(repository, name):
    file = repository / "launch" / f"{name}.launch.py"
    spec = importlib.util.spec_from_file_location(f"{name}_launch", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def perform(description, argv=(), **arguments):
    """Perform the actions of a launch file as ros2 launch would; return what they lead to."""
    from launch import LaunchContext

    context = LaunchContext(argv=argv)
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


def commands(entities):
    """Return the words known before the start of the commands that these actions lead to."""
    for entity in entities:
        if hasattr(entity, "cmd"):
            yield [word[0].text for word in entity.cmd if hasattr(word[0], "text")]
        else:
            yield from commands(entity.get_sub_entities())


def test_rviz_and_static_transforms_name_the_package_that_they_need(repository, monkeypatch):
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(repository))
    with pytest.raises(RuntimeError) as refusal:
        perform(description(repository, "sac_rover"), rviz="true", lidar_frame="laser")
    assert "rviz:=true: rviz2 is not installed: apt install ros-jazzy-rviz2" in str(refusal.value)
    assert "tf2_ros is not installed: apt install ros-jazzy-tf2-ros" in str(refusal.value)


def test_rviz_opens_our_view_on_the_topics_of_the_rover(repository, monkeypatch, tmp_path):
    for package in ("rviz2", "tf2_ros"):
        marker = tmp_path / "share" / "ament_index" / "resource_index" / "packages" / package
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    found = perform(
        description(repository, "sac_rover"),
        rviz="true", lidar_frame="base_laser", depth_topic="/d435/depth",
    )  # fmt: skip
    lines = [*commands(found)]
    [shown] = [line for line in lines if "-d" in line]
    assert shown[shown.index("-d") + 1] == str(repository / "config" / "sac_rover.rviz")
    [placed] = [line for line in lines if "--child-frame-id" in line]
    assert placed[placed.index("--child-frame-id") + 1] == "base_laser"


def nodes_of(repository, **arguments):
    """Return {executable: words known before its start} of the suite's nodes."""
    lines = commands(perform(description(repository, "sac_rover"), **arguments))
    return {line[line.index("--enclave") + 1][1:]: line for line in lines if "--enclave" in line}


def test_an_address_starts_the_link_and_lets_the_actor_take_new_models(repository):
    import yaml

    assert "rover_link" not in nodes_of(repository)
    words = nodes_of(repository, nats="nats://10.0.0.5:4222", accept_models="all")["rover_link"]
    files = [words[i + 1] for i, word in enumerate(words) if word == "--params-file"]
    set_over = yaml.safe_load(Path(files[-1]).read_text())
    link = set_over["/**/rover_link"]["ros__parameters"]
    assert (link["address"], link["accept_models"]) == ("nats://10.0.0.5:4222", "all")
    assert link["params_file"] == files[0]
    assert set_over["/**/sac_actor"]["ros__parameters"] == {"watch_model": True}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nats": "10.0.0.5:4222"}, "nats: expected an address such as nats://192.168.1.10:4222"),
        ({"nats": "nats://"}, "nats: expected an address such as nats://192.168.1.10:4222"),
        ({"accept_models": "all"}, "accept_models: needs nats:="),
    ],
)
def test_an_address_that_is_none_is_refused_at_once(repository, arguments, message):
    with pytest.raises(RuntimeError, match=message):
        perform(description(repository, "sac_rover"), **arguments)


def test_every_problem_of_the_arguments_is_named(repository):
    with pytest.raises(RuntimeError) as refusal:
        perform(
            description(repository, "sac_rover"), drivers="true", sim="true", params_file="none"
        )
    assert "found both" in str(refusal.value)
    assert "found none at none" in str(refusal.value)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_unknown_argument_on_the_command_line_is_refused(repository, monkeypatch, name):
    required = {"onnx": "actor.onnx"} if name == "convert" else {}
    argv = ["params_fil:=x"]
    monkeypatch.setattr(
        "sys.argv", ["ros2", "launch", "tractor_bringup", f"{name}.launch.py", *argv]
    )
    with pytest.raises(RuntimeError, match=r"params_fil: unknown argument \(did you mean params_f"):
        perform(description(repository, name), argv, **required)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_a_launch_file_that_includes_ours_are_its_own(repository, monkeypatch, name):
    required = {"onnx": "actor.onnx"} if name == "convert" else {}
    argv = ["robot:=r1"]
    monkeypatch.setattr("sys.argv", ["ros2", "launch", "my_robot", "all.launch.py", *argv])
    assert perform(description(repository, name), argv, robot="r1", **required)


def test_arguments_of_the_drivers_launch_files_are_passed_on(repository, monkeypatch, tmp_path):
    for package, file in (
        ("realsense2_camera", "rs_launch.py"), ("ldlidar_stl_ros2", "ld19.launch.py"),
    ):  # fmt: skip
        share = tmp_path / "share" / package
        (share / "launch").mkdir(parents=True)
        marker = tmp_path / "share" / "ament_index" / "resource_index" / "packages" / package
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        (share / "launch" / file).write_text(
            "from launch import LaunchDescription\n"
            "from launch.actions import DeclareLaunchArgument\n"
            "def generate_launch_description():\n"
            f"    return LaunchDescription([DeclareLaunchArgument('of_{package}')])\n"
        )
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    argv = ["drivers:=true", "of_realsense2_camera:=1", "of_ldlidar_stl_ros2:=2"]
    command = ["ros2", "launch", "tractor_bringup", "sac_rover.launch.py"]
    monkeypatch.setattr("sys.argv", [*command, *argv])
    assert perform(description(repository, "sac_rover"), argv, drivers="true")
    argv.append("of_another:=3")
    with pytest.raises(RuntimeError, match="of_another: unknown argument"):
        perform(description(repository, "sac_rover"), argv, drivers="true")


def test_a_value_that_is_none_of_the_choices_is_refused(repository):
    for name, value in (("sim", "yes"), ("backend", "tflite"), ("log_level", "loud")):
        with pytest.raises(RuntimeError, match=f'"{name}" provided value "{value}" is not valid'):
            perform(description(repository, "sac_rover"), **{name: value})


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
    """Start a launch file with a temporary folder of its own, `temporary`."""
    command = ["ros2", "launch", "tractor_bringup", *arguments]
    temporary = log.parent / "temporary"
    temporary.mkdir()
    environment = workspace | {"TMPDIR": str(temporary)}
    return subprocess.Popen(
        command, env=environment, cwd=log.parent, stdout=log.open("w"), stderr=subprocess.STDOUT
    )


def left_in_the_temporary_folder(log):
    return [path.name for path in (log.parent / "temporary").iterdir()]


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
        assert left_in_the_temporary_folder(log) == []
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
    assert left_in_the_temporary_folder(log) == []


@pytest.mark.ros
@pytest.mark.slow
def test_one_argument_reaches_every_node_that_it_is_for(workspace, ros_graph, tmp_path):
    from geometry_msgs.msg import TwistStamped
    from nav_msgs.msg import Odometry
    from rclpy.qos import qos_profile_sensor_data

    commands = ros_graph.collect(TwistStamped, "/rover/base/cmd_vel")
    odometry = ros_graph.collect(Odometry, "/wheels/odom", qos_profile_sensor_data)
    log = tmp_path / "launch.log"
    arguments = ["sac_rover.launch.py", "sim:=true", "backend:=fake", "namespace:=rover"]
    arguments += ["enable_stamped_cmd_vel:=true", "cmd_vel_topic:=base/cmd_vel"]
    arguments += ["odom_topic:=/wheels/odom", "scan_topic:=front/scan", "depth_topic:=/d435/depth"]
    process = launch(arguments, workspace, log)
    try:
        ros_graph.until(lambda: odometry and odometry[-1].twist.twist.linear.x, START_LIMIT_S)
        assert any(command.twist.linear.x for command in commands)
        topics = dict(ros_graph.node.get_topic_names_and_types())
        for name in ("/rover/front/scan", "/d435/depth", "/d435/camera_info"):
            publishers = ros_graph.node.get_publishers_info_by_topic(name)
            assert [end.node_name for end in publishers] == ["sim"], name
            assert ros_graph.node.get_subscriptions_info_by_topic(name), name
        left = {"scan", "depth", "camera_info", "odom", "cmd_vel"}
        assert not topics.keys() & {f"/rover/{name}" for name in left}
        assert topics["/rover/cmd_vel_raw"] == ["geometry_msgs/msg/TwistStamped"]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=15)


@pytest.mark.ros
@pytest.mark.slow
def test_a_failed_conversion_fails_the_launch(workspace, tmp_path):
    log = tmp_path / "launch.log"
    arguments = ["convert.launch.py", "onnx:=missing.onnx"]
    assert launch(arguments, workspace, log).wait(timeout=START_LIMIT_S) == 1
    assert "missing.onnx" in log.read_text()
    assert "convert ended with exit code" in log.read_text()


@pytest.mark.parametrize(
    ("code", "essential", "again"), [(0, True, False), (1, True, True), (2, False, False)]
)
def test_what_ends_with_0_stays_away_and_what_dies_is_started_again(
    tmp_path, code, essential, again
):
    from launch import LaunchDescription, LaunchService
    from launch.actions import ExecuteProcess, RegisterEventHandler, Shutdown, TimerAction
    from launch.event_handlers import OnProcessExit

    from tractor_bringup import ros_launch

    log = tmp_path / "starts"
    script = f"echo started >> {log}; exit {code}"
    process = ExecuteProcess(cmd=["bash", "-c", script], respawn=True, respawn_delay=0.5)
    other = ExecuteProcess(cmd=["sleep", "60"])
    ended = functools.partial(ros_launch._ended, essential=essential)
    service = LaunchService(noninteractive=True)
    service.include_launch_description(
        LaunchDescription(
            [
                RegisterEventHandler(OnProcessExit(target_action=process, on_exit=ended)),
                process,
                other,
                TimerAction(period=2.0, actions=[Shutdown()]),
            ]
        )
    )
    service.run()
    assert (len(log.read_text().splitlines()) > 1) == again
