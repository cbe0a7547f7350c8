"""A promotion is whole or did not happen, and nothing the user had is lost."""

import os

import pytest

from tractor_calibration import promotion
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


@pytest.mark.parametrize("link_is_a_file", [False, True])
@pytest.mark.parametrize("call", ["link", "replace"])
@pytest.mark.parametrize("failing", range(5))
def test_a_step_that_fails_leaves_everything_as_before(
    models, monkeypatch, call, failing, link_is_a_file
):
    if link_is_a_file:
        (models / "remote_trained.rknn").unlink()
        (models / "remote_trained.rknn").write_bytes(b"by hand")
        (models / "remote_trained.json").write_bytes(b"its manifest")
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
    steps = {"link": 4 if link_is_a_file else 3, "replace": 4}[call]
    assert failed == (failing < steps)
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
