"""Models measured here: on the CPU, in the toolkit's simulator, on the NPU of a fake board."""

import json
import os
import shutil
import time
from pathlib import Path

import actor_factory
import pytest

from tractor_bringup import benchmark
from tractor_bringup.benchmark import report, runs
from tractor_inference.model.backends import CORE_MASKS

pytestmark = pytest.mark.usefixtures("signal_handlers_stay")

FAKE_BOARD = Path(actor_factory.__file__).parent / "fake_board"


def test_an_onnx_is_measured_on_the_cpu(actor_onnx, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert benchmark.main([str(actor_onnx), "--html", str(page)]) == 0
    printed = capsys.readouterr().out
    assert "p99 ms" in printed and "onnx" in printed
    assert "These are not the NPU's times" in printed
    assert f"written: {page}" in printed and "p99 ms" in page.read_text()
    assert benchmark.main([str(actor_onnx), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert 0 < row["p50_ms"] <= row["p99_ms"] and row["load_s"] > 0
    assert (row["frames"], row["source"]) == (200, "reference observations that validate")
    assert row["megabytes"] == pytest.approx(actor_onnx.stat().st_size / 1e6)


@pytest.mark.toolkit
def test_an_rknn_on_a_pc_is_simulated_and_compared(actor_onnx, tmp_path, contract, capsys):
    pytest.importorskip("rknn.api", reason="rknn-toolkit2 is not installed")
    model = actor_factory.build_int8(tmp_path, actor_onnx, contract)
    assert benchmark.main([str(model), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["backend"] == "rknn_sim"
    # The toolkit, which works in a process of its own, takes hundreds.
    assert row["memory_mb"] > 100.0
    assert 0 < row["mae"] <= row["max"] < 1.0


@pytest.fixture
def fake_board(monkeypatch, tmp_path, actor_onnx, contract):
    """A model, and a machine that passes for a board whose NPU is onnxruntime."""
    model = tmp_path / "actor.rknn"
    shutil.copy(actor_onnx, model)
    shutil.copy(actor_onnx, tmp_path / "actor.onnx")
    actor_factory.write_manifest(model, tmp_path / "actor.onnx", contract, [])
    monkeypatch.syspath_prepend(str(FAKE_BOARD))
    monkeypatch.setattr(runs, "rockchip_board", lambda: "fake,board")
    return model


def test_on_a_board_each_choice_of_cores_is_measured(fake_board, capsys):
    assert benchmark.main([str(fake_board), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["machine"] == "fake,board"
    assert [row["cores"] for row in found["rows"]] == [*CORE_MASKS]
    assert {row["backend"] for row in found["rows"]} == {"rknn"}
    # Its NPU computes as the ONNX does.
    assert all(row["max"] < 1e-5 for row in found["rows"])
    assert report.NOT_THE_NPU not in report.table(found)


def test_without_its_onnx_a_model_is_measured_and_not_compared(fake_board, capsys):
    (fake_board.parent / "actor.onnx").unlink()
    assert benchmark.main([str(fake_board)]) == 0
    assert "not compared: its ONNX is not at" in capsys.readouterr().out


def test_another_onnx_in_its_place_is_not_compared_with(fake_board, capsys):
    actor = fake_board.parent / "actor.onnx"
    actor.write_bytes(actor_factory.make_actor(seed=7).SerializeToString())
    assert benchmark.main([str(fake_board)]) == 0
    assert "not compared" in capsys.readouterr().out


def test_for_another_robot_times_are_measured_all_the_same(
    actor_onnx, params_file, tmp_path, capsys
):
    other = tmp_path / "params.yaml"
    text = params_file.read_text()
    assert "half_width_m: 0.15" in text
    other.write_text(text.replace("half_width_m: 0.15", "half_width_m: 0.16"))
    assert benchmark.main([str(actor_onnx), "--params", str(other)]) == 0
    assert "synthetic frames, without reference observations" in capsys.readouterr().out
    other.write_text(text.replace("half_width_m: 0.15", "half_width_m: wide"))
    assert benchmark.main([str(actor_onnx), "--params", str(other)]) == 2


def test_the_load_of_the_npu_is_what_the_driver_says(monkeypatch, tmp_path):
    (tmp_path / "load").write_text("NPU load:  Core0: 12%, Core1:  0%, Core2:  3%,\n")
    monkeypatch.setattr(runs, "NPU_LOADS", (tmp_path / "absent", tmp_path / "load"))
    assert runs.npu_load() == "12% 0% 3%"
    monkeypatch.setattr(runs, "NPU_LOADS", (tmp_path / "absent",))
    assert runs.npu_load() == ""


def die(job):
    os.abort()


def hang(job):
    time.sleep(60)


@pytest.mark.parametrize(
    ("fault", "why"), [(die, "its process died"), (hang, "not measured within")]
)
def test_a_runtime_that_dies_or_hangs_costs_its_row(actor_onnx, monkeypatch, capsys, fault, why):
    monkeypatch.setattr(runs, "measure", fault)
    monkeypatch.setattr(runs, "LIMIT_A_ROUND_S", 3.0)
    started_s = time.monotonic()
    assert benchmark.main([str(actor_onnx)]) == 1
    assert time.monotonic() - started_s < 30
    printed = capsys.readouterr().out
    assert "not measured" in printed and why in printed


def test_a_model_that_cannot_be_opened_is_a_row_with_its_reason(tmp_path, actor_onnx, capsys):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"not onnx")
    assert benchmark.main([str(bad), str(actor_onnx), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [bool(row["problem"]) for row in found["rows"]] == [True, False]
    assert str(bad) in found["rows"][0]["problem"]


def test_what_is_no_model_is_wrong_usage(tmp_path, caplog):
    assert benchmark.main([str(tmp_path / "absent.rknn")]) == 2
    assert "expected an .onnx or .rknn file" in caplog.text


def test_a_page_that_cannot_be_written_is_said(actor_onnx, tmp_path, caplog):
    taken = tmp_path / "page.html"
    taken.mkdir()
    assert benchmark.main([str(actor_onnx), "--html", str(taken)]) == 7
    assert str(taken) in caplog.text
