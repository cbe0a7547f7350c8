"""The machine as the checks see it, and what a check says."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

OK, WARN, FAIL = "ok", "warn", "fail"
ROVER, PC_WITH_ROS, PC = "rover", "PC with ROS 2", "PC without ROS 2"
PC_WITH_WHEELS = "PC with the Python wheels of ROS 2"
SETUP = "make setup, then use .venv/bin/python"
# {module: (its name, what prints its version, what needs it)}
LIBRARIES = {
    "numpy": ("numpy", "numpy.__version__", "everything"),
    "yaml": ("PyYAML", "yaml.__version__", "the parameter file"),
    "numba": ("numba", "numba.__version__", "the grid with kernel: numba"),
    "cv2": ("OpenCV", "cv2.__version__", "the grid with kernel: opencv, and rknn-toolkit2"),
    "onnx": ("onnx", "onnx.__version__", "convert and the backend onnx"),
    "onnxruntime": ("onnxruntime", "onnxruntime.__version__", "convert and the backend onnx"),
}
RCLPY, LITE = "rclpy", "rknnlite.api"
_ANSWERS = {RCLPY: "rclpy.get_rmw_implementation_identifier()", LITE: "''"}
IMPORT_LIMIT_S = 20.0


@dataclasses.dataclass(frozen=True)
class Line:
    """One finding: `status` is ok, warn or fail; `remedy` is for warn and fail."""

    name: str
    status: str
    found: str
    remedy: str = ""


@dataclasses.dataclass(frozen=True)
class Host:
    """The machine as the checks see it.

    Attributes:
        root: folder that the system's files are below.
        environ: environment variables.
        architecture: as `uname -m` says.
        has_ros: rclpy is there to import.
    """

    root: Path = Path("/")
    environ: Mapping[str, str] = dataclasses.field(default_factory=lambda: dict(os.environ))
    architecture: str = dataclasses.field(default_factory=platform.machine)
    has_ros: bool = dataclasses.field(
        default_factory=lambda: importlib.util.find_spec(RCLPY) is not None
    )

    @property
    def board(self) -> tuple[str, ...]:
        """Names in the device tree, the most specific first; empty where there is none."""
        try:
            names = (self.root / "proc/device-tree/compatible").read_bytes()
        except OSError:
            return ()
        return tuple(names.decode(errors="replace").strip("\0").split("\0"))

    @property
    def kind(self) -> str:
        """Return ROVER for a Rockchip board, else which ROS 2 a PC has."""
        if any(name.startswith("rockchip,") for name in self.board):
            return ROVER
        if not self.has_ros:
            return PC
        return PC_WITH_ROS if self.has_launch else PC_WITH_WHEELS

    @property
    def has_launch(self) -> bool:
        """The command ros2 is there, which the wheels do not bring."""
        return shutil.which("ros2", path=self.environ.get("PATH")) is not None

    @property
    def starts_rover(self) -> bool:
        """./start_sac_rover.sh is what to start: on a rover, on a PC with a sourced workspace."""
        if self.kind != PC_WITH_ROS:
            return self.kind == ROVER
        prefixes = self.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
        return any(Path(p, "share/tractor_bringup").is_dir() for p in prefixes if p)

    def command(self, package: str, verb: str) -> str:
        """Return how a verb is run here."""
        if self.has_launch:
            return f"ros2 run {package} {verb}"
        return f"{sys.executable} -m {package} {verb}"


class Imports:
    """Imports modules in children, all at once: a broken library ends its child only."""

    def __init__(self, host: Host) -> None:
        answers = {module: version for module, (_, version, _) in LIBRARIES.items()}
        answers |= {RCLPY: _ANSWERS[RCLPY]} if host.has_ros else {}
        answers |= {LITE: _ANSWERS[LITE]} if host.kind == ROVER else {}
        pool = concurrent.futures.ThreadPoolExecutor(len(answers))
        self._found = {m: pool.submit(self._import, m, answer) for m, answer in answers.items()}
        pool.shutdown(wait=False)

    @staticmethod
    def _import(module: str, answer: str) -> tuple[str, str]:
        command = [sys.executable, "-c", f"import {module}; print({answer})"]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=IMPORT_LIMIT_S
            )
        except subprocess.TimeoutExpired:
            return "", f"its import takes longer than {IMPORT_LIMIT_S:g} s"
        except OSError as error:
            return "", f"its import was not tried: {error}"
        if done.returncode < 0:
            return "", f"its import dies of signal {-done.returncode}"
        said = done.stderr if done.returncode else done.stdout
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        if done.returncode == 0:
            return last, ""
        if last == f"ModuleNotFoundError: No module named {module!r}":
            return "", "not installed"
        return "", f"its import fails: {last}"

    def result(self, module: str) -> tuple[str, str]:
        """Return what the module answered, and why it cannot be imported; one of them is empty."""
        return self._found[module].result()


def in_the_way(name: str, folder: Path) -> list[Line]:
    """Return the line for a path where a file is in place of a folder, else nothing."""
    if folder.is_dir() or not os.path.lexists(folder):
        return []
    found = f"expected a folder or nothing at {folder}, found a file or a link that leads nowhere"
    return [Line(name, FAIL, found, "move it away")]
