"""Drive the rover: grid builder, actor and command guard, with sensors of the machine or simulated.

Values come from the parameter file; an argument that is given overrides it. The processes are
started again when they die, as the actor does on purpose when an inference hangs; refused
parameters end the launch instead.
"""

import tempfile
from pathlib import Path

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node, PushRosNamespace

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parent / "config"
FLAG = ("true", "false")
ARGUMENTS = (
    ("params_file", str(CONFIG / "sac_rover.yaml"), "ROS 2 parameter file of all nodes.", None),
    ("model", "", "The actor, .onnx or .rknn; empty: as in params_file.", None),
    ("backend", "", "auto, onnx, rknn, rknn_sim or fake; empty: as in params_file.", None),
    ("calibration_dir", "", "Folder for samples; empty: as in params_file.", None),
    ("one_process", "false", "Hand the grid to the actor by a call, not by the topic.", FLAG),
    ("sim", "false", "Start the simulated rover, which takes the commands.", FLAG),
    ("drivers", "false", "Start the drivers of the D435i (depth only) and the LD19.", FLAG),
    ("namespace", "", "ROS namespace of every node and relative topic.", None),
    ("use_sim_time", "false", "Take time from /clock, which sim:=true then publishes.", FLAG),
    ("log_level", "info", "debug, info, warn, error or fatal.", None),
)
REFUSED_PARAMETERS = 2
RESPAWN_DELAY_S = 1.0
# ros2 launch dies of SIGTERM without passing it on: no node may outlive it.
STOP_WITH_LAUNCH = "setpriv --pdeathsig INT"

# The driver packages, their launch files, and how to get what is missing.
CAMERA, LIDAR = "realsense2_camera", "ldlidar_stl_ros2"
DRIVERS = {
    CAMERA: ("rs_launch.py", "apt install ros-jazzy-realsense2-camera"),
    LIDAR: ("ld19.launch.py", "build LDROBOT's package ldlidar_stl_ros2 in this workspace"),
}
# Where the camera driver publishes under its default names, relative to the namespace.
CAMERA_TOPICS = [
    ("depth", "camera/camera/depth/image_rect_raw"),
    ("camera_info", "camera/camera/depth/camera_info"),
]


def _include(launch_file, **arguments):
    # Scoped, so that its arguments do not become ours.
    source = IncludeLaunchDescription(str(launch_file), launch_arguments=arguments.items())
    return GroupAction([source])


def _drivers():
    """Include the drivers, or name every missing package at once."""
    shares, missing = {}, []
    for package, (launch_file, remedy) in DRIVERS.items():
        try:
            shares[package] = Path(get_package_share_directory(package), "launch", launch_file)
        except PackageNotFoundError:
            missing.append(f"{package} is not installed: {remedy}")
    if missing:
        raise RuntimeError("drivers:=true: " + "; ".join(missing))
    camera = _include(shares[CAMERA], config_file=str(CONFIG / "realsense.yaml"))
    return [camera, _include(shares[LIDAR])]


def _ended(event, context):
    if event.returncode == REFUSED_PARAMETERS:
        raise RuntimeError(f"{event.process_name} refused its parameters, see its error above")


def _parameter_file(node, values):
    """Write parameters of one node by name: `drive` holds two, and each refuses the other's."""
    content = {f"/**/{node}": {"ros__parameters": values}}
    with tempfile.NamedTemporaryFile("w", prefix="sac_rover_", suffix=".yaml", delete=False) as f:
        yaml.safe_dump(content, f)
    return f.name


def _node(executable, parameter_files, remappings=()):
    node = Node(
        package="tractor_inference",
        executable=executable,
        # No name: it would be given to both nodes of `drive`. Each has its own from the start.
        parameters=[*parameter_files, {"use_sim_time": LaunchConfiguration("use_sim_time")}],
        remappings=list(remappings),
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
        exec_name=executable,
        prefix=STOP_WITH_LAUNCH,
        respawn=True,
        respawn_delay=RESPAWN_DELAY_S,
    )
    return [RegisterEventHandler(OnProcessExit(target_action=node, on_exit=_ended)), node]


def _start(context):
    given = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    params_file = given["params_file"]
    sim, drivers = given["sim"] == "true", given["drivers"] == "true"
    problems = []
    if sim and drivers:
        problems.append("expected sim:=true or drivers:=true, found both: one source a topic")
    if not Path(params_file).is_file():
        problems.append(f"params_file: expected a file, found none at {params_file}")
    if problems:
        raise RuntimeError("; ".join(problems))
    overrides = {n: given[n] for n in ("model", "backend", "calibration_dir") if given[n]}
    files = [params_file, *([_parameter_file("sac_actor", overrides)] if overrides else [])]
    actions = [PushRosNamespace(given["namespace"])]
    if drivers:
        actions += _drivers()
    if sim:
        shared = {name: given[name] for name in ("params_file", "use_sim_time", "log_level")}
        # The namespace is pushed already.
        actions.append(_include(HERE / "sim.launch.py", namespace="", **shared))
    remappings = CAMERA_TOPICS if drivers else ()
    if given["one_process"] == "true":
        actions += _node("drive", files, remappings)
    else:
        actions += _node("bev_builder", files, remappings)
        actions += _node("sac_actor", files)
    actions += _node("cmd_guard", files)
    return [GroupAction(actions)]


def generate_launch_description():
    """Declare the arguments and start what they ask for."""
    profiles = "FASTRTPS_DEFAULT_PROFILES_FILE"
    default_profiles = EnvironmentVariable(profiles, default_value=str(CONFIG / "fastdds.xml"))
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    name, default_value=default, description=text, choices=choices
                )
                for name, default, text, choices in ARGUMENTS
            ),
            SetEnvironmentVariable(profiles, default_profiles),
            OpaqueFunction(function=_start),
        ]
    )
