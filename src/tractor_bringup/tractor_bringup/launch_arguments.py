"""What a launch file is told: its arguments, judged before anything starts, and what they become.

Needs no ROS; the launch files of this suite and its tests share it.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from tractor_core import frames, parameters
from tractor_core import robot as robots
from tractor_core.errors import LinkError, ParameterError
from tractor_core.text import printable
from tractor_link.parameters import LinkParameters
from tractor_link.reasons import require_address

PACKAGE = "tractor_bringup"
FLAG = ("true", "false")
FLAG_OR_FILE = ("", *FLAG)
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
# What ros2 launch itself puts among the arguments: its options --launch-prefix and ...-filter.
OF_ROS2_LAUNCH = ("launch-prefix", "launch-prefix-filter")
STAMPED = "enable_stamped_cmd_vel"
# Each has a section of the parameter file, or may have one, that says which kind of command.
STAMPED_NODES = ("sac_actor", "cmd_guard", "sim")

# Arguments for a frame_id, and the pose of the parameter file that places it.
EXTRINSICS = {"lidar_frame": "lidar_pose", "camera_frame": "camera_pose"}

# Where the camera driver publishes under its default names, relative to the namespace.
DRIVER_DEPTH_TOPIC = "camera/camera/depth/image_rect_raw"
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_PATH = re.compile(rf"/?{_NAME}(/{_NAME})*")
_FRAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")


@dataclasses.dataclass(frozen=True)
class Argument:
    """One launch argument; without a default it must be given."""

    name: str
    default: str | None
    doc: str
    choices: tuple[str, ...] | None = None


# What every launch file that starts nodes takes, worded once.
PARAMS_FILE = Argument(
    "params_file", "", "ROS 2 parameter file of all nodes; empty: config/sac_rover.yaml."
)
NAMESPACE = Argument("namespace", "", "ROS namespace of every node and relative topic.")
LOG_LEVEL = Argument("log_level", "info", "Least severe messages in the log.", LOG_LEVELS)
WORLD_SEED = Argument("world_seed", "0", "Seed of the simulated world, wheel slip and noise.")
STAMPED_COMMANDS = Argument(
    STAMPED,
    "",
    "TwistStamped in place of Twist, at all ends of the commands; empty: as in params_file.",
    FLAG_OR_FILE,
)
TOPICS = (
    Argument("scan_topic", "scan", "The scan, a LaserScan."),
    Argument(
        "depth_topic",
        "",
        "The depth image; empty: depth, with drivers:=true the camera driver's.",
    ),
    Argument(
        "camera_info_topic",
        "",
        "The depth image's CameraInfo; empty: camera_info beside depth_topic.",
    ),
    Argument("odom_topic", "odom", "Odometry of the base."),
    Argument("cmd_vel_raw_topic", "cmd_vel_raw", "Commands on their way to the guard."),
    Argument("cmd_vel_teleop_topic", "cmd_vel_teleop", "Commands of an operator, to the guard."),
    Argument("stop_topic", "stop", "A Bool; true stops the rover until ~/release is called."),
    Argument("cmd_vel_topic", "cmd_vel", "Commands to the base, from the guard alone."),
    Argument(
        "tf_topic",
        "",
        "Transforms, and with _static at its end the fixed ones; empty: /tf, with sim:=true tf in "
        "the namespace.",
    ),
)

FRAMES = (
    Argument(
        "lidar_frame",
        "",
        "Publish robot.lidar_pose as base_link -> this frame; empty: a URDF or driver does.",
    ),
    Argument(
        "camera_frame",
        "",
        "Publish robot.camera_pose as base_link -> this frame; empty: as above.",
    ),
)


def started_as(launch_file: Path, command_line: Sequence[str]) -> bool:
    """Return whether this launch file is the one that the command line names.

    What is included by another launch file has no say in that file's arguments.

    Args:
        launch_file: its own path, of the source or installed.
        command_line: as in sys.argv: ros2 launch PACKAGE FILE ..., or ros2 launch PATH ...
    """
    for position, word in enumerate(command_line):
        path = Path(word)
        if path.name != launch_file.name:
            continue
        if path.is_file() and path.resolve() == launch_file.resolve():
            return True
        if path.name == word and PACKAGE in command_line[:position]:
            return True
    return False


def unknown_arguments(arguments: Iterable[str], known: Collection[str]) -> list[str]:
    """Name each argument that nobody declares, with the known name that is nearest.

    ros2 launch passes them on silently: `simulate:=true` would start the rover on the real topics.

    Args:
        arguments: as given, NAME:=VALUE.
        known: the names that are declared.
    """
    problems = []
    for argument in arguments:
        name = argument.partition(":=")[0]
        if name not in known and name not in OF_ROS2_LAUNCH:
            nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
            hint = f" (did you mean {nearest[0]}?)" if nearest else ""
            problems.append(f"{printable(name)}: unknown argument{hint}")
    if problems:
        problems[-1] += f", expected one of {', '.join(sorted(known))}"
    return problems


def override_file(values: Mapping[str, Mapping[str, str | bool | int]]) -> str:
    """Return a parameter file that sets parameters of nodes over their sections of another one.

    By node, because one process may hold two and each refuses what is the other's. In a file,
    because the argument -p NODE:NAME:=VALUE finds its node in the root namespace only (rcl 9.2).

    Args:
        values: {node: {parameter: value}}.
    """
    sections = {f"/**/{node}": {"ros__parameters": dict(v)} for node, v in values.items()}
    return json.dumps(sections, ensure_ascii=False)  # JSON is YAML


def name_problems(given: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """Return what is wrong with topics and namespaces; empty ones are for their defaults."""
    return [
        f"{name}: expected letters, digits and _ between single slashes, "
        f"found {printable(repr(given[name]))}"
        for name in names
        if given[name] and not _PATH.fullmatch(given[name])
    ]


def frame_problems(given: Mapping[str, str], sim: bool) -> list[str]:
    """Return what is wrong with the values of FRAMES; empty ones are for nothing."""
    wanted = {name: given[name] for name in EXTRINSICS if given[name]}
    problems = [
        f"{name}: expected a frame_id such as base_laser, found {printable(repr(frame))}"
        for name, frame in wanted.items()
        if not _FRAME.fullmatch(frame)
    ]
    if wanted and sim:
        problems.append(f"{', '.join(wanted)}: the simulator publishes its own transforms")
    return problems


def extrinsics_arguments(given: Mapping[str, str], params_file: Path) -> dict[str, list[str]]:
    """Return {argument of FRAMES: arguments of tf2_ros static_transform_publisher}.

    Raises:
        ParameterError: the file cannot be used, or it takes the poses from TF itself.
    """
    wanted = {name: given[name] for name in EXTRINSICS if given[name]}
    if not wanted:
        return {}
    robot = robots.load(params_file)
    if robot.use_tf:
        raise ParameterError(
            f"{', '.join(wanted)}: robot.use_tf of {params_file} takes the poses from TF; expected "
            "false there, or no frame here"
        )
    arguments = {}
    for name, frame in wanted.items():
        placed = frames.extrinsics(robots.Pose(*getattr(robot, EXTRINSICS[name])), frame)
        numbers = dict(zip(("x", "y", "z"), placed.translation_m))
        numbers |= zip(("qx", "qy", "qz", "qw"), placed.quaternion)
        words = [word for key, value in numbers.items() for word in (f"--{key}", f"{value:.9g}")]
        words += ["--frame-id", placed.parent, "--child-frame-id", placed.child]
        arguments[name] = words
    return arguments


def link_parameters(given: Mapping[str, str], params_file: Path) -> dict[str, str]:
    """Return what is set over the section rover_link of the parameter file; none without nats.

    Raises:
        ParameterError: address or section cannot be used; that is known before anything drives.
    """
    if not given["nats"]:
        if given["accept_models"]:
            raise ParameterError("accept_models: needs nats:=nats://HOST:4222 too")
        return {}
    try:
        require_address(given["nats"])
    except LinkError as error:
        raise ParameterError(f"nats: {error}") from error
    set_over = {name: given[name] for name in ("calibration_dir", "accept_models") if given[name]}
    set_over |= {"address": given["nats"], "params_file": str(params_file)}
    section = parameters.read_file(params_file, "rover_link")
    if not parameters.fields_of(LinkParameters).keys() & section.keys():
        raise ParameterError(f"expected a section /**/rover_link in {params_file}, found none")
    link = parameters.from_values(LinkParameters, section | set_over)
    actor = parameters.read_file(params_file, "sac_actor")
    for name in ("experience_dir", "calibration_dir"):
        found, wanted = getattr(link, name), actor.get(name, getattr(link, name))
        if name not in set_over and found != wanted:
            raise ParameterError(
                f"{name} of sac_actor and rover_link: expected one folder, found {wanted!r} and "
                f"{found!r} in {params_file}"
            )
    return set_over


def seed_problems(seed: str) -> list[str]:
    """Return what is wrong with world_seed."""
    return (
        []
        if re.fullmatch("[0-9]{1,10}", seed)
        else [f"world_seed: expected a whole number from 0 on, found {printable(repr(seed))}"]
    )


def remappings(given: Mapping[str, str], sim: bool, drivers: bool) -> list[tuple[str, str]]:
    """Return (name in the nodes, topic) of every topic that is to have another name.

    Every node gets all of them, each uses those of its topics.

    Args:
        given: the values of TOPICS.
        sim: whether the simulated rover is started, which has its transforms in its namespace.
        drivers: whether the camera's driver is started.
    """
    depth = given["depth_topic"] or (DRIVER_DEPTH_TOPIC if drivers else "depth")
    # The rule of image_transport: an image's intrinsics have its folder.
    beside = "/".join([*depth.split("/")[:-1], "camera_info"])
    tf = given["tf_topic"] or ("tf" if sim else "/tf")
    pairs = [
        ("scan", given["scan_topic"]),
        ("depth", depth),
        ("camera_info", given["camera_info_topic"] or beside),
        ("odom", given["odom_topic"]),
        ("cmd_vel_raw", given["cmd_vel_raw_topic"]),
        ("cmd_vel_teleop", given["cmd_vel_teleop_topic"]),
        ("stop", given["stop_topic"]),
        ("cmd_vel", given["cmd_vel_topic"]),
    ]
    # tf2 listens to an absolute name, the simulator publishes on a relative one.
    for end in ("", "_static"):
        pairs += [(f"/tf{end}", f"{tf}{end}"), (f"tf{end}", f"{tf}{end}")]
    return [(name, topic) for name, topic in pairs if topic and name != topic]


def stamped_commands(given: str, params_file: Path) -> bool:
    """Return whether commands are stamped: as given, else as the parameter file says.

    Raises:
        ParameterError: the file cannot be read, or its sections do not agree. Then no command
            would arrive, without an error anywhere.
    """
    if given:
        return given == "true"
    sections = {node: parameters.read_file(params_file, node) for node in STAMPED_NODES}
    # The simulator follows where it has no section of its own.
    said = {
        node: bool(values.get(STAMPED, False))
        for node, values in sections.items()
        if node != "sim" or STAMPED in values
    }
    if len(set(said.values())) > 1:
        found = ", ".join(f"{str(value).lower()} for {node}" for node, value in said.items())
        raise ParameterError(
            f"{STAMPED}: expected one value for every node, found {found} in {params_file}; make "
            f"them alike, or give {STAMPED}:=true or false"
        )
    return said["cmd_guard"]
