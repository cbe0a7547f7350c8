"""The systemd unit: what it names is there, systemd takes it, and its exit codes are those here."""

import re
import shutil
import subprocess

import pytest

from tractor_inference.nodes.watchdog import EXIT_HUNG

HOME = "/opt/rover"
WRITTEN = {"calibration_data", "experience"}


@pytest.fixture
def unit(repository):
    return (repository / "config" / "sac_rover.service").read_text()


def values(unit, key):
    return [word for line in re.findall(rf"^{key}=(.*)$", unit, re.M) for word in line.split()]


def test_systemd_takes_the_unit_without_a_word(repository, unit, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt install systemd")
    file = tmp_path / "sac_rover.service"
    file.write_text(unit.replace(HOME, str(repository)))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(file)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_what_the_unit_names_is_in_the_checkout(repository, unit):
    named = set(re.findall(rf"^[^#].*?{HOME}/(\S+)", unit, re.M))
    assert named == {"start_sac_rover.sh", "config/fastdds_loopback.xml", *WRITTEN}
    assert all((repository / path).is_file() for path in named - WRITTEN)


def test_the_start_script_takes_the_units_arguments(repository, unit):
    (arguments,) = re.findall(r"^Environment=ARGUMENTS=(.*)$", unit, re.M)
    done = subprocess.run([repository / "start_sac_rover.sh", arguments, "-h"], capture_output=True)
    assert done.returncode == 0


def test_it_runs_without_rights_and_restarts_what_restarting_helps(repository, unit):
    assert values(unit, "User") == ["rover"]
    assert values(unit, "NoNewPrivileges") == ["yes"]
    refused = subprocess.run([repository / "start_sac_rover.sh", "what"], capture_output=True)
    # ros2 launch ends with 1 when it gives up, see test_launch.py.
    never = {int(code) for code in values(unit, "RestartPreventExitStatus")}
    assert never == {refused.returncode, 1} and EXIT_HUNG not in never
