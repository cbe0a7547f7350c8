"""A promotion is whole or did not happen, and nothing the user had is lost."""

import dataclasses
import os

import pytest

from tractor_calibration import promotion
from tractor_inference import manifest
from tractor_inference.errors import ModelError

NEW = {"actor.json": b"new manifest", "actor.report.html": b"new page", "actor.rknn": b"new model"}


def stage(work):
    for name, content in NEW.items():
        (work / name).write_bytes(content)
    return [work / name for name in NEW]


def snapshot(folder):
    """Every path below a folder with its content, or its target when it is a link."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink()
        else path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }  # fmt: skip


def test_first_model_of_an_empty_folder(tmp_path):
    with promotion.workspace(tmp_path) as work:
        assert promotion.promote(stage(work), "T") == []
    assert snapshot(tmp_path) == {**NEW, "remote_trained.rknn": "actor.rknn"}


def test_what_is_overwritten_is_kept_in_the_archive(models):
    with promotion.workspace(models) as work:
        kept = promotion.promote(stage(work), "20250101T000000Z")
    assert {path.name: path.read_bytes() for path in kept} == {
        "actor.20250101T000000Z.rknn": b"the older model",
        "actor.20250101T000000Z.json": b'{"older": true}',
    }
    assert (models / "remote_trained.rknn").read_bytes() == NEW["actor.rknn"]


def write_real_model(models, contract, stem="actor"):
    """Write a model as the converter leaves it, of an ONNX and samples outside of the folder."""
    (models / f"{stem}.rknn").write_bytes(b"the older model")
    probe = manifest.ProbeRecord("", (0.0,) * 6, (0.0, 0.0), (0.0, 0.0))
    record = manifest.Manifest(
        model=manifest.ModelRecord(f"{stem}.rknn", "0" * 64, 15, "int8", "rk3588"),
        build=manifest.BuildRecord("normal"),
        onnx=manifest.OnnxRecord("../exports/actor.onnx", "1" * 64, 7, {}),
        contract=manifest.ContractRecord(contract.digest, contract.canonical()),
        calibration=manifest.CalibrationRecord(
            "../calibration_data", (manifest.SampleRecord("calib_1.npz", "2" * 64),)
        ),
        toolkit=manifest.ToolkitRecord("2.5.0", "3.11"),
        probes=manifest.ProbesRecord(0.05, (probe,) * manifest.LEAST_PROBES),
        validation={"frames": 6},
        created="2025-01-01T00:00:00+00:00",
    )
    manifest.write(record, models / f"{stem}.json")
    return record


def test_an_archived_manifest_leads_where_it_led(models, contract):
    before = write_real_model(models, contract)
    with promotion.workspace(models) as work:
        promotion.promote(stage(work), "T")
    after = manifest.read(models / "archive" / "actor.T.rknn")
    assert after.onnx.file == "../../exports/actor.onnx"
    assert after.calibration.folder == "../../calibration_data"
    unmoved = dataclasses.replace(after, onnx=before.onnx, calibration=before.calibration)
    assert unmoved == before
    assert after.calibration.samples == before.calibration.samples
    assert after.onnx.sha256 == before.onnx.sha256


def test_absolute_and_empty_paths_of_a_manifest_stay(models, contract):
    before = write_real_model(models, contract)
    fp16 = dataclasses.replace(
        before,
        model=dataclasses.replace(before.model, precision="fp16"),
        build=manifest.BuildRecord(),
        onnx=dataclasses.replace(before.onnx, file="/exports/actor.onnx"),
        calibration=manifest.CalibrationRecord("", ()),
    )
    manifest.write(fp16, models / "actor.json")
    with promotion.workspace(models) as work:
        promotion.promote(stage(work), "T")
    assert manifest.read(models / "archive" / "actor.T.rknn") == fp16


def test_a_model_that_stood_in_place_of_the_link_is_kept_with_its_manifest(models):
    link = models / "remote_trained.rknn"
    link.unlink()
    link.write_bytes(b"put here by hand")
    (models / "remote_trained.json").write_bytes(b"its manifest")
    with promotion.workspace(models) as work:
        promotion.promote(stage(work), "T")
    assert os.readlink(link) == "actor.rknn"
    assert (models / "archive" / "remote_trained.T.rknn").read_bytes() == b"put here by hand"
    assert (models / "archive" / "remote_trained.T.json").read_bytes() == b"its manifest"
    assert not (models / "remote_trained.json").exists()


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("link_is_a_file", [False, True])
@pytest.mark.parametrize("call", ["link", "replace"])
@pytest.mark.parametrize("failing", range(9))
def test_a_step_that_fails_leaves_everything_as_before(
    models, contract, monkeypatch, call, failing, link_is_a_file, real
):
    if link_is_a_file:
        (models / "remote_trained.rknn").unlink()
        (models / "remote_trained.rknn").write_bytes(b"by hand")
        (models / "remote_trained.json").write_bytes(b"its manifest")
    if real:
        write_real_model(models, contract)
        if link_is_a_file:
            write_real_model(models, contract, "remote_trained")
    before = snapshot(models)
    calls = []
    original = getattr(os, call)

    def failing_call(*args, **kwargs):
        calls.append(args)
        if len(calls) == failing + 1:
            raise OSError(28, "No space left on device")
        return original(*args, **kwargs)

    with promotion.workspace(models) as work:
        staged = stage(work)
        monkeypatch.setattr(os, call, failing_call)
        try:
            promotion.promote(staged, "T")
            failed = False
        except OSError:
            failed = True
        monkeypatch.undo()
    assert failed == (failing < len(calls))
    assert len(calls) < 9 or failed
    if failed:
        assert snapshot(models) == before


def test_the_model_exists_at_every_moment(models, monkeypatch):
    seen = []
    for name in ("link", "replace"):
        original = getattr(os, name)

        def spy(*args, original=original, **kwargs):
            seen.append((models / "remote_trained.rknn").read_bytes())
            return original(*args, **kwargs)

        monkeypatch.setattr(os, name, spy)
    with promotion.workspace(models) as work:
        promotion.promote(stage(work), "T")
    assert set(seen) == {b"the older model", b"new model"}


def test_an_archived_name_is_never_overwritten(models):
    (models / "archive").mkdir()
    (models / "archive" / "actor.T.rknn").write_bytes(b"oldest")
    before = snapshot(models)
    with promotion.workspace(models) as work, pytest.raises(FileExistsError):
        promotion.promote(stage(work), "T")
    assert snapshot(models) == before


def test_a_second_converter_is_told_to_wait(models):
    with (
        promotion.workspace(models),
        pytest.raises(ModelError, match="busy"),
        promotion.workspace(models),
    ):
        pass


def test_leftovers_of_a_killed_converter_are_removed(models):
    before = snapshot(models)
    (models / ".convert-dead").mkdir()
    (models / ".convert-dead" / "half.rknn").write_bytes(b"half")
    with promotion.workspace(models):
        pass
    assert snapshot(models) == before


def test_bad_destinations_are_refused_all_at_once(tmp_path):
    (tmp_path / "actor.rknn").mkdir()
    (tmp_path / "remote_trained.rknn").mkdir()
    (tmp_path / "archive").write_text("")
    with pytest.raises(ModelError) as refused:
        promotion.check_destination(tmp_path / "actor.rknn")
    for name in ("actor.rknn: expected", "remote_trained.rknn: expected", "archive: expected"):
        assert name in str(refused.value)
    with pytest.raises(ModelError, match="create it first"):
        promotion.check_destination(tmp_path / "absent" / "actor.rknn")
    with pytest.raises(ModelError, match="choose another name"):
        promotion.check_destination(tmp_path / "remote_trained.rknn")
