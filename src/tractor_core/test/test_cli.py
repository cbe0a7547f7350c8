"""What the commands share, as a shell sees it: output that nobody reads, output without room."""

import os
import subprocess
import sys

import pytest

COMMANDS = [
    ["tractor_inference", "doctor"],
    ["tractor_inference", "doctor", "--json"],
    ["tractor_inference", "--help"],
    ["tractor_calibration", "check", "."],
    ["tractor_calibration", "check", "absent", "--json"],
    ["tractor_calibration", "models", "list", "--models-dir", "."],
    ["tractor_calibration", "harvest", "absent", "--out", "samples", "--json"],
]


@pytest.fixture
def run(tmp_path):
    def run(command, stdout):
        return subprocess.run(
            [sys.executable, "-m", *command],
            stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=60,
        )  # fmt: skip

    return run


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_reader_that_has_gone_ends_a_command_without_a_word(run, command):
    reader, writer = os.pipe()
    os.close(reader)
    done = run(command, writer)
    os.close(writer)
    assert done.returncode == 141
    assert not {"Traceback", "Broken", "Exception"} & {*done.stderr.replace(":", " ").split()}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_full_disk_is_a_sentence_and_an_exit_code(run, command):
    with open("/dev/full", "w") as full:
        done = run(command, full)
    assert done.returncode == 74
    assert "standard output: expected room for the result, found none" in done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_output_longer_than_any_buffer_is_no_exception_either(tmp_path, run):
    for number in range(2000):
        (tmp_path / f"calib_{number}.npz").touch()
    reader, writer = os.pipe()
    os.close(reader)
    done = run(["tractor_calibration", "check", ".", "--json"], writer)
    os.close(writer)
    assert done.returncode == 141 and "Traceback" not in done.stderr
