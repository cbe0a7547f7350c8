"""What a node logs, says in diagnostics and answers may hold any text of others."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytestmark = pytest.mark.ros

from tractor_inference.nodes.base.log import PrintableLogger  # noqa: E402


def test_any_text_is_logged_and_nothing_in_it_acts_on_the_terminal(capfd):
    log = PrintableLogger("any")
    for text in ("a\udce9", "b\x1b[2J", "c\nERROR: d", "ü 漢"):
        log.warning(text)
    shown = capfd.readouterr().err
    for expected in ("a\\udce9", "b\\x1b[2J", "c\n  ERROR: d", "ü 漢"):
        assert expected in shown
    assert "\x1b[2J" not in shown


def test_lines_of_code_keep_their_own_level(capfd):
    log = PrintableLogger("levels")

    def speak():
        log.info("one")
        log.warning("two")
        log.error("three")

    speak()
    speak()
    out, err = capfd.readouterr()
    assert [(out + err).count(text) for text in ("one", "two", "three")] == [2, 2, 2]


def test_what_rclpy_refuses_to_log_is_printed_and_ends_nothing(capfd):
    from rclpy.logging import LoggingSeverity

    log = PrintableLogger("refused")
    said = [
        log.log("why it stops", level) for level in (LoggingSeverity.INFO, LoggingSeverity.WARN)
    ]
    out, err = capfd.readouterr()
    assert said == [True, False]
    assert (out + err).count("[refused]: why it stops") == 2 and "not logged: " in err


def test_an_argument_that_ros_cannot_take_is_refused_by_name(tmp_path, params_file):
    file = os.fsencode(tmp_path) + b"/sac_\xe9.yaml"
    with open(file, "wb") as copy:
        copy.write(params_file.read_bytes())
    command = [sys.executable, "-m", "tractor_inference.nodes.cmd_guard_node", "--ros-args"]
    done = subprocess.run([*command, "--params-file", file], capture_output=True, timeout=60)
    assert done.returncode == 2
    assert b"expected UTF-8" in done.stderr and b"sac_\\udce9.yaml" in done.stderr
    assert b"Traceback" not in done.stderr
