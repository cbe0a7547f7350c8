"""The package tf2_msgs, where only ROS's wheels are: generated and compiled from its definition.

No wheel of it is published, but the generators that make such packages are. Seconds with gcc.
"""

import ctypes
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import pytest

DEFINITION = "geometry_msgs/TransformStamped[] transforms\n"  # tf2_msgs/msg/TFMessage, Jazzy
NEEDED = ("geometry_msgs", "std_msgs", "builtin_interfaces")
TYPES, SUPPORTS = ("c", "py"), ("c", "fastrtps_c", "introspection_c")


def generate(folder: Path, prefix: Path) -> None:
    """Write the sources below folder/generated."""
    from rosidl_cli import entry_points
    from rosidl_cli.command.generate.api import generate as rosidl_generate

    metadata = entry_points.importlib_metadata

    class Once:
        """The generators of the wheels, which are registered twice."""

        def select(self, group):
            return {e.name: e for e in metadata.entry_points().select(group=group)}.values()

    definition = folder / "msg" / "TFMessage.msg"
    definition.parent.mkdir(parents=True)
    definition.write_text(DEFINITION)
    share = prefix / "share"
    patch = pytest.MonkeyPatch()
    patch.setenv("AMENT_PREFIX_PATH", str(prefix))
    once = SimpleNamespace(entry_points=Once)
    patch.setattr(entry_points, "importlib_metadata", once)
    try:
        rosidl_generate(
            package_name="tf2_msgs",
            interface_files=[f"{folder}:msg/TFMessage.msg"],
            include_paths=[*(f"{name}:{share / name}" for name in NEEDED), str(share)],
            output_path=folder / "generated",
            types=list(TYPES),
            typesupports=list(SUPPORTS),
        )
    finally:
        patch.undo()


def compile_package(folder: Path, prefix: Path) -> None:
    """Compile the sources into folder/tf2_msgs and folder/lib."""
    import numpy as np

    generated, lib, package = folder / "generated", folder / "lib", folder / "tf2_msgs"
    headers = folder / "include" / "tf2_msgs"
    lib.mkdir()
    headers.mkdir(parents=True)
    for kind in dict.fromkeys((*SUPPORTS, *TYPES)):
        subprocess.run(["cp", "-r", f"{generated / kind}/.", str(headers)], check=True)
    (package / "msg").mkdir(parents=True)
    (package / "__init__.py").touch()
    for file in (generated / "py" / "msg").glob("*.py"):
        (package / "msg" / file.name).write_text(file.read_text())
    include = [headers.parent, prefix / "include", *(prefix / "include").iterdir()]
    include += [sysconfig.get_path("include"), np.get_include()]
    flags = ["-O0", "-fPIC", "-shared", "-w", *(f"-I{path}" for path in include)]
    flags += [f"-L{prefix / 'lib'}", f"-L{lib}"]
    flags += [f"-Wl,-rpath,{prefix / 'lib'}", f"-Wl,-rpath,{lib}"]

    def build(target, sources, *libraries):
        command = ["g++" if sources[0].suffix == ".cpp" else "gcc", *flags]
        command += [
            f"-Wl,-soname,{target.name}",
            *map(str, sources),
            "-o",
            str(target),
            *(f"-l{name}" for name in libraries),
        ]
        subprocess.run(command, check=True, capture_output=True, text=True)

    def library(kind, sources, *libraries):
        build(lib / f"libtf2_msgs__{kind}.so", list(sources), *libraries)

    ours, base = "tf2_msgs__rosidl_generator_c", "geometry_msgs__"
    c = generated / "c" / "msg"
    library("rosidl_generator_c", (c / "detail").glob("*.c"), f"{base}rosidl_generator_c",
            "rosidl_runtime_c", "rcutils")  # fmt: skip
    library("rosidl_typesupport_c", c.glob("*.cpp"), ours, "rosidl_typesupport_c")
    for kind, suffix, *more in (("fastrtps_c", "cpp", "fastcdr"), ("introspection_c", "c")):
        sources = (generated / kind / "msg" / "detail").glob(f"*.{suffix}")
        library(f"rosidl_typesupport_{kind}", sources, ours, f"{base}rosidl_typesupport_{kind}",
                *more)  # fmt: skip
    library("rosidl_generator_py", (generated / "py" / "msg").glob("*.c"), ours,
            f"{base}rosidl_generator_py")  # fmt: skip
    for kind in SUPPORTS:
        extension = f"_tf2_msgs_s.ep.rosidl_typesupport_{kind}.c"
        target = f"tf2_msgs_s__rosidl_typesupport_{kind}{sysconfig.get_config_var('EXT_SUFFIX')}"
        build(package / target, [generated / "py" / extension], ours,
              "tf2_msgs__rosidl_generator_py", f"tf2_msgs__rosidl_typesupport_{kind}")  # fmt: skip


def make_importable(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make the package in `folder` so that this process and its children can import it."""
    prefix = Path(sys.prefix)
    generate(folder, prefix)
    compile_package(folder, prefix)
    # What is loaded is found by its name; LD_LIBRARY_PATH reaches the children only.
    for kind in SUPPORTS:
        ctypes.CDLL(str(folder / "lib" / f"libtf2_msgs__rosidl_typesupport_{kind}.so"))
    patch.setattr(sys, "path", [str(folder), *sys.path])
    patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    patch.setenv("LD_LIBRARY_PATH", str(folder / "lib"), prepend=os.pathsep)
