"""What every executable has in common: help, exit codes, and the file that it reads."""

import json
import re
import subprocess
import sys

import pytest

RUN = "import importlib, sys; sys.exit(importlib.import_module(sys.argv.pop(1)).main())"


def executables(repository):
    """Return {(package, name): module} of what `ros2 run` finds, scripts aside."""
    return {
        (setup.parent.name, name): module
        for setup in sorted((repository / "src").glob("*/setup.py"))
        for name, module in re.findall(r'"(\w+)=([\w.]+):main"', setup.read_text())
    }


def pytest_generate_tests(metafunc):
    if "executable" in metafunc.fixturenames:
        root = metafunc.config.rootpath
        metafunc.parametrize(
            "executable",
            [
                pytest.param((*key, module), id=key[1], marks=[pytest.mark.ros] * is_node(module))
                for key, module in executables(root).items()
            ],
        )


def is_node(module):
    return module.endswith("_node")


def run(module, *arguments):
    if is_node(module):
        pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    command = [sys.executable, "-c", RUN, module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_help_says_what_it_does_and_starts_nothing(executable):
    package, name, module = executable
    done = run(module, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    if is_node(module):
        one = name if name != "drive" else "sac_actor"
        assert done.stdout.startswith(f"usage: ros2 run {package} {name} --ros-args --params-file")
        assert f"parameters of {one}, section /**/{one}" in done.stdout
    else:
        assert done.stdout.startswith("usage: ")


def test_an_unknown_argument_is_refused(executable):
    done = run(executable[2], "--no-such-option", "--no-such-other")
    assert done.returncode == 2
    assert "--no-such-option" in done.stderr or "required" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_help_of_a_node_lists_its_parameters_with_their_defaults(repository):
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from tractor_core import parameters
    from tractor_inference.guard.guard import GuardParameters
    from tractor_inference.nodes.base.usage import usage

    text = usage("tractor_inference", "cmd_guard", "About it.", cmd_guard=GuardParameters)
    for name, (field, _) in parameters.fields_of(GuardParameters).items():
        assert re.search(rf"^  {name} +{re.escape(field.metadata['doc'][:20])}", text, re.MULTILINE)
    assert "Default: 0.3." in text


@pytest.mark.parametrize(
    ("module", "arguments", "ok"),
    [
        ("check", ["none"], False),
        ("convert", ["none.onnx"], False),
        ("harvest", ["none", "--out", "none"], False),
        ("models", ["list", "--models-dir", "."], True),
    ],
)
def test_a_command_says_which_parameter_file_it_read(params_file, tmp_path, module, arguments, ok):
    file = tmp_path / "mine.yaml"
    file.write_bytes(params_file.read_bytes())
    done = run(f"tractor_calibration.{module}", *arguments, "--params", file, "--json")
    result = json.loads(done.stdout)
    assert f"INFO: parameters: {file}\n" in done.stderr
    assert result["ok"] == ok
    if ok:
        assert result["params"] == str(file)
