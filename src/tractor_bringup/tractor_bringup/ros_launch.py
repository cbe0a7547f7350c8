"""What the launch files share: declared and judged arguments, nodes without files left behind."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    GroupAction,
    IncludeLaunchDescription,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.events import matches_action
from launch.events.process import ShutdownProcess
from launch.launch_context import LaunchContext
from launch.substitutions import EnvironmentVariable
from launch_ros.actions import Node

from tractor_core.child import stops_with_starter
from tractor_core.errors import ParameterError
from tractor_core.paths import config_file, default_params_file, require_current

from . import launch_arguments
from .launch_arguments import Argument

REFUSED_PARAMETERS = 2
# ros2 launch dies of SIGTERM without passing it on: no node may outlive it.
STOP_WITH_LAUNCH = " ".join(stops_with_starter("TERM"))
RESPAWN_DELAY_S = 1.0


def declare(arguments: Iterable[Argument]) -> list[DeclareLaunchArgument]:
    """Return the actions that declare these arguments."""
    return [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.doc,
            choices=argument.choices,
        )
        for argument in arguments
    ]


def large_images() -> SetEnvironmentVariable:
    """Return the action that gives every process Fast DDS's profile for large images."""
    name = "FASTRTPS_DEFAULT_PROFILES_FILE"
    ours = str(config_file("fastdds.xml"))
    return SetEnvironmentVariable(name, EnvironmentVariable(name, default_value=ours))


def read(context: LaunchContext, arguments: Iterable[Argument]) -> dict[str, str]:
    """Return the values of the arguments, which must be declared."""
    return {argument.name: context.launch_configurations[argument.name] for argument in arguments}


def unknown(context: LaunchContext, launch_file: str, known: Collection[str]) -> list[str]:
    """Name the arguments on the command line that are not known, if this file was started by it."""
    file = Path(launch_file)
    require_current(file)
    if not launch_arguments.started_as(file, sys.argv):
        return []
    return launch_arguments.unknown_arguments(context.argv, known)


def find_params_file(given: str, problems: list[str]) -> Path | None:
    """Return the parameter file that is meant, or add to the problems why there is none."""
    if given:
        if Path(given).is_file():
            return Path(given).absolute()
        problems.append(f"params_file: expected a file, found none at {given}")
        return None
    try:
        return default_params_file()
    except ParameterError as error:
        problems.append(str(error))
        return None


def refuse(problems: Sequence[str]) -> None:
    """Raise one error that names every problem, or return when there is none."""
    if problems:
        raise RuntimeError("; ".join(problems))


def include(launch_file: str | Path, **arguments: str) -> GroupAction:
    """Include a launch file scoped, so that its arguments do not become those of the includer."""
    source = IncludeLaunchDescription(str(launch_file), launch_arguments=arguments.items())
    return GroupAction([source])


def parameter_arguments(
    params_file: Path, values: Mapping[str, Mapping[str, str | bool | int]]
) -> list[str]:
    """Return ROS arguments: the parameter file, then what is set over it, {node: {name: value}}.

    That is in memory of this process, opened through /proc: however the launch ends, also by a
    signal, nothing of it stays. Of what is given as `parameters` launch leaves files in /tmp.
    """
    if not any(values.values()):
        return ["--params-file", str(params_file)]
    memory = os.memfd_create("parameters")
    os.write(memory, launch_arguments.override_file(values).encode())
    overrides = f"/proc/{os.getpid()}/fd/{memory}"
    return ["--params-file", str(params_file), "--params-file", overrides]


def node(
    package: str,
    executable: str,
    ros_arguments: Iterable[str],
    remappings: Iterable[tuple[str, str]],
    respawn: bool = True,
    essential: bool = True,
    **more: Any,
) -> list[Any]:
    """Return the actions that run a process of the suite until the launch ends.

    It is started again when it dies, as the actor does on purpose when an inference hangs. One
    that ends with 0 was asked to, and stays away; refused parameters of what is essential end the
    launch.

    Args:
        ros_arguments: the parameters are among them.
        essential: False where the rover drives on without it, also when it refuses its parameters.
    """
    # No name: it would be given to both nodes of `drive`. Each has its own from the start.
    action = Node(
        package=package,
        executable=executable,
        # Its rights, where ROS's security is on: config/sros2_policy.xml.
        ros_arguments=[*ros_arguments, "--enclave", f"/{executable}"],
        remappings=list(remappings),
        output="screen",
        exec_name=executable,
        prefix=STOP_WITH_LAUNCH,
        respawn=respawn,
        respawn_delay=RESPAWN_DELAY_S,
        **more,
    )
    ended = functools.partial(_ended, essential=essential)
    return [RegisterEventHandler(OnProcessExit(target_action=action, on_exit=ended)), action]


def _ended(event: Any, context: LaunchContext, essential: bool = True) -> EmitEvent | None:
    if event.returncode == REFUSED_PARAMETERS and essential:
        raise RuntimeError(f"{event.process_name} refused its parameters, see its error above")
    if event.returncode in (0, REFUSED_PARAMETERS):
        # Before the delay is over: it is not started again.
        return EmitEvent(event=ShutdownProcess(process_matcher=matches_action(event.action)))
    return None
