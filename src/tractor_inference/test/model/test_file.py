"""What a model's path leads to: read whole, once, and never from outside of its folder."""

import os

import pytest

from tractor_core.errors import ModelError
from tractor_inference.model import file as model_file


def read_beneath(path):
    with model_file.ModelFolder(path) as folder:
        return folder.read(folder.model)


@pytest.fixture
def models(tmp_path):
    """A folder of models as the converter lays it out, and a secret outside of it."""
    version = tmp_path / "models" / "versions" / "actor.1"
    version.mkdir(parents=True)
    (version / "actor.rknn").write_bytes(b"model 1")
    (version / "actor.json").write_bytes(b"manifest 1")
    link = tmp_path / "models" / "remote_trained.rknn"
    link.symlink_to("versions/actor.1/actor.rknn")
    (tmp_path / "secret").write_bytes(b"secret")
    return tmp_path / "models"


@pytest.mark.parametrize("absolute", [False, True])
def test_links_beneath_the_folder_are_followed(models, absolute):
    link = models / "remote_trained.rknn"
    if absolute:
        link.unlink()
        link.symlink_to(models / "versions" / "actor.1" / "actor.rknn")
    assert read_beneath(link) == b"model 1"
    with model_file.ModelFolder(link) as folder:
        assert folder.model == models / "versions" / "actor.1" / "actor.rknn"
        assert folder.read(folder.model.with_suffix(".json")) == b"manifest 1"


def test_the_folder_itself_may_be_reached_by_a_link(models, tmp_path):
    (tmp_path / "here").symlink_to(models)
    assert read_beneath(tmp_path / "here" / "remote_trained.rknn") == b"model 1"


@pytest.mark.parametrize("target", ["../secret", "versions/../../secret", "/etc/hostname"])
def test_a_link_out_of_the_folder_is_refused_with_both_places(models, target):
    link = models / "other.rknn"
    link.symlink_to(target)
    with pytest.raises(ModelError, match=r"expected a model in .* found a link to") as caught:
        read_beneath(link)
    assert str(models) in str(caught.value)
    assert str(model_file.real_path(link)) in str(caught.value)


def test_a_folder_that_leads_out_is_refused(models, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "actor.rknn").write_bytes(b"foreign")
    (models / "versions" / "actor.2").symlink_to(tmp_path / "elsewhere")
    link = models / "remote_trained.rknn"
    link.unlink()
    link.symlink_to("versions/actor.2/actor.rknn")
    with pytest.raises(ModelError, match=r"found a link to .*elsewhere"):
        read_beneath(link)


@pytest.mark.parametrize("swapped", ["versions", "versions/actor.1", "versions/actor.1/actor.rknn"])
def test_what_becomes_a_link_while_it_is_opened_is_not_followed(
    models, tmp_path, monkeypatch, swapped
):
    """The path is resolved first; a rival puts a link out of the folder in its place."""
    (tmp_path / "rival" / "actor.1").mkdir(parents=True)
    (tmp_path / "rival" / "actor.1" / "actor.rknn").write_bytes(b"foreign")
    rival = {
        "versions": tmp_path / "rival",
        "versions/actor.1": tmp_path / "rival" / "actor.1",
        "versions/actor.1/actor.rknn": tmp_path / "secret",
    }[swapped]
    resolve = model_file.real_path

    def resolve_then_swap(path):
        found = resolve(path)
        if path.suffix == ".rknn":
            (models / swapped).rename(models / "aside")
            (models / swapped).symlink_to(rival)
        return found

    monkeypatch.setattr(model_file, "real_path", resolve_then_swap)
    with pytest.raises(ModelError, match="cannot be read"):
        read_beneath(models / "remote_trained.rknn")


def test_a_manifest_that_is_a_link_is_not_followed(models, tmp_path):
    manifest = models / "versions" / "actor.1" / "actor.json"
    manifest.unlink()
    manifest.symlink_to(tmp_path / "secret")
    with (
        model_file.ModelFolder(models / "remote_trained.rknn") as folder,
        pytest.raises(ModelError, match=r"actor\.json: cannot be read: links beside"),
    ):
        folder.read(manifest)


def test_no_descriptor_is_left_open(models):
    (models / "none.rknn").symlink_to("versions/actor.1/none/none.rknn")
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        read_beneath(models / "remote_trained.rknn")
        with pytest.raises(ModelError, match="No such file"):
            read_beneath(models / "none.rknn")
        with pytest.raises(ModelError, match="regular file"):
            read_beneath(models / "versions")
    assert os.listdir("/proc/self/fd") == before


def test_special_and_oversized_files_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(model_file, "MAX_MODEL_BYTES", 10)
    (tmp_path / "big").write_bytes(b"x" * 11)
    (tmp_path / "empty").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    for read in (model_file.read_model_bytes, read_beneath):
        for name, message in (
            ("big", r"1\.\.10 bytes, found 11"),
            ("empty", "found 0"),
            ("pipe", "regular file"),
            ("nul\0", "embedded null"),
        ):
            with pytest.raises(ModelError, match=message):
                read(tmp_path / name)


def test_the_stamp_changes_with_the_link_the_model_and_the_manifest(models):
    link = models / "remote_trained.rknn"
    version = models / "versions" / "actor.1"
    stamps = [model_file.stamp(link)]
    assert model_file.stamp(link) == stamps[0]
    (version / "actor.json").write_bytes(b"another")
    stamps.append(model_file.stamp(link))
    (version / "new").write_bytes(b"model 2")
    (version / "new").replace(version / "actor.rknn")
    stamps.append(model_file.stamp(link))
    link.unlink()
    stamps.append(model_file.stamp(link))
    link.symlink_to("versions/actor.2/actor.rknn")
    stamps.append(model_file.stamp(link))
    assert len(set(stamps)) == 5
