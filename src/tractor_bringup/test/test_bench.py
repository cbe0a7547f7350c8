"""`make bench` measures everything it promises; the figures themselves are not judged here."""

import json
import math
import subprocess
import sys

import pytest

SIZES = ("848x100", "640x480", "1280x720")


def run_bench(repository, name, out, *arguments):
    command = [sys.executable, repository / "bench" / f"{name}.py", "--out", out, *arguments]
    done = subprocess.run(command, cwd=out.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text()), done.stdout


@pytest.mark.slow
def test_the_grid_is_measured_in_every_size_and_scene(repository, tmp_path):
    found, text = run_bench(repository, "bev", tmp_path / "bev.json", "--rounds", "1")
    for row in found["results"]:
        assert {*row} == {"name", "size", "scene", "median_us", "hot_us", "p99_us"}
        assert 0 < row["hot_us"] < math.inf
    assert {row["size"] for row in found["results"]} == {*SIZES}
    wanted = {f"{name}_{size}" for name in ("full_vs_numpy", "fallback_vs_numpy") for size in SIZES}
    if "gcc is not there" not in text:
        wanted |= {f"depth_vs_c_scalar_{size}" for size in SIZES}
    assert wanted <= {*found["ratios"]}
    assert found["set_up"]["numba_cached_s"] < found["set_up"]["numba_cold_s"]


# Not among those of ROS: no time is asserted, so it may share the machine.
@pytest.mark.slow
def test_the_path_through_ros_is_measured_every_way(repository, tmp_path):
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    arguments = ("--seconds", "1", "--rounds", "1")
    found, _ = run_bench(repository, "latency", tmp_path / "latency.json", *arguments)
    settings = {row["name"]: row for row in found["results"]}
    paths = {"two_processes", "one_process", "numpy_builder", "two_hops", "one_hop"}
    assert {*settings} == {*paths, "inference"}
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in settings.values())
    for name in paths:
        row = settings[name]
        assert row["commands"] > 0.2 * row["depth_frames"]


@pytest.mark.slow
def test_what_sampling_adds_to_a_tick_is_measured(repository, tmp_path):
    arguments = ("--seconds", "1", "--rounds", "1")
    found, _ = run_bench(repository, "sampling", tmp_path / "sampling.json", *arguments)
    rows = {row["name"]: row for row in found["results"]}
    assert {*rows} == {"without", "empty folder", "1000 samples"}
    for row in rows.values():
        assert 0 < row["offer_p50_us"] <= row["offer_p99_us"] < row["tick_p99_us"]


@pytest.mark.slow
@pytest.mark.toolkit
def test_a_conversion_is_measured_beside_the_bare_toolkit(repository, tmp_path):
    pytest.importorskip("rknn.api", reason="rknn-toolkit2 is not installed")
    arguments = ("--rounds", "1", "--sizes", "100 samples")
    found, _ = run_bench(repository, "conversion", tmp_path / "conversion.json", *arguments)
    rows = {row["name"]: row for row in found["results"]}
    assert {*rows} == {"bare script", "convert"}
    assert all(row["median_s"] > 0 and row["peak_mb"] > 100 for row in rows.values())
    assert found["more_s"].keys() == {"100 samples"}
    assert found["help_s"] > 0
