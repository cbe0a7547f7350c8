"""What a user does with a checkout before anything drives: make, colcon, the start scripts."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = (
    "tractor_bringup", "tractor_calibration", "tractor_core", "tractor_inference", "tractor_link",
    "tractor_sim", "tractor_training",
)  # fmt: skip


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


# Stands in for an interpreter and for the one of the .venv that it makes.
PYTHON = """#!/bin/bash
case "$*" in
  --version) echo Python 3.12.0 ;;
  *"-m venv"*)
    [ -z "$NO_VENV" ] || exit 1
    mkdir -p .venv/bin .venv/site
    cp "$0" .venv/bin/python ;;
  *"-m pip"*) exit "${PIP:-0}" ;;
  *sysconfig*) echo .venv/site ;;
  *version_info*) echo python3.12-venv ;;
esac
"""


@pytest.fixture
def set_up(repository, tmp_path):
    """Run make setup in a copy of the checkout with an interpreter that does as it is told."""
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)

    def start(folder="rover", **environment):
        if not (tmp_path / folder).exists():
            copy_of(repository, tmp_path / folder)
        command = ("make", "setup", f"PYTHON={python}", "ROS=/nowhere")
        return run(*command, cwd=tmp_path / folder, **environment), tmp_path / folder

    return start


def ready(copy):
    """The one file that says that the .venv of a checkout is complete."""
    (file,) = (copy / ".venv").glob("ready-*")
    return file


@pytest.mark.parametrize("folder", ["rover", "my rover", "it's \u00fc", 'a$b"c', "a#b;c&(d"])
def test_setup_works_whatever_the_folder_is_called(set_up, folder):
    done, copy = set_up(folder)
    assert (done.returncode, done.stderr) == (0, "")
    packages = (copy / ".venv/site/tractor.pth").read_text().splitlines()
    assert packages == [str(copy / "src" / name) for name in PACKAGES]
    assert ready(copy).name.startswith("ready-ros-wheels-")
    assert not (copy / ".venv/unfinished").exists()
    assert set_up(folder)[0].stdout == "setup: .venv is ready\n"


def test_setup_of_a_checkout_that_was_moved_starts_anew(set_up, tmp_path):
    _, copy = set_up("before")
    (copy / ".venv" / "of before").touch()
    copy.rename(tmp_path / "after")
    done, moved = set_up("after")
    assert (done.returncode, done.stderr) == (0, "")
    packages = (moved / ".venv/site/tractor.pth").read_text().splitlines()
    assert packages == [str(moved / "src" / name) for name in PACKAGES]
    assert not (moved / ".venv" / "of before").exists()


def test_setup_refuses_a_path_that_would_be_two(set_up):
    done, copy = set_up("a:b")
    assert done.returncode != 0
    assert "expected a path without :" in done.stderr and str(copy) in done.stderr


def test_setup_says_how_to_get_venv_and_starts_anew(set_up):
    done, copy = set_up(NO_VENV="1")
    assert done.returncode != 0
    assert "sudo apt install python3.12-venv" in done.stderr
    (copy / ".venv" / "half a package").touch()
    assert set_up()[0].returncode == 0
    assert not (copy / ".venv" / "half a package").exists()


def test_setup_says_what_pip_needs_and_starts_anew(set_up):
    done, copy = set_up(PIP="1")
    assert done.returncode != 0
    for text in ("pip could not install", "MB are free here", "run make setup again"):
        assert text in done.stderr
    assert not list((copy / ".venv").glob("ready-*"))
    assert set_up()[0].returncode == 0


def test_setup_that_was_interrupted_while_it_updates_starts_anew(set_up):
    _, copy = set_up()
    old = ready(copy)
    os.utime(old, (0, 0))
    assert set_up(PIP="1")[0].returncode != 0
    assert not old.exists()
    assert set_up()[0].returncode == 0


def test_setup_keeps_away_from_a_venv_that_is_not_its_own(set_up):
    _, copy = set_up()
    ready(copy).unlink()
    done, _ = set_up()
    assert done.returncode != 0
    assert "expected no .venv, or one that make setup made, found another" in done.stderr
    assert (copy / ".venv" / "site" / "tractor.pth").exists()


@pytest.mark.parametrize("folder", ["my rover", "a$b", "a;b", 'a"b'])
def test_build_refuses_by_name_where_colcon_cannot(set_up, folder):
    _, copy = set_up(folder)
    done = run("make", "build", "ROS=/nowhere", cwd=copy)
    assert done.returncode != 0
    assert "colcon cannot build where the path holds a space" in done.stderr
    assert f"found {copy}" in done.stderr


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
        # A line that goes on in the next one has digests there.
        text = re.sub(r" \\\n +(--hash=sha256:[0-9a-f]{64})", "", file.read_text())
        lines = [line for line in text.splitlines() if line and line[0] != "#"]
        assert lines
        assert [line for line in lines if not re.match(r"[\w.-]+==[\w.]+(; .+)?$", line)] == []


# colcon


def test_colcon_sees_all_ament_python_packages(repository):
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
        wanted = {path.name: path.read_bytes() for path in (repository / folder).iterdir()}
        found = (bringup / "share" / "tractor_bringup" / folder).iterdir()
        assert {path.name: path.read_bytes() for path in found} == wanted
    commands = {
        path.name
        for package in PACKAGES
        for path in (copy / "install" / package / "lib" / package).glob("*")
        if os.access(path, os.X_OK)
    }
    assert commands >= {
        "bev_builder", "sac_actor", "cmd_guard", "drive", "rover_link", "sim", "replay", "check",
        "convert", "harvest", "doctor", "benchmark", "models", "rollout", "observations",
        "start_sac_rover.sh", "convert_onnx_to_rknn.sh",
    }  # fmt: skip
    answer = sourced(copy, f"{sys.executable} -c '{TEMPLATES}'")
    assert answer.stderr == ""
    assert all(Path(file).is_relative_to(copy) for file in answer.stdout.split())


TEMPLATES = """from tractor_bringup.demo import report as demo
from tractor_calibration.conversion import report as conversion
from tractor_calibration.pages import page
from tractor_calibration.samples import report as samples
for module in demo, conversion, page, samples: print(module.__file__)
for module in demo, conversion, samples: page.environment().get_template(module.TEMPLATE)"""
# The .venv of the tests is in a checkout too, which is not the one that is meant.
ASK = """import sys; sys.prefix = "/usr"
from tractor_core import paths; print(paths.default_params_file())"""


def sourced(copy, command):
    """Run a command with the workspace sourced, apart from the environment of this process."""
    program = f"source install/setup.bash && {command}"
    return subprocess.run(
        ["bash", "-c", program], cwd=copy, env={"PATH": os.environ["PATH"]},
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_make_build_links_also_over_copies_and_after_a_move(repository, tmp_path):
    copy = copy_of(repository, tmp_path / "first")
    (copy / ".venv").symlink_to(Path(sys.prefix))
    pretend = ("make", "build", "ROS=/nowhere", f"ready={copy}/Makefile")

    def counts(copy):
        """Whether an edit of the checkout's file, and of no other, is what is read."""
        params = copy / "config" / "sac_rover.yaml"
        params.write_text(f"# edited\n{params.read_text()}")
        answer = sourced(copy, f"{sys.executable} -c '{ASK}'")
        assert answer.stdout == f"{params}\n", answer.stderr
        installed = copy / "install/tractor_bringup/share/tractor_bringup"
        return (installed / "config/sac_rover.yaml").samefile(params)

    assert colcon("build", "--base-paths", "src", cwd=copy).returncode == 0
    edited = copy / "config" / "sac_rover.yaml"
    text = edited.read_text()
    edited.write_text(text.replace("max_linear_speed: 0.18", "max_linear_speed: 0.05"))
    refused = sourced(copy, f"{sys.executable} -c '{ASK}'")
    assert "robot.max_linear_speed of /**: 0.05 and 0.18" in refused.stderr
    assert f"run make build in {copy}" in refused.stderr
    shutil.rmtree(copy / "build")  # then colcon alone would leave the copies as they are
    done = run(*pretend, cwd=copy)
    assert done.returncode == 0, done.stderr
    assert counts(copy)
    (copy / "launch" / "sim.launch.py").rename(copy / "launch" / "other.launch.py")
    assert run(*pretend, cwd=copy).returncode == 0
    assert counts(copy)
    launch = copy / "install/tractor_bringup/share/tractor_bringup/launch"
    assert {file.name for file in launch.iterdir()} == {
        file.name for file in (copy / "launch").iterdir()
    }
    moved = copy.rename(tmp_path / "second")
    done = run(*pretend[:-1], f"ready={moved}/Makefile", cwd=moved)
    assert done.returncode == 0, done.stderr
    assert counts(moved)


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


def test_convert_script_says_who_takes_an_address(repository):
    done = run(repository / "convert_onnx_to_rknn.sh", "nats://rover.example:4222", cwd=repository)
    assert done.returncode == 2
    assert "expected MODEL.onnx first, found the address nats://rover.example:4222" in done.stderr
    assert "./start_sac_rover.sh nats://rover.example:4222" in done.stderr
    assert "./convert_onnx_to_rknn.sh models/NAME.onnx calibration_data" in done.stderr


@pytest.mark.parametrize("argument", ["models/actor.rknn", "192.168.1.10:4222", "http://host:4222"])
def test_start_script_refuses_what_is_no_launch_argument_and_no_address(repository, argument):
    done = run(repository / "start_sac_rover.sh", argument, cwd=repository)
    assert done.returncode == 2
    expected = "expected NAME:=VALUE or an address such as nats://192.168.1.10:4222"
    assert f"{expected}, found {argument}" in done.stderr


def test_start_script_takes_one_address(repository):
    addresses = ("nats://one:4222", "tls://other:4222")
    done = run(repository / "start_sac_rover.sh", *addresses, cwd=repository)
    assert done.returncode == 2
    assert "expected one address, found nats://one:4222 and tls://other:4222" in done.stderr


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

    def start(checkout, *prefixes, arguments=("sim:=true",)):
        path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
        prefixes = os.pathsep.join(map(str, prefixes))
        script = checkout / "src/tractor_bringup/scripts/start_sac_rover.sh"
        return run(script, *arguments, cwd=checkout, PATH=path, AMENT_PREFIX_PATH=prefixes)

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
    arguments = ("sim:=true", "nats://10.0.0.5:4222", "accept_models:=all")
    words = "sim:=true accept_models:=all nats:=nats://10.0.0.5:4222"
    done = ros2(copy, prefix, arguments=arguments)
    assert done.stdout == f"ros2 launch tractor_bringup sac_rover.launch.py {words}\n"
    done = ros2(other, prefix)
    assert done.returncode == 2
    assert f"expected the workspace of {other}, found that in {prefix} sourced" in done.stderr
    assert f"run in {other}: make build" in done.stderr
