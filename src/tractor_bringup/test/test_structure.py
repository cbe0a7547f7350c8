"""The suite's modules keep their layers: pure ones need no ROS; `make lint` checks the arrows."""

import ast
import re
import subprocess
import sys

import pytest

PACKAGES = (
    "tractor_core", "tractor_inference", "tractor_calibration", "tractor_sim", "tractor_training",
    "tractor_bringup", "tractor_link",
)  # fmt: skip
LIGHT = {*sys.stdlib_module_names, *PACKAGES, "numpy", "yaml"}
# Whole modules that one library is for; they are imported only by who asks for them.
LIBRARY_MODULES = {
    "tractor_core.bev.numba_kernel": {"numba"},
    "tractor_core.bev.opencv_kernel": {"cv2"},
    "tractor_training.sac": {"torch"},
}
ROS = {
    "ament_index_python", "builtin_interfaces", "diagnostic_msgs", "geometry_msgs", "launch",
    "launch_ros", "lifecycle_msgs", "nav_msgs", "rcl_interfaces", "rclpy", "rosgraph_msgs",
    "rosidl_runtime_py", "sensor_msgs", "std_msgs", "std_srvs", "tf2_msgs", "tf2_ros",
}  # fmt: skip
IMPORT_WITHOUT_ROS = f"""
import importlib, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ROS}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocker())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def modules(repository, package):
    folder = repository / "src" / package
    return {
        ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((folder / package).rglob("*.py"))
    }


def is_pure(path):
    return "nodes" not in path.parts and not path.name.startswith("ros_")


def imported(nodes):
    """Yield the top-level names that these syntax nodes import absolutely."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_pure_modules_import_without_ros(repository, package):
    names = [name for name, path in modules(repository, package).items() if is_pure(path)]
    assert names
    command = [sys.executable, "-c", IMPORT_WITHOUT_ROS, *names]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_pure_modules_import_heavy_libraries_only_where_they_use_them(repository, package):
    heavy = {
        name: unexpected
        for name, path in modules(repository, package).items()
        if is_pure(path) and (unexpected := {*imported(ast.parse(path.read_text()).body)} - LIGHT)
    }
    assert heavy == {n: used for n, used in LIBRARY_MODULES.items() if n.startswith(f"{package}.")}
    for path in modules(repository, package).values():
        eager = {
            f"{package}.{node.module}"
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.ImportFrom) and node.level == 1
        }
        assert not eager & {*LIBRARY_MODULES}, path


@pytest.mark.parametrize("package", PACKAGES)
def test_the_manifest_names_what_the_package_imports(repository, package):
    manifest = (repository / "src" / package / "package.xml").read_text()
    files = modules(repository, package).values()
    used = {
        name
        for path in (*files, *(repository / "src" / package / "launch").glob("*.py"))
        for name in imported(ast.walk(ast.parse(path.read_text())))
    }
    named = set(re.findall("<exec_depend>(.*)</exec_depend>", manifest))
    # The Python module tf2_ros is in a package of its own.
    named |= {"tf2_ros"} & {name.removesuffix("_py") for name in named}
    ours = used & {*PACKAGES} - {package}
    assert ours <= named
    assert named & ROS == used & ROS
