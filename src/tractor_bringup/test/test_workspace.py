"""What a user does with a checkout before anything drives: make, colcon, the start scripts."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ("tractor_bringup", "tractor_calibration", "tractor_inference", "tractor_sim")


def run(*command, cwd, **environment):
    return subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def colcon(*arguments, cwd):
    command = Path(sys.executable).with_name("colcon")
    if not command.is_file():
        pytest.skip("colcon is not installed beside this Python; make setup installs it")
    return run(command, *arguments, cwd=cwd)


def copy_of(repository, folder):
    """Copy what colcon and make need, links as links."""
    folder.mkdir(exist_ok=True)
    for name in ("src", "launch", "config", "requirements"):
        shutil.copytree(repository / name, folder / name, symlinks=True)
    shutil.copy(repository / "Makefile", folder)
    return folder


# make


def test_help_lists_every_target(repository):
    done = run("make", cwd=repository)
    phony = re.search(r"^\.PHONY: (.*)$", (repository / "Makefile").read_text(), re.MULTILINE)
    listed = re.findall(r"^  make (\S+) +\S", done.stdout, re.MULTILINE)
    assert done.returncode == 0
    assert sorted(listed) == sorted(phony[1].split())


def test_setup_names_the_pythons_it_wants(repository, tmp_path):
    copy = copy_of(repository, tmp_path)
    done = run("make", "setup", "PYTHON=false", "ROS=/nowhere", cwd=copy)
    assert done.returncode != 0
    assert "expected CPython 3.10, 3.11 or 3.12" in done.stderr
    assert not (copy / ".venv").exists()


def test_setup_asks_for_apt_ros_on_aarch64(repository, tmp_path):
    copy = copy_of(repository, tmp_path)
    uname = copy / "bin" / "uname"
    uname.parent.mkdir()
    uname.write_text("#!/bin/sh\necho aarch64\n")
    uname.chmod(0o755)
    path = f"{uname.parent}{os.pathsep}{os.environ['PATH']}"
    done = run("make", "setup", "ROS=/nowhere", cwd=copy, PATH=path)
    assert done.returncode != 0
    assert "on aarch64 install apt ROS 2 Jazzy" in done.stderr
    assert not (copy / ".venv").exists()


def test_clean_keeps_samples_and_models(repository, tmp_path):
    copy = copy_of(repository, tmp_path)
    kept = [copy / "calibration_data" / "calib_1.npz", copy / "models" / "actor.rknn"]
    for file in (*kept, copy / "install" / "setup.bash"):
        file.parent.mkdir(parents=True)
        file.touch()
    assert run("make", "clean", cwd=copy).returncode == 0
    assert all(file.exists() for file in kept)
    assert not (copy / "install").exists()


def test_requirements_are_pinned_exactly(repository):
    for file in (repository / "requirements").glob("*.txt"):
        lines = [line for line in file.read_text().splitlines() if line and line[0] != "#"]
        assert lines
        assert [line for line in lines if not re.match(r"[\w.-]+==[\w.]+(; .+)?$", line)] == []


# colcon


def test_colcon_sees_four_ament_python_packages(repository):
    done = colcon("list", "--base-paths", "src", cwd=repository)
    listed = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(name, kind) for name, _, kind in listed] == [
        (name, "(ros.ament_python)") for name in PACKAGES
    ]


@pytest.mark.slow
@pytest.mark.parametrize("mode", [[], ["--symlink-install"]], ids=["plain", "symlink"])
def test_colcon_build_installs_commands_launch_files_and_parameters(repository, tmp_path, mode):
    copy = copy_of(repository, tmp_path)
    done = colcon("build", "--base-paths", "src", *mode, cwd=copy)
    assert done.returncode == 0, done.stderr
    bringup = copy / "install" / "tractor_bringup"
    for folder in ("launch", "config"):
        wanted = {path.name: path.read_text() for path in (repository / folder).iterdir()}
        found = (bringup / "share" / "tractor_bringup" / folder).iterdir()
        assert {path.name: path.read_text() for path in found} == wanted
    commands = {
        path.name
        for package in PACKAGES
        for path in (copy / "install" / package / "lib" / package).iterdir()
        if os.access(path, os.X_OK)
    }
    assert commands >= {
        "bev_builder", "sac_actor", "cmd_guard", "drive", "sim", "replay", "check", "convert",
        "harvest", "doctor", "models",
        "start_sac_rover.sh", "convert_onnx_to_rknn.sh",
    }  # fmt: skip


@pytest.mark.slow
def test_colcon_build_refuses_a_checkout_without_symbolic_links(repository, tmp_path):
    copy = copy_of(repository, tmp_path)
    link = copy / "src" / "tractor_bringup" / "launch"
    link.unlink()
    link.write_text("../../launch")
    done = colcon("build", "--base-paths", "src", cwd=copy)
    assert done.returncode != 0
    assert "check out the repository with symbolic links" in done.stderr


# The scripts of the guide


@pytest.mark.parametrize("script", ["start_sac_rover.sh", "convert_onnx_to_rknn.sh"])
def test_scripts_print_their_usage(repository, script):
    done = run(repository / script, "-h", cwd=repository)
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: {script}")


@pytest.mark.parametrize("script", ["start_sac_rover.sh", "convert_onnx_to_rknn.sh"])
def test_scripts_refuse_a_nats_address(repository, script):
    done = run(repository / script, "nats://rover.example:4222", cwd=repository)
    assert done.returncode == 2
    assert "not connected yet, found the address nats://rover.example:4222" in done.stderr
    assert "./convert_onnx_to_rknn.sh models/NAME.onnx calibration_data" in done.stderr


def test_start_script_refuses_what_is_no_launch_argument(repository):
    done = run(repository / "start_sac_rover.sh", "models/actor.rknn", cwd=repository)
    assert done.returncode == 2
    assert "expected NAME:=VALUE, found models/actor.rknn" in done.stderr


def test_convert_script_hands_on_the_exit_code(repository, tmp_path):
    script = repository / "convert_onnx_to_rknn.sh"
    assert run(script, cwd=tmp_path).returncode == 2
    missing = run(script, "missing.onnx", cwd=tmp_path)
    assert missing.returncode not in (0, 1)
    assert "missing.onnx" in missing.stderr


@pytest.fixture
def ros2(tmp_path):
    """A ros2 command that says what it is asked, and a function that runs a script with it."""
    command = tmp_path / "bin" / "ros2"
    command.parent.mkdir()
    command.write_text('#!/bin/sh\necho "ros2 $@"\n')
    command.chmod(0o755)

    def start(checkout, *prefixes):
        path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
        prefixes = os.pathsep.join(map(str, prefixes))
        script = checkout / "src/tractor_bringup/scripts/start_sac_rover.sh"
        return run(script, "sim:=true", cwd=checkout, PATH=path, AMENT_PREFIX_PATH=prefixes)

    return start


def test_start_script_asks_for_a_build(repository, tmp_path, ros2):
    copy = copy_of(repository, tmp_path / "rover")
    done = ros2(copy, "/nowhere")
    assert done.returncode == 2
    assert f"expected a built workspace, found none; run in {copy}: make build" in done.stderr


@pytest.mark.parametrize("record", ["linked", "copied", "moved"])
def test_start_script_drives_with_its_own_checkout_only(repository, tmp_path, ros2, record):
    copy, other = (copy_of(repository, tmp_path / name) for name in ("rover", "other"))
    prefix = copy / "install" / "tractor_bringup"
    share = prefix / "share" / "tractor_bringup"
    share.mkdir(parents=True)
    if record == "linked":
        (share / "package.xml").symlink_to(copy / "src/tractor_bringup/package.xml")
    else:
        shutil.copy(copy / "src/tractor_bringup/package.xml", share)
        where = copy if record == "copied" else "/was/here/before"
        (share / "checkout.txt").write_text(f"{where}\n../..\n")
    assert (
        ros2(copy, prefix).stdout == "ros2 launch tractor_bringup sac_rover.launch.py sim:=true\n"
    )
    done = ros2(other, prefix)
    assert done.returncode == 2
    assert f"expected the workspace of {other}, found that in {prefix} sourced" in done.stderr
    assert f"run in {other}: make build" in done.stderr
