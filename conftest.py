"""Shared fixtures: where the recordings are, and a ROS domain of the run's own."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent
PACKAGES = ("tractor_inference", "tractor_calibration", "tractor_sim", "tractor_bringup")

os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
os.environ["ROS_PYTHON_CHECK_FIELDS"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join(
    [*(str(ROOT / "src" / name) for name in PACKAGES), os.environ.get("PYTHONPATH", "")]
)


@pytest.fixture(scope="session")
def repository() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def params_file() -> Path:
    return ROOT / "config" / "sac_rover.yaml"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = Path(os.environ.get("TRACTOR_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"recordings are not at {folder}; set TRACTOR_SHARED_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def actor_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAC actor with random weights of a fixed seed."""
    import actor_factory
    import onnx

    path = tmp_path_factory.mktemp("actor") / "actor.onnx"
    onnx.save(actor_factory.make_actor(), path)
    return path
