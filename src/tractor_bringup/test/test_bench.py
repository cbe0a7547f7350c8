"""The benches measure all that they promise, `make kills` and `make soak` in their short forms.

What goes by the clock is not judged here.
"""

import importlib
import json
import math
import subprocess
import sys

import numpy as np
import pytest

SIZES = ("848x100", "640x480", "1280x720")


def run_bench(repository, name, out, *arguments, codes=(0,)):
    command = [sys.executable, repository / "bench" / f"{name}.py", "--out", out, *arguments]
    done = subprocess.run(command, cwd=out.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode in codes, done.stdout + done.stderr
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
def test_what_learning_costs_is_measured(repository, tmp_path):
    pytest.importorskip("stable_baselines3", reason="it is what learning is measured beside")
    arguments = ("--updates", "3", "--seconds", "1", "--worlds", "1")
    found, _ = run_bench(repository, "learning", tmp_path / "learning.json", *arguments)
    assert {*found} == {"learner", "beside_simulation", "simulation", "ingest", "rover"}
    assert all(0 <= value < math.inf for row in found.values() for value in row.values())
    assert found["learner"]["replay_bytes_per_step"] <= 4200


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


@pytest.mark.slow
def test_what_is_killed_leaves_no_unreadable_file_and_nothing_stays(repository, tmp_path):
    arguments = ("--sampling", "8", "--converting", "4", "--real", "0")
    found, _ = run_bench(repository, "kills", tmp_path / "kills.json", *arguments)
    sampling, converting = found["sampling"], found["converting"]
    assert sampling["killed"] == 8 and sampling["files read"] > 8
    assert converting["killed"] == 4
    assert converting["whole models read"] >= 5


@pytest.mark.slow
@pytest.mark.ros
def test_the_nodes_bear_load_and_swaps(repository, tmp_path):
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    arguments = ("--minutes", "0.5", "--drive-minutes", "0.1")
    found, _ = run_bench(repository, "soak", tmp_path / "soak.json", *arguments, codes=(0, 1))
    for load in (found["load"], found["drive"]):
        assert load["commands"] > 0.2 * load["frames"]
        assert {*load["processes"]} == {"bev_builder", "sac_actor", "cmd_guard"}
        assert all(row["memory_mb"] > 20.0 for row in load["processes"].values())
        assert len(load["p99_ms"]) == 10
    assert found["load"]["swaps"] >= 2 and not found["load"]["swaps_refused"]
    assert found["load"]["samples"] > 10
    # It is warmer after ten minutes; what leaks in each frame or swap shows here too.
    assert all(row["growth"] < 0.1 for row in found["load"]["processes"].values())


def test_a_soak_sees_missed_frames_stops_slow_tenths_and_leaks(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "bench"))
    soak = importlib.import_module("soak")
    sent = np.arange(1, 101) * 10_000_000
    good = [(int(stamp), stamp * 1e-9, 5.0, True) for stamp in sent]
    rows = {"sac_actor": {"growth": 0.0}}
    extra = {"swaps_refused": [], "swaps": 3, "swaps_asked": 3, "processes": rows}
    assert all(soak.claims(soak.judged(good, sent) | extra).values())
    unanswered = soak.claims(soak.judged(good, sent) | extra | {"swaps": 2})
    assert not unanswered["every swap succeeded"]
    slow = [(stamp, arrival, 5.0 + 5.0 * (stamp > 9e8), True) for stamp, arrival, *_ in good]
    stopped = [*good[:50], (7, good[50][1], 0.0, False), *good[50:]]
    for commands, claim in (
        ([*good[:40], *good[46:]], "every frame has its command"),
        (stopped, "no stop"),
        (slow, "p99 at the end at most 1.25 times that at the start"),
    ):
        held = soak.claims(soak.judged(commands, sent) | extra)
        assert [name for name, holds in held.items() if not holds] == [claim]
    assert soak.judged([*good[:40], *good[46:]], sent)["control_ticks_missed"] == 1
    times_s = [10.0 * number for number in range(60)]
    leak = [100.0 + 0.002 * time_s for time_s in times_s]
    leak[30] += 50.0
    assert soak.growth(times_s, leak) == pytest.approx(0.0117, abs=0.0002)
