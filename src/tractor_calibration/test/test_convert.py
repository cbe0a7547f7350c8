"""The converter as a user runs it: faults, exit codes, and a models folder that survives them."""

import contextlib
import dataclasses
import errno
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from folders import snapshot

from tractor_calibration.conversion import attempts, dataset, driving, outcome
from tractor_calibration.conversion import stages as conversion
from tractor_calibration.parameters import TARGETS, ConvertParameters, Request
from tractor_core import outside, samples
from tractor_core.contract import normalize
from tractor_core.drift import feature_names
from tractor_core.errors import ModelError
from tractor_core.paths import config_file, default_params_file
from tractor_core.reference_observations import FILE_NAME, Origin, file_and_index
from tractor_inference.model import limited, manifest, reference_vectors
from tractor_inference.model.backends import open_backend

COMMAND = [sys.executable, "-m", "tractor_calibration", "convert"]


def run(*arguments, command=COMMAND):
    return subprocess.run(
        [*map(str, command), *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def spoil(folder, **changes):
    """Write one sample with changed members; a callable changes the good value."""
    with np.load(samples.list_files(folder)[0]) as good:
        members = {name: good[name] for name in good.files}
    for name, change in changes.items():
        members[name] = change(members[name].copy()) if callable(change) else change
    np.savez(folder / "calib_bad.npz", **members)


def _set(index, value):
    def change(array):
        array[index] = value
        return array

    return change


BAD_SAMPLES = {
    "NaN": (dict(proprio=_set(1, np.nan)), "found 1 NaN or Inf"),
    "Inf": (dict(bev=_set((0, 3, 3), np.inf)), "found 1 NaN or Inf"),
    "shape": (
        dict(bev=np.zeros((2, 64, 64), np.float32)),
        "expected shape (2, 128, 128), found (2, 64, 64)",
    ),
    "dtype": (dict(proprio=np.zeros(6)), "expected float32, found float64"),
    "range": (dict(proprio=_set(0, 40.0)), "proprio lidar_min: expected 0..4, found 40"),
    "contract": (dict(contract=np.array("0" * 64)), "expected contract"),
    "pickle": (dict(bev=np.array([{}], dtype=object)), "pickle"),
}


class TestRefusals:
    """Each fault: its exit code, a sentence that helps, and nothing changed."""

    @pytest.fixture(autouse=True)
    def nothing_changes(self, models):
        before = snapshot(models)
        yield
        assert snapshot(models) == before

    @pytest.mark.parametrize("name", ["godot_HovercraftRacing.onnx", "mjplayground_go1.onnx"])
    def test_foreign_onnx(self, models, tmp_path, shared_data, name):
        done = run(shared_data / "foreign_onnx" / name, "--output", models / "actor.rknn")
        assert done.returncode == 3
        assert "expected bev float [1, 2, 128, 128]" in done.stderr
        assert "found obs" in done.stderr

    @pytest.mark.parametrize("content", [b"", b"not onnx", None], ids=["empty", "text", "half"])
    def test_corrupt_onnx(self, models, tmp_path, content):
        whole = (models / "actor.onnx").read_bytes()
        bad = tmp_path / "actor.onnx"
        bad.write_bytes(whole[: len(whole) // 2] if content is None else content)
        done = run(bad, "--output", models / "actor.rknn")
        assert done.returncode == 3
        assert str(bad) in done.stderr

    @pytest.mark.parametrize("quantize", [["--quantize"], []])
    def test_an_onnx_that_fails_while_running(
        self, models, calibration_dir, tmp_path, actor_editor, quantize
    ):
        bad = actor_editor(tmp_path / "misfit.onnx", "misfit")
        output = models / "actor.rknn"
        done = run(bad, *quantize, "--calibration-dir", calibration_dir, "--output", output)
        assert done.returncode == 3
        assert "onnxruntime cannot run the ONNX" in done.stderr
        assert "Traceback" not in done.stderr

    def test_an_onnx_that_computes_nan(self, models, calibration_dir, tmp_path, actor_editor):
        bad = actor_editor(tmp_path / "nan.onnx", "hidden nan")
        output = models / "actor.rknn"
        done = run(bad, "--quantize", "--calibration-dir", calibration_dir, "--output", output)
        assert done.returncode == 3
        assert "NaN or Inf inside" in done.stderr

    def test_missing_onnx(self, models):
        done = run(models / "absent.onnx")
        assert done.returncode == 3
        assert "absent.onnx: cannot be read" in done.stderr

    @pytest.mark.parametrize("fault", BAD_SAMPLES)
    def test_only_bad_samples(self, models, calibration_dir, fault):
        changes, sentence = BAD_SAMPLES[fault]
        spoil(calibration_dir, **changes)
        for good in samples.list_files(calibration_dir):
            if good.name != "calib_bad.npz":
                good.unlink()
        before = snapshot(calibration_dir)
        done = run(
            models / "actor.onnx", "--quantize", "--calibration-dir", calibration_dir, "--json"
        )
        assert done.returncode == 4
        error = json.loads(done.stdout)
        assert (error["ok"], error["exit_code"]) == (False, 4)
        assert "No calibration samples found" in error["error"]
        assert "calib_bad.npz" in error["error"]
        assert sentence in error["error"]
        assert snapshot(calibration_dir) == before

    def test_truncated_samples(self, models, calibration_dir):
        for file in samples.list_files(calibration_dir):
            file.write_bytes(file.read_bytes()[:-200])
        done = run(models / "actor.onnx", "--quantize", "--calibration-dir", calibration_dir)
        assert done.returncode == 4
        assert "found 0 of 104" in done.stderr
        assert "and 84 more" in done.stderr

    def test_too_few_samples(self, models, calibration_dir):
        for file in samples.list_files(calibration_dir)[5:]:
            file.unlink()
        done = run(models / "actor.onnx", "--quantize", "--calibration-dir", calibration_dir)
        assert done.returncode == 4
        assert "expected at least 10 usable .npz files, found 5 of 5" in done.stderr

    @pytest.mark.parametrize("quantize", [["--quantize"], []])
    @pytest.mark.parametrize("folder", ["empty", "absent"])
    def test_no_samples(self, models, tmp_path, folder, quantize):
        (tmp_path / "empty").mkdir()
        done = run(models / "actor.onnx", *quantize, "--calibration-dir", tmp_path / folder)
        assert done.returncode == 4
        assert "No calibration samples found" in done.stderr

    def test_quantize_without_a_folder(self, models):
        done = run(models / "actor.onnx", "--quantize")
        assert done.returncode == 4
        assert "No calibration samples found: --quantize needs --calibration-dir" in done.stderr

    @pytest.mark.parametrize(
        ("old", "new", "sentence"),
        [
            ("fail_max_mae: 0.03", "fail_max_mea: 0.03", "fail_max_mea: unknown parameter"),
            ("fail_max_mae: 0.03", "fail_max_mae: -1.0", "expected at least 0.0, found -1.0"),
            ("pass_max_mae: 0.015", "pass_max_mae: 0.05", "expected at most fail_max_mae, 0.03"),
            ('target: "rk3588"', 'target: "rk1"', "expected one of ['rk3588'"),
            ("grid_cells: 128", "grid_cells: many", "grid_cells: expected int"),
        ],
    )
    def test_bad_parameters(self, models, tmp_path, params_file, old, new, sentence):
        text = params_file.read_text()
        assert old in text
        file = tmp_path / "params.yaml"
        file.write_text(text.replace(old, new))
        done = run(models / "actor.onnx", "--params", file)
        assert done.returncode == 2
        assert sentence in done.stderr

    def test_missing_parameter_file(self, models, tmp_path):
        done = run(models / "actor.onnx", "--params", tmp_path / "absent.yaml")
        assert done.returncode == 2
        assert "absent.yaml: cannot be read" in done.stderr

    @pytest.mark.parametrize(
        ("arguments", "code", "sentence"),
        [
            (["--output", "{models}/actor.onnx"], 2, "ends in .rknn"),
            (["--target", "rk1"], 2, "invalid choice"),
            (["--accept-warnings"], 2, "need --quantize"),
            (["--output", "{models}/absent/actor.rknn"], 7, "create it first"),
            (["--output", "{models}/remote_trained.rknn"], 7, "choose another name"),
        ],
    )
    def test_bad_arguments(self, models, arguments, code, sentence):
        filled = [argument.format(models=models) for argument in arguments]
        done = run(models / "actor.onnx", *filled)
        assert done.returncode == code
        assert sentence in done.stderr

    @pytest.mark.parametrize("name", ["", ".", "/", ".."])
    def test_a_folder_in_place_of_the_actor(self, name):
        done = run(name)
        assert done.returncode == 2
        assert "MODEL.onnx: expected a file, found the folder" in done.stderr

    @pytest.mark.toolkit
    @pytest.mark.parametrize(
        ("parameter", "code", "sentence"),
        [
            ("toolkit_time_limit_s: 1.0", 9, "did not finish within 1 s"),
            ("toolkit_memory_limit_mb: 100.0", 10, "MB, more than the 100 MB"),
            ("fp16_max_mae: 0.0", 6, "the FP16 model is not good enough on 200 reference"),
        ],
    )
    def test_a_real_build_that_fails(
        self, models, tmp_path, params_file, parameter, code, sentence
    ):
        name = parameter.split(":")[0]
        file = tmp_path / "params.yaml"
        file.write_text(re.sub(rf"{name}: [\d.]+", parameter, params_file.read_text()))
        done = run(models / "actor.onnx", "--params", file)
        assert done.returncode == code
        assert sentence in done.stderr

    def test_another_converter_is_at_work(self, models):
        from tractor_calibration.store import promotion

        with promotion.workspace(models):
            done = run(models / "actor.onnx")
        assert done.returncode == 7
        assert "busy" in done.stderr


# What a toolkit process may do instead of its job, as source text; what is said, and the stage.
CHILDREN = {
    "abort": ("import os; os.abort()", "died with SIGABRT: an Inf", "died"),
    "killed": (
        "import os; os.kill(os.getpid(), 9)",
        "died with SIGKILL: the machine may be out",
        "died",
    ),
    "exit code": (
        "import sys, json; json.dump({'builds': {}, 'toolkit': '2', 'python': '3'}, "
        "open(sys.argv[1] + '/result.json', 'w')); sys.exit(3)",
        "ended with code 3 and without a complete result",
        "toolkit",
    ),
    "hang": ("import signal; signal.pause()", "did not finish within 1 s", "slow"),
    "memory": (
        "import signal; held = b'x' * 500_000_000; signal.pause()",
        "MB, more than the 300 MB of toolkit_memory_limit_mb",
        "large",
    ),
    "nothing": ("", "ended with code 0 and without a complete result", "toolkit"),
    "traceback": ("1 / 0", "ended with code 1 and without a complete result", "toolkit"),
    "refusal": (
        "import sys; open(sys.argv[1] + '/result.json', 'w').write('{\"error\": \"it said no\"}')",
        "it said no",
        "toolkit",
    ),
    "no room": (
        "import sys; open(sys.argv[1] + '/result.json', 'w').write("
        '\'{"error": "/there: expected room on the disk", "files": true}\')',
        "/there: expected room on the disk",
        "files",
    ),
    "no model": (
        "import sys, json; json.dump({'builds': {'fp16': {'seconds': 1, 'infer_ms': 1, "
        "'layers': [], 'no_layers': ''}}, 'toolkit': '2', 'python': '3'}, "
        "open(sys.argv[1] + '/result.json', 'w'))",
        "without a complete result",
        "toolkit",
    ),
}


def request(models, contract, calibration_dir=None, accept=False, fp16=False, drive=0, **changes):
    """A request for INT8 when there is a calibration folder, else for FP16."""
    return Request(
        onnx=models / "actor.onnx",
        output=models / "actor.rknn",
        quantize=calibration_dir is not None,
        calibration_dir=calibration_dir,
        params_file=default_params_file(),
        origin=dataclasses.replace(Origin.load(default_params_file()), contract=contract),
        parameters=ConvertParameters(**changes),
        accept_warnings=accept,
        allow_fp16=fp16,
        drive=drive,
    )


@pytest.mark.parametrize("fault", CHILDREN)
def test_a_toolkit_that_fails(models, contract, tmp_path, monkeypatch, fault):
    source, sentence, stage = CHILDREN[fault]
    before = snapshot(models)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(conversion.StageError, match=sentence) as failed:
        conversion.convert(
            request(
                models,
                contract,
                toolkit_time_limit_s=1.0 if fault == "hang" else 60.0,
                toolkit_memory_limit_mb=300.0,
            ),
            command=[sys.executable, "-c", source],
        )
    assert failed.value.stage == stage
    (log,) = tmp_path.glob("convert_actor_*.log")
    assert str(log) in str(failed.value)
    assert snapshot(models) == before


# Answers from the ONNX, changed: what a useless build would do.
ANSWERING_CHILD = """
import json, sys
from pathlib import Path
import numpy as np
from tractor_inference.model.onnx import session as onnx_session
folder = Path(sys.argv[1])
job = json.loads((folder / "job.json").read_text())
frames, grids = np.load(folder / "frames.npz"), np.load(folder / "grids.npy")
builds = {}
for name in job["builds"]:
    session = onnx_session.open_session((folder / f"{name}.onnx").read_bytes())
    good = np.stack([
        session.run(["action"], {"bev": b[None], "proprio": p[None]})[0][0]
        for b, p in zip(grids, frames["proprio"])
    ])
    actions, slip = good, 0.0
    CHANGE
    np.savez(folder / f"{name}.npz", actions=actions, repeated=actions[:3] + slip)
    (folder / f"{name}.rknn").write_bytes(b"a model")
    builds[name] = {"seconds": 1.0, "infer_ms": 1.0, "layers": [], "no_layers": "no toolkit"}
json.dump({"builds": builds, "toolkit": "2.5.0", "python": "3"},
          (folder / "result.json").open("w"))
"""


def answering(change="pass"):
    """Return the command of a child that answers with the ONNX, changed."""
    return [sys.executable, "-c", ANSWERING_CHILD.replace("CHANGE", change)]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("actions[:] = np.nan", "found NaN or Inf"),
        ("actions[:, 0] += 0.3", "left: mean absolute error: expected at most 0.001"),
        ("actions[:] = 0", "found a constant"),
        ("slip = 1e-6", "expected the same actions twice"),
    ],
)
def test_an_fp16_model_that_disagrees(models, contract, change, sentence):
    before = snapshot(models)
    with pytest.raises(conversion.StageError, match=sentence) as failed:
        conversion.convert(request(models, contract), answering(change))
    assert failed.value.stage == "gate"
    assert "suspect the layout, the normalisation or the ONNX" in str(failed.value)
    assert snapshot(models) == before


def report_of(error, tmp_path):
    """The page of a conversion that promoted nothing, which its error names."""
    (page,) = tmp_path.glob("convert_actor_*.report.html")
    assert str(page) in str(error)
    return page.read_text()


def test_an_int8_model_that_disagrees_in_every_attempt(
    models, contract, calibration_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = snapshot(models)
    wrong = answering("actions[:, 0] += 0.3 * (name != 'fp16')")
    with pytest.raises(conversion.StageError) as failed:
        conversion.convert(request(models, contract, calibration_dir, accept=True), wrong)
    assert failed.value.stage == "gate"
    text = str(failed.value)
    assert [a["verdict"] for a in failed.value.details["validation"]["attempts"]].count("fail") == 5
    assert "validated on 26 frames" in text
    assert "left: mean absolute error: expected at most 0.03, found 0.3" in text
    # Each split of the samples is tried before anything is refused.
    for attempt in ("coverage: fail", "coverage, split 2: fail", "mmse, split ", "hybrid, split "):
        assert attempt in text
    assert "not tried: the ranges of all samples are covered" in text
    assert "--allow-fp16" in text
    assert snapshot(models) == before
    page = report_of(failed.value, tmp_path)
    assert "NOT PROMOTED" in page
    assert page.count("<td>fail</td>") == 5
    assert "NOT PROMOTED: no INT8 model agrees with its ONNX on 26 held-out samples" in page
    assert "On your drives: on 26 held-out samples the INT8 model differs" in page
    assert "Beyond them: on 200 reference observations the INT8 model differs" in page
    assert page.count('src="data:image/png;base64,') == page.count("<img ") == 7
    assert "<script" not in page and "http" not in page


def test_an_int8_model_that_answers_nan_has_a_report_too(
    models, contract, calibration_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    wrong = answering("if name != 'fp16': actions[:, 0] = np.nan")
    with pytest.raises(conversion.StageError, match="found NaN or Inf") as failed:
        conversion.convert(request(models, contract, calibration_dir), wrong)
    assert failed.value.stage == "gate"
    assert "left: ONNX" in report_of(failed.value, tmp_path)


def test_what_the_report_needs_is_looked_for_before_anything_is_built(models, contract, no_jinja2):
    before = snapshot(models)
    with pytest.raises(
        conversion.StageError, match="found no Jinja2; pip install Jinja2"
    ) as failed:
        conversion.convert(request(models, contract), ["false"])
    assert failed.value.stage == "toolkit"
    assert snapshot(models) == before


@pytest.mark.parametrize("good", ["more_coverage", "mmse", "hybrid"])
def test_the_first_attempt_that_passes_is_the_last(models, contract, calibration_dir, good):
    child = answering(f"actions[:, 0] += 0.3 * (name not in ('fp16', '{good}'))")
    few = {"calibration_frames": 2} if good == "more_coverage" else {}
    result = conversion.convert(request(models, contract, calibration_dir, **few), child)
    found = result["validation"]
    assert (found["verdict"], found["rung"]) == ("pass", good)
    assert [a["rung"] for a in found["attempts"]][-1] == good
    record = manifest.read(models / "remote_trained.rknn")
    assert record.build.algorithm == ("mmse" if good == "mmse" else "normal")
    assert record.build.hybrid == (good == "hybrid")
    assert not record.build.normaliser_inside
    assert len(record.calibration.samples) == result["samples"]["calibration"] > 2


def name_scale(path, text):
    """Let an ONNX ask for noise, as a trainer does."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"exploration_scale": text})
    onnx.save(model, path)


def test_the_manifest_names_the_bytes_that_calibrated(models, contract, calibration_dir):
    # The rover keeps better samples in the same folder while a model is built.
    child = answering(
        f"for file in Path({str(calibration_dir)!r}).glob('calib_*.npz'): file.unlink()"
    )
    before = {f.name: manifest.sha256_file(f) for f in samples.list_files(calibration_dir)}
    conversion.convert(request(models, contract, calibration_dir), child)
    model, record, _ = manifest.load(models / "remote_trained.rknn", contract)
    assert record.calibration.samples
    named = {one.file: one.sha256 for one in record.calibration.samples}
    own = {name: sha256 for name, sha256 in named.items() if not file_and_index(name)}
    assert own and own.items() <= before.items()
    (reference,) = {named[name] for name in named.keys() - own.keys()}
    # Kept with the model: the suite's own may be another one day.
    kept = model.with_name(FILE_NAME)
    assert reference == manifest.sha256_file(kept)
    assert kept.read_bytes() == config_file(FILE_NAME).read_bytes()


@pytest.mark.parametrize("scale", [None, 0.25])
def test_the_manifest_says_how_much_noise_the_onnx_asks_for(models, contract, scale):
    if scale is not None:
        name_scale(models / "actor.onnx", str(scale))
    conversion.convert(request(models, contract), answering())
    assert manifest.read(models / "remote_trained.rknn").exploration_scale == scale


def test_an_onnx_that_asks_for_too_much_noise_is_refused(models, contract):
    name_scale(models / "actor.onnx", "1.5")
    before = snapshot(models)
    with pytest.raises(conversion.StageError, match=r"a number from 0 to 1 .* '1\.5'"):
        conversion.convert(request(models, contract), answering())
    assert snapshot(models) == before


def test_a_conversion_reads_each_sample_and_inspects_the_onnx_once(
    models, contract, calibration_dir, monkeypatch
):
    opened, inspected = Counter(), []
    read, call = outside.read_bytes, limited.call

    def count_reads(path, *arguments, **options):
        opened[path] += 1
        return read(path, *arguments, **options)

    def count_children(*arguments):
        inspected.append(arguments[1].__name__)
        return call(*arguments)

    monkeypatch.setattr(outside, "read_bytes", count_reads)
    monkeypatch.setattr(limited, "call", count_children)
    conversion.convert(request(models, contract, calibration_dir), answering())
    files = samples.list_files(calibration_dir)
    assert {file: opened[file] for file in files} == dict.fromkeys(files, 1)
    assert inspected == ["examine"]


def test_the_toolkit_builds_the_bytes_that_were_inspected(models, contract, tmp_path):
    # The user's file is another one when the toolkit starts, and the manifest names the first.
    onnx, given = models / "actor.onnx", tmp_path / "given.onnx"
    before = onnx.read_bytes()
    child = answering(
        f"Path({str(given)!r}).write_bytes((folder / f'{{name}}.onnx').read_bytes())\n"
        f"    Path({str(onnx)!r}).write_text('replaced')"
    )
    conversion.convert(request(models, contract), child)
    assert given.read_bytes() == before
    record = manifest.read(models / "remote_trained.rknn")
    assert record.onnx.sha256 == hashlib.sha256(before).hexdigest()


def test_among_builds_with_warnings_the_plainest_is_taken(models, contract, calibration_dir):
    child = answering("actions[:, 0] += 0.02 * (name != 'fp16') - 0.001 * (name == 'hybrid')")
    asked = request(models, contract, calibration_dir, accept=True, fail_min_sqnr_db=18.0)
    result = conversion.convert(asked, child)
    assert {one["rung"] for one in result["validation"]["attempts"]} == {*attempts.ATTEMPTS}
    assert result["validation"]["rung"] == "coverage"


def test_an_attempt_that_the_toolkit_cannot_build_is_passed_over(models, contract, calibration_dir):
    child = answering(
        "if name == 'mmse': raise SystemExit(3)\n"
        "    actions[:, 0] += 0.3 * (name not in ('fp16', 'hybrid'))"
    )
    result = conversion.convert(request(models, contract, calibration_dir), child)
    attempts = {a["rung"]: a for a in result["validation"]["attempts"]}
    assert "ended with code 3" in attempts["mmse"]["problem"]
    assert result["validation"]["rung"] == "hybrid"


def test_fp16_is_promoted_only_when_it_is_allowed(models, contract, calibration_dir):
    wrong = answering("actions[:, 0] += 0.3 * (name != 'fp16')")
    result = conversion.convert(request(models, contract, calibration_dir, fp16=True), wrong)
    assert result["precision"] == "fp16"
    assert "INT8 passes" not in (models / "actor.report.html").read_text()
    assert "FP16, because no INT8 build passed" in result["notes"]
    record = manifest.read(models / "remote_trained.rknn")
    assert (record.model.precision, record.calibration.samples) == ("fp16", ())


WITH_WARNINGS = "actions[:, 0] += 0.016 * (name != 'fp16')"


def test_a_model_with_warnings_is_promoted_only_when_they_are_accepted(
    models, contract, calibration_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = snapshot(models)
    with pytest.raises(conversion.StageError, match="--accept-warnings") as failed:
        conversion.convert(request(models, contract, calibration_dir), answering(WITH_WARNINGS))
    assert failed.value.stage == "warning"
    assert snapshot(models) == before
    assert "NOT PROMOTED" in report_of(failed.value, tmp_path)
    result = conversion.convert(
        request(models, contract, calibration_dir, accept=True), answering(WITH_WARNINGS)
    )
    assert result["validation"]["verdict"] == "warn"
    assert any("accepted with warnings: left: mean absolute" in note for note in result["notes"])
    assert manifest.read(models / "remote_trained.rknn").validation["verdict"] == "warn"


def test_few_frames_are_stated_with_the_verdict(models, contract, calibration_dir):
    result = conversion.convert(request(models, contract, calibration_dir), answering())
    assert result["validation"]["frames"] == 26
    assert any("validated on 26 frames, fewer than the 200 wanted" in n for n in result["notes"])


def test_a_full_disk_at_the_end(models, contract, calibration_dir, monkeypatch):
    before, samples_before = snapshot(models), snapshot(calibration_dir)
    original = os.replace

    def full(source, target):
        if Path(target).name == "remote_trained.rknn":
            raise OSError(28, "No space left on device")
        original(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(conversion.StageError, match="No space") as failed:
        conversion.convert(request(models, contract, calibration_dir), answering())
    monkeypatch.undo()
    assert failed.value.stage == "files"
    assert snapshot(models) == before
    assert snapshot(calibration_dir) == samples_before


@pytest.mark.parametrize("source", ["import os; os.abort()", "1 / 0"])
def test_a_toolkit_that_fails_where_the_disk_is_full(models, contract, monkeypatch, source):
    """The toolkit's own words say nothing of a full disk; the code and the folder do."""
    before = snapshot(models)
    usage = shutil.disk_usage(models)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    command = [sys.executable, "-c", source]
    with pytest.raises(conversion.StageError, match=r"found 0\.1 MB free") as failed:
        conversion.convert(request(models, contract), command)
    assert failed.value.stage == "files"
    assert str(failed.value).startswith(f"{models}: expected room")
    assert snapshot(models) == before


@pytest.mark.parametrize(
    ("number", "cause"),
    [(errno.ENOSPC, "room on the disk"), (errno.EROFS, "written"), (errno.EACCES, "permission")],
)
def test_a_copy_for_readers_that_cannot_be_written_is_a_note(
    models, contract, calibration_dir, monkeypatch, number, cause
):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(dataset, "publish", refuse)
    result = conversion.convert(request(models, contract, calibration_dir), answering())
    assert "rknn_dataset" not in result
    (note,) = (note for note in result["notes"] if note.startswith("rknn_dataset was not written"))
    assert cause in note and str(calibration_dir / "rknn_dataset") in note
    assert (models / "remote_trained.rknn").is_file()


def test_a_page_that_cannot_be_written_hides_no_verdict(
    models, contract, calibration_dir, monkeypatch
):
    original = tempfile.mkstemp

    def full(suffix=None, **options):
        if suffix == ".report.html":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(suffix=suffix, **options)

    monkeypatch.setattr(tempfile, "mkstemp", full)
    wrong = answering("actions[:, 0] += 0.3 * (name != 'fp16')")
    with pytest.raises(conversion.StageError, match="pictures: not written") as failed:
        conversion.convert(request(models, contract, calibration_dir), wrong)
    assert failed.value.stage == "gate"
    assert "report" not in failed.value.details


def test_a_file_of_the_user_in_rknn_dataset_is_found_before_the_build(
    models, contract, calibration_dir
):
    (calibration_dir / "rknn_dataset").mkdir()
    (calibration_dir / "rknn_dataset" / "thesis.txt").write_text("mine")
    before = snapshot(models), snapshot(calibration_dir)
    with pytest.raises(conversion.StageError, match=r"thesis\.txt") as failed:
        conversion.convert(request(models, contract, calibration_dir), ["/must/not/start"])
    assert failed.value.stage == "files"
    assert (snapshot(models), snapshot(calibration_dir)) == before


def test_a_validated_model_is_kept_when_rknn_dataset_cannot_be_written(
    models, contract, calibration_dir, monkeypatch
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tractor_calibration.conversion.dataset.publish", full)
    result = conversion.convert(request(models, contract, calibration_dir), answering())
    assert (models / "remote_trained.rknn").read_bytes() == b"a model"
    assert "rknn_dataset" not in result
    assert "rknn_dataset was not written" in result["notes"][-1]
    assert "No space" in result["notes"][-1]


@pytest.mark.toolkit
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_behind(models, number):
    before = snapshot(models)
    process = subprocess.Popen([*COMMAND, str(models / "actor.onnx")], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not list(models.glob(".convert-*/build_0/job.json")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert snapshot(models) == before


@pytest.mark.toolkit
@pytest.mark.slow
def test_a_killed_converter_leaves_the_old_model_and_no_process(models, calibration_dir, contract):
    arguments = [str(models / "actor.onnx"), "--quantize", "--calibration-dir"]
    command = [*COMMAND, *arguments, str(calibration_dir)]
    started_s = time.monotonic()
    assert run(*command[4:]).returncode == 0
    whole_s = time.monotonic() - started_s
    before, old = snapshot(models), manifest.read(models / "remote_trained.rknn")
    # While it starts, builds and simulates, and near the end, where it promotes.
    for moment in (0.2, 0.5, 0.8, 0.95):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment * whole_s)
        process.kill()
        process.communicate(timeout=30)
        _, found, _ = manifest.load(models / "remote_trained.rknn", contract)
        after = {k: v for k, v in snapshot(models).items() if not k.startswith(".convert-")}
        # Killed before the promotion or after it; never in between.
        assert after == before or found.created != old.created
        before, old = after, found
    assert run(*command[4:]).returncode == 0
    assert not list(models.glob(".convert-*"))
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert str(models).encode() not in file.read_bytes()


@pytest.mark.parametrize(("blind", "named"), [([0, 1], "lidar and depth"), ([1], "depth")])
def test_samples_that_never_show_an_obstacle_are_refused(models, calibration_dir, blind, named):
    for file in samples.list_files(calibration_dir):
        with np.load(file) as good:
            members = {name: good[name].copy() for name in good.files}
        members["bev"][blind] = 0.0
        np.savez(file, **members)
    before = snapshot(models)
    done = run(models / "actor.onnx", "--quantize", "--calibration-dir", calibration_dir)
    # A model of such samples agrees with its ONNX on them, and is useless.
    assert done.returncode == 4
    assert f"the grid's channel {named} is empty" in done.stderr
    assert snapshot(models) == before


def outcomes(result):
    found = result["validation"]["attempts"]
    return [(one["rung"], one["split"], one["verdict"]) for one in found]


# Fails for the first split, as where what is rare was held out.
FIRST_FAILS = "actions[:, 0] += 0.3 * (name != 'fp16' and folder.name == 'build_0')"


def test_another_split_is_tried_before_anything_is_refused(models, contract, calibration_dir):
    result = conversion.convert(request(models, contract, calibration_dir), answering(FIRST_FAILS))
    tried = [
        (one["rung"], one["split"], one["verdict"]) for one in result["validation"]["attempts"]
    ]
    assert tried == [("coverage", 0, "fail"), ("coverage", 1, "pass")]
    assert result["validation"]["verdict"] == "pass"
    assert result["validation"]["fp16"]["split"] == result["validation"]["int8"]["split"] == 1


def test_a_toolkit_that_dies_for_another_split_costs_only_that(models, contract, calibration_dir):
    dies = f"{WITH_WARNINGS}\n    if folder.name == 'build_1': import os; os.abort()"
    asked = request(models, contract, calibration_dir, accept=True, fail_min_sqnr_db=18.0)
    result = conversion.convert(asked, answering(dies))
    tried = [
        (one["rung"], one["split"], one["verdict"]) for one in result["validation"]["attempts"]
    ]
    assert tried[:3] == [("coverage", 0, "warn"), ("coverage", 1, "none"), ("coverage", 2, "warn")]
    assert result["validation"]["rung"] == "coverage"


def test_fp16_after_warnings_says_which(models, contract, calibration_dir):
    asked = request(models, contract, calibration_dir, fp16=True, fail_min_sqnr_db=18.0)
    result = conversion.convert(asked, answering(WITH_WARNINGS))
    assert (result["precision"], result["validation"]["verdict"]) == ("fp16", "pass")
    assert any(
        n.startswith("FP16, because the INT8 model has warnings: left") for n in result["notes"]
    )
    assert not any("accepted" in note for note in result["notes"])
    assert "rknn_dataset" not in result


@pytest.mark.toolkit
@pytest.mark.parametrize("attempt", [*attempts.ATTEMPTS])
def test_every_attempt_builds_and_opens_again_in_the_simulator(
    models, contract, calibration_dir, monkeypatch, attempt
):
    monkeypatch.setattr(attempts, "ATTEMPTS", {attempts.COVERAGE: attempts.ATTEMPTS[attempt]})
    result = conversion.convert(request(models, contract, calibration_dir, accept=True))
    record = manifest.read(models / "remote_trained.rknn")
    assert result["build"] == dataclasses.asdict(record.build)
    backend = open_backend("rknn_sim", models / "remote_trained.rknn", contract)
    # Built again from the same, the simulator answers bit for bit the same.
    assert reference_vectors.check(backend) == 0.0
    backend.close()
    assert "<td>action</td>" in (models / "actor.report.html").read_text()


@pytest.mark.toolkit
def test_the_same_inputs_give_the_same_model_twice(models, contract, calibration_dir):
    def without_times(found):
        if isinstance(found, dict):
            return {
                key: without_times(value)
                for key, value in found.items()
                if key not in ("build_seconds", "simulator_ms", "bytes")
            }
        return [without_times(one) for one in found] if isinstance(found, list) else found

    records = []
    for _ in range(2):
        conversion.convert(request(models, contract, calibration_dir))
        records.append(manifest.load(models / "remote_trained.rknn", contract)[1])
    first, second = records
    assert first.calibration == second.calibration
    assert first.probes == second.probes
    assert without_times(first.validation) == without_times(second.validation)


@pytest.mark.toolkit
def test_what_torch_writes_by_default_converts_and_is_found_again(
    models, contract, calibration_dir
):
    """Opset 20, a free batch axis, another output, and the weights in a file beside it."""
    import onnx
    from onnx import TensorProto, helper

    actor = models / "actor.onnx"
    model = onnx.load_model(actor)
    model.opset_import[0].version, model.ir_version = 20, 10
    model.graph.node.append(helper.make_node("Exp", ["f3"], ["std"]))
    model.graph.output.append(helper.make_tensor_value_info("std", TensorProto.FLOAT, [1, 2]))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    beside = actor.with_name("actor.onnx.data")
    onnx.save(model, actor, save_as_external_data=True, location=beside.name, size_threshold=0)
    result = conversion.convert(request(models, contract, calibration_dir, accept=True))
    assert result["onnx_bytes"] == actor.stat().st_size + beside.stat().st_size
    note = result["notes"][0]
    for change in ("put inside", "left out: std", "batch axis set to 1", "opset 20 lowered to 19"):
        assert change in note
    rknn = models / "remote_trained.rknn"
    simulator = open_backend("rknn_sim", rknn, contract)
    reference_vectors.check(simulator)
    simulator.close()
    weights = bytearray(beside.read_bytes())
    weights[0] ^= 1
    beside.write_bytes(weights)
    with pytest.raises(ModelError, match=r"expected sha256 .* as its manifest says"):
        open_backend("rknn_sim", rknn, contract)


@pytest.mark.toolkit
@pytest.mark.parametrize("target", TARGETS)
def test_every_target_builds(models, calibration_dir, target):
    done = run(
        models / "actor.onnx", "--quantize", "--calibration-dir", calibration_dir,
        "--target", target, "--accept-warnings", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["target"] == target
    assert manifest.read(models / "remote_trained.rknn").model.target == target


@pytest.mark.toolkit
def test_fp16(models, contract):
    name_scale(models / "actor.onnx", "0.25")
    done = run(models / "actor.onnx")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("FP16 model for rk3588")
    assert "Without drives of yours: on 200 reference observations" in done.stdout
    _, found, _ = manifest.load(models / "remote_trained.rknn", contract)
    assert (found.model.precision, found.calibration.samples) == ("fp16", ())
    assert found.calibration.ranges == {}
    assert found.validation["fp16"]["mae"] < 0.001
    with contextlib.closing(
        open_backend("rknn_sim", models / "remote_trained.rknn", contract)
    ) as opened:
        assert opened.exploration_scale == found.exploration_scale == 0.25
    kept = [path.read_bytes() for path in models.glob("versions/*/*")]
    assert b"the older model" in kept and b'{"older": true}' in kept


# The last gate


@pytest.mark.toolkit
@pytest.mark.slow
def test_a_model_that_is_driven_says_how_it_drove(models, contract, calibration_dir, monkeypatch):
    monkeypatch.setattr(driving, "SECONDS", 1.0)
    result = conversion.convert(request(models, contract, calibration_dir, drive=2))
    assert len(result["drive"]["worlds"]) == 2
    assert outcome.sentences(result)[-1].startswith("In 2 simulated worlds of 1 s")
    # What drove was a copy: the manifest is for the place of the version.
    _, record, _ = manifest.load(models / "remote_trained.rknn", contract)
    assert (models / "versions" / result["version"] / record.onnx.file).is_file()


ANSWER = {
    "distance_m": {"first": 9.0, "second": 8.9, "low": -0.3, "high": 0.1},
    "collisions": {"first": 0.1, "second": 0.2, "low": -0.1, "high": 0.3},
    "worlds": [{}, {}],
}  # fmt: skip


@pytest.fixture
def driven(monkeypatch, models, contract, calibration_dir):
    """Convert with a toolkit that answers, and a simulator that prints and exits so."""

    def convert(printed, code=0):
        program = f"print({printed!r}); raise SystemExit({code!r})"
        find = subprocess.Popen

        def start(command, **options):
            stands_in = [sys.executable, "-c", program]
            return find(stands_in if "rollout" in command else command, **options)

        monkeypatch.setattr(driving.subprocess, "Popen", start)
        return conversion.convert(request(models, contract, calibration_dir, drive=2), answering())

    return convert


def test_a_model_that_drives_like_its_onnx_is_promoted(driven):
    result = driven(json.dumps(ANSWER))
    assert result["drive"] == ANSWER
    text = outcome.text(result)
    assert "the model drove 8.90 m and hit 0.20 things" in text
    assert "how it drives" not in text and outcome.NOT_THE_NPU in text


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"collisions": {"first": 0.0, "second": 0.5, "low": 0.2, "high": 0.8}},
            "no more collisions than its ONNX (0.00",
        ),
        (
            {"distance_m": {"first": 9.0, "second": 7.0, "low": -2.5, "high": -1.5}},
            "at least 90% of the metres",
        ),
    ],
)
def test_a_model_that_drives_worse_is_refused(driven, models, change, why):
    before = snapshot(models)
    with pytest.raises(conversion.StageError, match="does not drive like it") as failed:
        driven(json.dumps(ANSWER | change))
    assert failed.value.stage == "gate" and why in str(failed.value)
    assert failed.value.details["validation"]["verdict"] == "fail"
    assert failed.value.details["drive"] == ANSWER | change
    assert snapshot(models) == before


@pytest.mark.parametrize(
    ("printed", "code", "why"),
    [
        ("", "the toolkit is missing", "could not be driven in the simulator: the toolkit is"),
        ('{"distance_m": {}, "collisions": {}}', 0, "answer cannot be read"),
        (json.dumps({k: v for k, v in ANSWER.items() if k != "worlds"}), 0, "cannot be read"),
        ("no json", 0, "answer cannot be read"),
        ("{}", 0, "answer cannot be read"),
    ],
)
def test_a_simulator_that_fails_is_said(driven, models, printed, code, why):
    before = snapshot(models)
    with pytest.raises(conversion.StageError, match=why) as failed:
        driven(printed, code)
    assert failed.value.stage == "drive"
    assert snapshot(models) == before


def test_without_the_simulator_nothing_is_built(models, contract, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "mujoco" else find(name)
    )
    with pytest.raises(conversion.StageError, match="found no mujoco") as failed:
        conversion.convert(request(models, contract, drive=1))
    assert failed.value.stage == "drive"


@pytest.fixture
def without_reference(tmp_path, params_file):
    """The parameter file of another robot, for which the suite has no reference observations."""
    text, own = params_file.read_text(), "half_width_m: 0.15"
    assert text.count(own) == 1
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(own, "half_width_m: 0.16"))
    return path


@pytest.mark.toolkit
def test_without_reference_observations_nothing_is_claimed_beyond_the_drives(
    models, calibration_dir, without_reference
):
    arguments = (models / "actor.onnx", "--params", without_reference)
    quantised = (*arguments, "--quantize", "--calibration-dir", calibration_dir)
    done = run(*quantised)
    assert done.returncode == 11
    assert "nothing is known beyond these samples, without reference observations" in done.stderr
    assert "made for another contract, robot or grid (half_width_m: here 0.16" in done.stderr
    assert "python -m tractor_sim observations" in done.stderr
    done = run(*quantised, "--accept-warnings")
    assert done.returncode == 0, done.stderr
    assert "Beyond them: not known." in done.stdout
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert "Without drives of yours: on 50 synthetic frames" in done.stdout
    assert "verdict: pass" in done.stdout and "accepted" not in done.stdout


def test_a_named_set_that_cannot_be_read_is_an_error(models, contract, tmp_path):
    named = str(tmp_path / "absent.npz")
    with pytest.raises(conversion.StageError, match=r"absent\.npz: expected reference") as failed:
        conversion.convert(request(models, contract, reference_observations=named))
    assert failed.value.stage == "samples"


@pytest.fixture
def unpacked(shared_data, tmp_path):
    """Unpack a set of samples that others made."""

    def unpack(name):
        with zipfile.ZipFile(shared_data / "int8_verdict" / f"{name}.zip") as archive:
            archive.extractall(tmp_path / name)
        (folder,) = {file.parent for file in (tmp_path / name).rglob("*.npz")}
        return folder

    return unpack


@pytest.mark.toolkit
@pytest.mark.slow
def test_samples_of_straight_driving_alone_are_a_warning_and_give_a_model_that_turns(
    models, unpacked, repository
):
    folder, onnx = unpacked("straight_driving_poor"), models / "reference.onnx"
    shutil.copy(repository / "models" / "sac_actor_reference.onnx", onnx)
    done = run(onnx, "--quantize", "--calibration-dir", folder)
    assert done.returncode == 11
    assert "check grades the samples poor" in done.stderr
    accept = ("--accept-warnings", "--json")
    done = run(onnx, "--quantize", "--calibration-dir", folder, *accept)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    # With these samples alone the largest error beyond them is above 0.9, and signs are wrong.
    beyond = result["validation"]["int8"]["beyond"]
    assert (beyond["frames"], beyond["sign_agreement"]) == (200, 1.0)
    assert beyond["max"] < 0.05
    assert result["samples"]["calibration_reference"] > 0


@pytest.mark.toolkit
@pytest.mark.slow
def test_samples_whose_turns_are_all_held_out_are_not_refused(models, unpacked, repository):
    folder, onnx = unpacked("fair_but_refused"), models / "reference.onnx"
    shutil.copy(repository / "models" / "sac_actor_reference.onnx", onnx)
    done = run(onnx, "--quantize", "--calibration-dir", folder)
    assert done.returncode == 0, done.stderr
    assert "verdict: pass" in done.stdout
    assert "to validate, 0 to calibrate" in done.stdout
    record = manifest.read(models / "remote_trained.rknn")
    assert record.model.bytes <= 600_000
    beyond = record.validation["int8"]["beyond"]
    assert beyond["sqnr_db"] >= 40.0
    assert (beyond["within_0_05"], beyond["sign_agreement"]) == (1.0, 1.0)


@pytest.mark.toolkit
def test_int8_in_folders_with_a_space(models, calibration_dir, tmp_path, contract):
    models = shutil.move(models, tmp_path / "my models")
    calibration_dir = shutil.move(calibration_dir, tmp_path / "my samples")
    spoil(calibration_dir, bev=_set((0, 3, 3), np.inf))
    output = models / "actor_int8.rknn"
    done = run(
        models / "actor.onnx", "--quantize", "--calibration-dir", calibration_dir,
        "--output", output, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["samples"]["found"] == 105
    (reason,) = result["samples"]["rejected"]
    assert "calib_bad.npz" in reason
    assert result["validation"]["source"] == "held-out samples"
    assert result["validation"]["int8"]["mae"] <= 0.03
    assert len(result["kept"]) == 1
    place = models / "versions" / result["version"]

    _, found, _ = manifest.load(models / "remote_trained.rknn", contract)
    assert found.model.file == "actor_int8.rknn"
    assert manifest.sha256_file(place / found.onnx.file) == found.onnx.sha256
    folder = (place / found.calibration.folder).resolve()
    assert folder == place.resolve()
    for sample in found.calibration.samples:
        named = file_and_index(sample.file)
        file = place / named[0] if named else folder / sample.file
        assert manifest.sha256_file(file) == sample.sha256
    assert {*found.calibration.ranges} == {*feature_names(contract)}
    for name, (low, high) in found.calibration.ranges.items():
        assert low <= high, name
    names = {path.name for path in (calibration_dir / "rknn_dataset").iterdir()}
    assert len(names) == 2 * len(found.calibration.samples) + 1
    assert (models / "actor.rknn").read_bytes() == b"the older model"
    assert "data:image/png" in (models / "actor_int8.report.html").read_text()
    # A rover that drives on replaces its samples: the version has those that calibrated it.
    shutil.rmtree(calibration_dir)
    open_backend("rknn_sim", models / "remote_trained.rknn", contract).close()


@pytest.mark.toolkit
def test_an_earlier_version_runs_in_the_simulator(models, calibration_dir, contract, frame_maker):
    frame = frame_maker(np.random.default_rng(0))
    inputs = frame.bev[None], normalize(contract, frame.proprio)[None]

    def answer(model):
        backend = open_backend("rknn_sim", model, contract)
        action = backend.infer(*inputs)
        backend.close()
        return action

    first = conversion.convert(request(models, contract, calibration_dir))["version"]
    before = answer(models / "actor.rknn")
    conversion.convert(request(models, contract, calibration_dir))
    np.testing.assert_array_equal(answer(models / "versions" / first / "actor.rknn"), before)


@pytest.mark.toolkit
def test_too_few_to_hold_out_is_a_warning_and_fp16_samples_only_validate(models, calibration_dir):
    for file in samples.list_files(calibration_dir)[11:]:
        file.unlink()
    arguments = (models / "actor.onnx", "--calibration-dir", calibration_dir)
    done = run(*arguments, "--quantize")
    # Validated on what it was calibrated with, INT8 passes every gate.
    assert done.returncode == 11
    assert "of 11 samples 8 cannot be held out 0.5 s apart from 10 that calibrate" in done.stderr
    assert "check grades the samples poor: 11 usable samples" in done.stderr
    done = run(*arguments, "--quantize", "--accept-warnings")
    assert done.returncode == 0, done.stderr
    assert "verdict: warn" in done.stdout
    assert "accepted with warnings: of 11 samples" in done.stdout
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert "without --quantize the samples validate the model" in done.stdout
    assert "On your drives: on 11 samples the FP16 model differs" in done.stdout


@pytest.mark.toolkit
def test_the_guides_script(models, repository):
    script = repository / "src/tractor_bringup/tractor_bringup/convert_onnx_to_rknn.py"
    done = run(
        models / "actor.onnx", "--output", models / "other.rknn", command=[sys.executable, script]
    )
    assert done.returncode == 0, done.stderr
    target = os.readlink(models / "remote_trained.rknn")
    assert target == os.readlink(models / "other.rknn")
    assert re.fullmatch(r"versions/other\.\d{8}T\d{6}Z/other\.rknn", target)


def test_the_guides_script_without_the_suite(models, repository):
    script = repository / "src/tractor_bringup/tractor_bringup/convert_onnx_to_rknn.py"
    done = run(models / "actor.onnx", command=[sys.executable, "-I", "-S", script])
    assert done.returncode == 2
    assert "source install/setup.bash" in done.stderr


def test_help_is_instant_and_documents_the_exit_codes():
    started = time.perf_counter()
    done = run("--help")
    elapsed = time.perf_counter() - started
    assert done.returncode == 0
    for text in ("--quantize", "--calibration-dir", "Exit codes:", "7  files cannot be written"):
        assert text in done.stdout
    assert elapsed < 1.0
    source = "import sys, tractor_calibration.convert; print('numpy' in sys.modules)"
    assert run("-c", source, command=[sys.executable]).stdout == "False\n"


def test_the_dispatcher_names_its_verbs():
    assert "convert" in run(command=COMMAND[:-1]).stdout
    unknown = run("transmogrify", command=COMMAND[:-1])
    assert unknown.returncode == 2
    assert "found 'transmogrify'" in unknown.stderr


def test_a_manifest_takes_every_tolerance_that_may_be_asked_for():
    from tractor_core import parameters

    field, _ = parameters.fields_of(ConvertParameters)["probe_tolerance"]
    assert 0.0 < field.metadata["minimum"] < field.metadata["maximum"] == manifest.MAX_TOLERANCE


def test_the_shipped_parameters_are_the_defaults(params_file):
    from tractor_core import parameters

    values = parameters.read_file(params_file, "convert")
    assert parameters.from_values(ConvertParameters, values) == ConvertParameters()
