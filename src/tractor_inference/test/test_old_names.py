"""Scripts of users that import what moved to tractor_core go on."""

import importlib
import os
import shutil
import subprocess
import sys

import pytest

import tractor_inference
from tractor_core.bev.builder import BevBuilder
from tractor_core.bev.fusion import Fusion
from tractor_core.bev.parameters import BuilderParameters
from tractor_core.sensors import DepthImage, Scan


@pytest.mark.parametrize("name", tractor_inference.MOVED)
def test_an_old_name_is_found_and_says_where_it_went(name):
    with pytest.warns(DeprecationWarning, match=f"tractor_inference.{name} is now tractor_"):
        old = importlib.import_module(f"tractor_inference.{name}")
        importlib.reload(old)
    assert old.__doc__ is None and old.__name__ == f"tractor_inference.{name}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_names_are_the_same_objects():
    bev, fusion = (importlib.import_module(f"tractor_inference.{n}") for n in ("bev", "fusion"))
    assert (bev.Scan, bev.DepthImage, bev.BevBuilder) == (Scan, DepthImage, BevBuilder)
    assert (fusion.Fusion, fusion.BuilderParameters) == (Fusion, BuilderParameters)


def test_what_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("tractor_inference.never")


@pytest.mark.parametrize(
    "module", ["tractor_inference.cmd_guard_node", "tractor_sim.sim_node", "tractor_sim.train"]
)
def test_what_was_run_by_an_old_name_still_is(module):
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: " in done.stdout


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "name",
    [
        "messages.intrinsics_from_message", "messages.image_size_from_message",
        "messages.scan_from_message", "coverage.CoverageSet", "odometry.HELD", "bev.HELD",
        "frames.mounting", "backends.open_backend", "backends.base.Backend", "policy.Policy",
        "manifest.load", "scan.Scan", "errors.SensorError", "doctor.main",
    ],
)  # fmt: skip
def test_what_scripts_imported_is_found(name):
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(f"tractor_inference.{module}"), attribute)


def test_folders_that_an_update_leaves_behind_do_not_hide_them(repository, tmp_path):
    package = tmp_path / "tractor_inference"
    shutil.copytree(repository / "src/tractor_inference/tractor_inference", package)
    for name in ("backends", "doctor"):
        (package / name / "__pycache__").mkdir(parents=True)
    code = (
        "import tractor_inference.backends as b, tractor_inference.doctor as d; b.Backend, d.main"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_scripts_called_is_there():
    fusion = importlib.import_module("tractor_inference.fusion").Fusion
    assert (fusion.draw, fusion.mount) == (fusion.rasterize, fusion.set_extrinsics)
