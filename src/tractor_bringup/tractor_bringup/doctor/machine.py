"""What the machine brings: Python, libraries, ROS 2, the transport, disks, the clock.

A check returns lines and may raise anything: the command makes a failed line of that. System files
are read below `Host.root`.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
import xml.etree.ElementTree
from collections.abc import Collection
from pathlib import Path

from tractor_core import outside, paths
from tractor_core.errors import ParameterError

from .host import FAIL, LIBRARIES, OK, RCLPY, ROVER, SETUP, WARN, Host, Imports, Line

PYTHONS = ((3, 10), (3, 12))
PROFILES = "FASTRTPS_DEFAULT_PROFILES_FILE"
# As in config/fastdds.xml.
RECEIVE_BUFFER_BYTES = 4_194_304

# What rknn-toolkit2 imports and does not bring itself.
TOOLKIT_IMPORTS = ("torch", "pkg_resources", "onnx", "cv2", "scipy", "psutil", "tqdm")
MEGABYTE = 1_000_000
LITTLE_DISK_BYTES, NO_DISK_BYTES = 1000 * MEGABYTE, 100 * MEGABYTE
# Five processes with the 32 MB segments of config/fastdds.xml and what they queue.
LITTLE_SHM_BYTES = 256 * MEGABYTE
# Before the first release: the clock was never set.
FIRST_YEAR, LAST_YEAR = 2025, 2100


def python() -> list[Line]:
    """Check the version of Python."""
    version = f"{platform.python_version()}, {sys.executable}"
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return [Line("Python", OK, version)]
    remedy = "install CPython 3.10, 3.11 or 3.12, then make setup PYTHON=/path/to/python3"
    return [Line("Python", FAIL, f"expected 3.10 to 3.12, found {version}", remedy)]


def libraries(imports: Imports, needed: Collection[str]) -> list[Line]:
    """Import the libraries; one that is `needed` fails when it cannot be imported."""
    lines = []
    for module, (name, _, purpose) in LIBRARIES.items():
        version, reason = imports.result(module)
        if not reason:
            lines.append(Line(name, OK, version))
            continue
        status = FAIL if module in needed else WARN
        lines.append(Line(name, status, f"{reason}; needed by {purpose}", SETUP))
    return lines


def ros(host: Host, imports: Imports) -> list[Line]:
    """Check that rclpy and its middleware load, and what nodes would find each other by."""
    if not host.has_ros:
        if host.kind == ROVER:
            remedy = "install apt ROS 2 Jazzy, then source install/setup.bash"
            return [Line("ROS 2", FAIL, "rclpy cannot be found: no node can start", remedy)]
        return [Line("ROS 2", OK, "not here; check, convert and harvest do not need it")]
    middleware, reason = imports.result(RCLPY)
    if reason:
        remedy = "source /opt/ros/jazzy/setup.bash and install/setup.bash, or make setup"
        return [Line("ROS 2", FAIL, f"rclpy does not start: {reason}", remedy)]
    distro = host.environ.get("ROS_DISTRO", "")
    found = f"{distro or 'Python wheels'}, {middleware}"
    lines = [Line("ROS 2", OK, found)]
    if distro not in ("", "jazzy"):
        lines = [Line("ROS 2", WARN, f"{found}; the suite is made for jazzy", "use ROS 2 Jazzy")]
    return [*lines, _ros_network(host)]


def _ros_network(host: Host) -> Line:
    domain = host.environ.get("ROS_DOMAIN_ID") or "0"
    reach = host.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") or "SUBNET"
    found = f"ROS_DOMAIN_ID {domain}, discovery range {reach}"
    if not re.fullmatch("[0-9]{1,4}", domain) or int(domain) > 232:
        return Line("ROS network", FAIL, found, "set ROS_DOMAIN_ID to a number from 0 to 101")
    problems, remedies = [], []
    if 101 < int(domain) < 215:
        problems.append("its ports may be taken by outgoing connections")
        remedies.append("set ROS_DOMAIN_ID to a number from 0 to 101")
    if reach not in ("SUBNET", "LOCALHOST", "SYSTEM_DEFAULT"):
        problems.append(
            "nodes will not find each other" if reach == "OFF" else "ROS reads this as LOCALHOST"
        )
        remedies.append("set ROS_AUTOMATIC_DISCOVERY_RANGE to SUBNET or LOCALHOST")
    status = WARN if problems else OK
    return Line("ROS network", status, "; ".join([found, *problems]), "; ".join(remedies))


def _profile(host: Host) -> Path:
    return Path(host.environ.get(PROFILES) or paths.config_file("fastdds.xml"))


def workspace() -> list[Line]:
    """Check that launch files and scripts of the sourced workspace are those of its checkout."""
    prefix = paths.sourced_prefix()
    if prefix is None:
        return []
    stale = paths.stale_copies()
    if not stale:
        return [Line("workspace", OK, str(prefix))]
    pairs = ", ".join(f"{copy.name} of {source}" for copy, source in stale)
    found = f"{prefix} holds older copies: {pairs}"
    remedy = "run make build in the checkout, which links its files, and source install/setup.bash"
    return [Line("workspace", FAIL, found, remedy)]


def fast_dds(host: Host) -> list[Line]:
    """Check that the profile with which large images arrive is there and readable."""
    middleware = host.environ.get("RMW_IMPLEMENTATION") or "rmw_fastrtps_cpp"
    if "fastrtps" not in middleware:
        return [Line("Fast DDS", OK, f"not used, RMW_IMPLEMENTATION is {middleware}")]
    given = bool(host.environ.get(PROFILES))
    remedy = f"export {PROFILES}=$PWD/config/fastdds.xml"
    try:
        file = _profile(host)
    except ParameterError as error:
        return [Line("Fast DDS", WARN, f"{error}: large images are lost", remedy)]
    try:
        if not file.is_file():
            raise FileNotFoundError("no such file")
        xml.etree.ElementTree.fromstring(outside.read_bytes(file))
    except (OSError, ValueError, xml.etree.ElementTree.ParseError) as error:
        return [Line("Fast DDS", FAIL, f"the profile {file} cannot be read: {error}", remedy)]
    origin = PROFILES if given else f"of the launch files; other processes need {PROFILES}"
    return [Line("Fast DDS", OK, f"{file} ({origin})")]


def udp_buffers(host: Host) -> list[Line]:
    """Check that the kernel grants the receive buffer that config/fastdds.xml asks for."""
    try:
        limit = int((host.root / "proc/sys/net/core/rmem_max").read_text())
    except FileNotFoundError:
        return [Line("UDP buffers", OK, "a container's; net.core.rmem_max is set outside of it")]
    found = f"net.core.rmem_max {limit}"
    if limit >= RECEIVE_BUFFER_BYTES:
        return [Line("UDP buffers", OK, found)]
    if host.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == "LOCALHOST":
        return [Line("UDP buffers", OK, f"{found}; on one machine images go by shared memory")]
    found += f", {RECEIVE_BUFFER_BYTES} is wanted: images from or to other machines may be lost"
    return [Line(
        "UDP buffers", WARN, found,
        f"sudo sysctl -w net.core.rmem_max={RECEIVE_BUFFER_BYTES}; on one machine alone, export "
        "ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST",
    )]  # fmt: skip


def shared_memory(host: Host) -> list[Line]:
    """Check that there is room for the images between processes."""
    folder = host.root / "dev/shm"
    free = shutil.disk_usage(folder).free if folder.is_dir() else 0
    found = f"{free // MEGABYTE} MB free in {folder}"
    if free >= LITTLE_SHM_BYTES:
        return [Line("shared memory", OK, found)]
    return [Line(
        "shared memory", WARN,
        f"{found}, {LITTLE_SHM_BYTES // MEGABYTE} MB are wanted: images may be lost",
        "fastdds shm clean removes what dead processes left; give a container --shm-size=512m",
    )]  # fmt: skip


def toolkit() -> list[Line]:
    """Check rknn-toolkit2 without importing it, which takes seconds."""
    from tractor_inference.model import rknn_toolkit

    name = rknn_toolkit.DISTRIBUTION
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = "not installed: convert and the backend rknn_sim need it"
        return [Line(name, WARN, found, f"{SETUP} (CPython 3.10 to 3.12)")]
    missing = [module for module in TOOLKIT_IMPORTS if importlib.util.find_spec(module) is None]
    problems = [f"it imports {', '.join(missing)}, found none"] if missing else []
    numpy = importlib.metadata.version("numpy")
    if int(numpy.split(".")[0]) > 1:
        problems.append(f"expected numpy below 2, found {numpy}")
    if problems:
        return [Line(name, WARN, f"{version} will not start: {'; '.join(problems)}", SETUP)]
    return [Line(name, OK, version)]


def disk(name: str, folder: Path) -> list[Line]:
    """Check that a folder, or what it would be made in, can be written and has space."""
    place = folder.absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    found = f"{free / 1e9:.1f} GB free for {folder}"
    if place != folder.absolute():
        found = f"{free / 1e9:.1f} GB free in {place}, where {folder} would be made"
    if not os.access(place, os.W_OK | os.X_OK):
        remedy = f"sudo chown $USER {place}, or name another folder"
        return [Line(name, FAIL, f"{place} cannot be written by this user", remedy)]
    if free >= LITTLE_DISK_BYTES:
        return [Line(name, OK, found)]
    status = WARN if free >= NO_DISK_BYTES else FAIL
    return [Line(name, status, found, "free space there; nothing is deleted for you")]


def clock(year: int | None = None) -> list[Line]:
    """Check that the clock was set; stamps and the names of samples depend on it."""
    now = datetime.datetime.now().astimezone()
    year = now.year if year is None else year
    if FIRST_YEAR <= year <= LAST_YEAR:
        return [Line("clock", OK, now.isoformat(" ", "seconds"))]
    remedy = "timedatectl set-ntp true, or sudo date -s ..., before anything drives or samples"
    return [Line("clock", FAIL, f"the year is {year}: the clock was not set", remedy)]
