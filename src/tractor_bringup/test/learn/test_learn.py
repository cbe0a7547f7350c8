"""`make learn`: the whole circle turns by itself, loses nothing, and says what came of it."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from experience_file import make

from tractor_bringup.learn import report, run
from tractor_bringup.learn.tally import Tally
from tractor_core import contract as contracts
from tractor_core.experience import encode
from tractor_core.paths import default_params_file
from tractor_core.spool import Spool
from tractor_training.chunk_log import ChunkLog

CONTRACT = contracts.load(default_params_file())


def summary(**changes):
    figures = {"mean_m": 8.9, "free_runs": 39, "runs": 40, "collisions": 1}
    return {
        "steps": 120_000, "updates": 20_000, "updates_per_s": 33.3, "bytes_per_step": 104.2,
        "steps_lost": 0, "models_offered": 2, "models_driven": 2, "missed_ticks": 0,
        "minutes": 17.5, "learning_minutes": 10.0, "seed": 0, "commit": "0" * 40,
        "first": figures | {"mean_m": 0.1}, "last": figures,
        "imitation": figures | {"mean_m": 9.2, "free_runs": 40},
        "candidates": [
            {"name": f"sac_actor_v0{n}", "steps": 1000 * n, "updates": 100 * n, "mean_m": 2.0 * n,
             "free_runs": 8, "runs": 10, "passed": n != 2, "time": 60.0 * n, "minute": 1.0 * n}
            for n in (1, 2, 3)
        ],
        "versions": [
            {"name": "sac_actor_v01", "driven": True, "precision": "int8", "verdict": "pass",
             "bytes": 480_000, "mae": 0.002, "max": 0.03, "sqnr_db": 44.0},
            {"name": "sac_actor_v03", "driven": False},
        ],
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    "last, good",
    [
        ({"mean_m": 8.5, "free_runs": 38}, True),
        ({"mean_m": 8.4, "free_runs": 40}, False),
        ({"mean_m": 9.9, "free_runs": 37}, False),
    ],
)
def test_it_says_whether_it_was_learnt(last, good):
    found = summary(last=summary()["last"] | last)
    assert report.good_enough(found) == good
    assert report.conclusion(found).startswith("Learnt:" if good else "Not learnt well enough:")


def test_table_and_page_have_every_candidate_and_version():
    text = report.table(summary())
    page = report.render(summary())
    for word in ("sac_actor_v02", "refused", "not converted", "random heads", "0 lost", "104"):
        assert word in text and word in page
    assert page.count("<img") == 2 and "encoder of these actors was learnt by imitation" in page


def test_what_is_lost_is_counted_by_the_chunks(tmp_path):
    chunks = [make(CONTRACT, 10, seed=n, first=10 * n) for n in range(4)]
    spool = Spool(tmp_path / "experience", 10**9)
    for chunk in chunks:
        spool.add(chunk.id, encode(chunk))
    spool.mark_sent(spool.waiting()[0])
    run = tmp_path / "server_data" / "run"
    log = ChunkLog(run / "chunks", 10**9)
    log.append([encode(chunk) for chunk in chunks[:3]])
    tally = Tally.of(tmp_path, run)
    assert (tally.steps, tally.lost, tally.rover_steps) == (30, 10, 40)
    assert tally.bytes_per_step == pytest.approx(sum(len(encode(c)) for c in chunks) / 40)
    assert not tally.drives_last


@pytest.mark.ros
@pytest.mark.slow
def test_the_whole_circle_in_a_short_form(tmp_path):
    pytest.importorskip("rknn", reason="conversion needs the toolkit")
    command = [
        sys.executable, "-m", "tractor_bringup.learn", "--output", str(tmp_path / "out"),
        "--minutes", "1.3", "--worlds", "2", "--first-worlds", "1", "--every", "1500",
        "--gate-worlds", "3", "--gate-seconds", "10",
    ]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k != "ROS_DOMAIN_ID"}
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=900, env=environment, cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert found["steps_lost"] == 0 and found["steps"] > 1000 and found["updates"] > 100
    assert found["models_offered"] >= 1 and found["models_driven"] >= 1
    assert 0 < found["bytes_per_step"] <= 150
    assert found["last"]["runs"] == found["imitation"]["runs"] == 2 and found["first"]["runs"] == 1
    assert "<img" in (tmp_path / "out" / "report.html").read_text()


def test_a_folder_that_is_not_its_own_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    command = [sys.executable, "-m", "tractor_bringup.learn", "--output", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1 and "expected" in ended.stderr and "to be empty" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_the_imitated_actor_reaches_is_that_of_the_shipped_one(repository):
    kept = json.loads(Path(run.__file__).with_name("imitation.json").read_text())
    actor = repository / "models" / kept["model"]
    assert kept["sha256"] == hashlib.sha256(actor.read_bytes()).hexdigest(), kept["command"]
    assert kept["contract"] == CONTRACT.digest and kept["runs"] == 40
