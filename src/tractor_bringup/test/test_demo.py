"""The main job, shortened: simulated or recorded sensors, samples, INT8, drive again, report."""

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.ros, pytest.mark.toolkit]

KEYS = {"samples", "onnx_bytes", "fp16_bytes", "int8_bytes", "int8_mae", "int8_within_0_05"}
PAIRS = ("distance_m", "collisions", "latency_ms_p50", "latency_ms_p99")


def run_demo(*arguments):
    command = [sys.executable, "-m", "tractor_bringup.demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=570, check=False)


@pytest.mark.parametrize("source", ["sim", "recordings"])
def test_the_whole_loop_ends_with_a_report(tmp_path, source):
    output = tmp_path / "out"
    done = run_demo("--source", source, "--output", output, "--seconds", 6, "--samples", 30)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((output / "summary.json").read_text())
    assert summary.keys() >= KEYS
    assert summary["samples"] >= 30
    assert summary["int8_bytes"] < summary["fp16_bytes"] < summary["onnx_bytes"]
    for key in PAIRS:
        assert set(summary[key]) == {"onnx", "int8"}
    assert summary["latency_ms_p50"]["int8"] > 0
    if source == "sim":
        assert min(summary["distance_m"].values()) > 0.5
    page = (output / "report.html").read_text()
    assert page.count("data:image/png") == (3 if source == "sim" else 2)
    assert "distance, m" in done.stdout and "%" in done.stdout
    assert (output / "models" / "remote_trained.rknn").is_symlink()


def test_nothing_of_a_folder_that_no_demo_made_is_touched(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.rknn").write_text("mine")
    done = run_demo("--output", tmp_path)
    assert done.returncode == 1 and "empty or made by a demo" in done.stderr
    assert (tmp_path / "models" / "mine.rknn").read_text() == "mine"


def test_a_missing_actor_is_named(tmp_path):
    done = run_demo("--output", tmp_path / "out", "--model", tmp_path / "none.onnx")
    assert done.returncode == 1 and "none.onnx" in done.stderr
