"""Start the simulated rover alone: it publishes its sensors and transforms and takes cmd_vel."""

from launch import LaunchDescription
from launch.actions import GroupAction, OpaqueFunction
from launch_ros.actions import PushRosNamespace

from tractor_bringup import ros_launch
from tractor_bringup.launch_arguments import (
    FLAG,
    LOG_LEVEL,
    NAMESPACE,
    PARAMS_FILE,
    STAMPED,
    STAMPED_COMMANDS,
    TOPICS,
    WORLD_SEED,
    Argument,
    name_problems,
    remappings,
    seed_problems,
    stamped_commands,
)
from tractor_core.errors import ParameterError

ARGUMENTS = (
    PARAMS_FILE,
    WORLD_SEED,
    NAMESPACE,
    STAMPED_COMMANDS,
    *TOPICS,
    Argument("use_sim_time", "false", "Publish /clock and stamp with it.", FLAG),
    LOG_LEVEL,
)


def _start(context):
    given = ros_launch.read(context, ARGUMENTS)
    problems = ros_launch.unknown(context, __file__, given)
    problems += name_problems(given, ["namespace", *(topic.name for topic in TOPICS)])
    problems += seed_problems(given["world_seed"])
    params_file = ros_launch.find_params_file(given["params_file"], problems)
    ros_launch.refuse(problems)
    try:
        stamped = stamped_commands(given[STAMPED], params_file)
    except ParameterError as error:
        raise RuntimeError(str(error)) from error
    own = {
        "world_seed": int(given["world_seed"]),
        "publish_clock": given["use_sim_time"] == "true",
        STAMPED: stamped,
    }
    arguments = ros_launch.parameter_arguments(params_file, {"sim": own})
    arguments += ["--log-level", given["log_level"]]
    names = remappings(given, sim=True, drivers=False)
    node = ros_launch.node("tractor_sim", "sim", arguments, names, respawn=False)
    return [GroupAction([PushRosNamespace(given["namespace"]), *node])]


def generate_launch_description():
    """Declare the arguments and start the node."""
    return LaunchDescription(
        [
            *ros_launch.declare(ARGUMENTS),
            ros_launch.large_images(),
            OpaqueFunction(function=_start),
        ]
    )
