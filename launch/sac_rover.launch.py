"""Drive the rover: grid builder, actor and command guard, with sensors of the machine or simulated.

With nats:=nats://HOST:4222 also the link to a training server: experience there, models back.

Values come from the parameter file; an argument that is given overrides it. The processes are
started again when they die, as the actor does on purpose when an inference hangs; refused
parameters end the launch instead.
"""

from pathlib import Path

from ament_index_python.packages import (
    PackageNotFoundError,
    get_package_prefix,
    get_package_share_directory,
)
from launch import LaunchDescription
from launch.actions import GroupAction, LogInfo, OpaqueFunction
from launch.launch_description_sources import get_launch_description_from_any_launch_file
from launch_ros.actions import Node, PushRosNamespace

from tractor_bringup import ros_launch
from tractor_bringup.launch_arguments import (
    FLAG,
    FLAG_OR_FILE,
    FRAMES,
    LOG_LEVEL,
    NAMESPACE,
    PARAMS_FILE,
    STAMPED,
    STAMPED_COMMANDS,
    TOPICS,
    WORLD_SEED,
    Argument,
    extrinsics_arguments,
    frame_problems,
    link_parameters,
    name_problems,
    remappings,
    seed_problems,
    stamped_commands,
)
from tractor_core.errors import ParameterError
from tractor_core.paths import config_file
from tractor_inference.model.backends import KINDS
from tractor_link.parameters import ACCEPT

HERE = Path(__file__).resolve().parent
ARGUMENTS = (
    PARAMS_FILE,
    Argument("model", "", "The actor, .onnx or .rknn; empty: as in params_file."),
    Argument("backend", "", "What runs the actor; empty: as in params_file.", ("", *KINDS)),
    Argument("calibration_dir", "", "Folder for samples; empty: as in params_file."),
    Argument("explore", "", "Noise on the actions; empty: as in params_file.", FLAG_OR_FILE),
    Argument("nats", "", "Training server, such as nats://192.168.1.10:4222; empty: none."),
    Argument(
        "accept_models",
        "",
        "Whose models are converted unasked; empty: as in params_file.",
        ("", *ACCEPT),
    ),
    Argument("one_process", "false", "Hand the grid to the actor by a call, no topic.", FLAG),
    Argument("sim", "false", "Start the simulated rover, which takes the commands.", FLAG),
    WORLD_SEED,
    Argument("drivers", "false", "Start the drivers of the D435i (depth only) and LD19.", FLAG),
    NAMESPACE,
    STAMPED_COMMANDS,
    *TOPICS,
    *FRAMES,
    Argument("rviz", "false", "Open RViz on this rover's topics.", FLAG),
    Argument("use_sim_time", "false", "Take time from /clock; sim:=true publishes it.", FLAG),
    LOG_LEVEL,
)

# The driver packages, their launch files, and how to get what is missing.
CAMERA, LIDAR = "realsense2_camera", "ldlidar_stl_ros2"
DRIVERS = {
    CAMERA: ("rs_launch.py", "apt install ros-jazzy-realsense2-camera"),
    LIDAR: ("ld19.launch.py", "build LDROBOT's package ldlidar_stl_ros2 in this workspace"),
}

OTHER_MODEL = (
    "model:= and nats:= are given: a model of the training server drives only where model leads to "
    "remote_trained.rknn in models_dir of rover_link"
)


def _find_drivers(problems):
    """Return the launch file of each driver package; name every missing one."""
    files = {}
    for package, (launch_file, remedy) in DRIVERS.items():
        try:
            files[package] = Path(get_package_share_directory(package), "launch", launch_file)
        except PackageNotFoundError:
            problems.append(f"drivers:=true: {package} is not installed: {remedy}")
    return files


def _need(package, remedy, what, problems):
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        problems.append(f"{what}: {package} is not installed: {remedy}")


def _declared_in(launch_file):
    description = get_launch_description_from_any_launch_file(str(launch_file))
    return [argument.name for argument in description.get_launch_arguments()]


def _tool(package, executable, arguments, ros_arguments, remappings, name=None):
    """Return the action that runs a program of others; the rover drives on without it."""
    return Node(
        package=package,
        executable=executable,
        name=name,
        arguments=arguments,
        ros_arguments=ros_arguments,
        remappings=remappings,
        output="screen",
        exec_name=name or executable,
        prefix=ros_launch.STOP_WITH_LAUNCH,
    )


def _start(context):
    given = ros_launch.read(context, ARGUMENTS)
    sim, drivers = given["sim"] == "true", given["drivers"] == "true"
    problems = []
    driver_files = _find_drivers(problems) if drivers else {}
    # The drivers' launch files get what they declare, such as serial_no.
    of_drivers = [name for file in driver_files.values() for name in _declared_in(file)]
    problems += ros_launch.unknown(context, __file__, {*given, *of_drivers})
    if sim and drivers:
        problems.append("expected sim:=true or drivers:=true, found both: one source a topic")
    problems += name_problems(given, ["namespace", *(topic.name for topic in TOPICS)])
    problems += seed_problems(given["world_seed"])
    problems += frame_problems(given, sim)
    if given["rviz"] == "true":
        _need("rviz2", "apt install ros-jazzy-rviz2", "rviz:=true", problems)
    if given["lidar_frame"] or given["camera_frame"]:
        _need("tf2_ros", "apt install ros-jazzy-tf2-ros", "lidar_frame, camera_frame", problems)
    params_file = ros_launch.find_params_file(given["params_file"], problems)
    if params_file is not None:
        try:
            stamped = stamped_commands(given[STAMPED], params_file)
            extrinsics = extrinsics_arguments(given, params_file)
            of_link = link_parameters(given, params_file)
        except ParameterError as error:
            problems.append(str(error))
    ros_launch.refuse(problems)

    of_actor = {n: given[n] for n in ("model", "backend", "calibration_dir") if given[n]}
    if given["explore"]:
        of_actor["explore"] = given["explore"] == "true"
    if of_link:
        of_actor["watch_model"] = True
    of_both = {STAMPED: stamped} if given[STAMPED] else {}
    set_over = {"sac_actor": of_actor | of_both, "cmd_guard": of_both, "rover_link": of_link}
    common = ros_launch.parameter_arguments(params_file, set_over)
    of_all = ["--log-level", given["log_level"]]
    of_all += ["-p", f"use_sim_time:={given['use_sim_time']}"]
    common += of_all
    names = remappings(given, sim, drivers)

    actions = [PushRosNamespace(given["namespace"])]
    if drivers:
        camera = str(config_file("realsense.yaml"))
        actions.append(ros_launch.include(driver_files[CAMERA], config_file=camera))
        actions.append(ros_launch.include(driver_files[LIDAR]))
    if sim:
        shared = ("world_seed", "use_sim_time", "log_level", *(topic.name for topic in TOPICS))
        of_sim = {name: given[name] for name in shared} | {
            "params_file": str(params_file),
            STAMPED: str(stamped).lower(),
            "namespace": "",  # it is pushed already
        }
        actions.append(ros_launch.include(HERE / "sim.launch.py", **of_sim))
    executables = ["drive"] if given["one_process"] == "true" else ["bev_builder", "sac_actor"]
    for executable in (*executables, "cmd_guard"):
        actions += ros_launch.node("tractor_inference", executable, common, names)
    if of_link:
        actions += ros_launch.node("tractor_link", "rover_link", common, names, essential=False)
        if given["model"]:
            actions.append(LogInfo(msg=OTHER_MODEL))
    for name, arguments in extrinsics.items():
        actions.append(
            _tool("tf2_ros", "static_transform_publisher", arguments, of_all, names, name)
        )
    if given["rviz"] == "true":
        shown = ["-d", str(config_file("sac_rover.rviz"))]
        actions.append(_tool("rviz2", "rviz2", shown, of_all, names))
    return [GroupAction(actions)]


def generate_launch_description():
    """Declare the arguments and start what they ask for."""
    return LaunchDescription(
        [
            *ros_launch.declare(ARGUMENTS),
            ros_launch.large_images(),
            OpaqueFunction(function=_start),
        ]
    )
