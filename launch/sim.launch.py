"""Start the simulated rover alone: it publishes its sensors and takes cmd_vel."""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

# ros2 launch dies of SIGTERM without passing it on: no node may outlive it.
STOP_WITH_LAUNCH = "setpriv --pdeathsig INT"
CONFIG = Path(__file__).resolve().parent.parent / "config"
ARGUMENTS = (
    ("params_file", str(CONFIG / "sac_rover.yaml"), "ROS 2 parameter file.", None),
    ("world_seed", "0", "Seed of world, wheel slip and sensor noise.", None),
    ("namespace", "", "ROS namespace of the node and its topics.", None),
    ("use_sim_time", "false", "Publish /clock and stamp with it.", ("true", "false")),
    ("log_level", "info", "debug, info, warn, error or fatal.", None),
)


def generate_launch_description():
    """Declare the arguments and start the node."""
    profiles = "FASTRTPS_DEFAULT_PROFILES_FILE"
    default_profiles = EnvironmentVariable(profiles, default_value=str(CONFIG / "fastdds.xml"))
    given = {name: LaunchConfiguration(name) for name, *_ in ARGUMENTS}
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    name, default_value=default, description=text, choices=choices
                )
                for name, default, text, choices in ARGUMENTS
            ),
            SetEnvironmentVariable(profiles, default_profiles),
            Node(
                package="tractor_sim",
                executable="sim",
                name="sim",
                namespace=given["namespace"],
                parameters=[
                    given["params_file"],
                    {
                        "world_seed": ParameterValue(given["world_seed"], value_type=int),
                        "publish_clock": given["use_sim_time"],
                    },
                ],
                ros_arguments=["--log-level", given["log_level"]],
                output="screen",
                exec_name="sim",
                prefix=STOP_WITH_LAUNCH,
            ),
        ]
    )
