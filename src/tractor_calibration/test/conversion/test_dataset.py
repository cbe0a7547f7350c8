"""Every sample is checked by itself and kept packed; rknn_dataset is replaced as a whole."""

import numpy as np
import pytest

from tractor_calibration.conversion import dataset
from tractor_core.contract import normalize
from tractor_core.errors import SampleError


def test_rknn_dataset_is_as_the_guide_shows(tmp_path, contract, frame_maker):
    frames = [frame_maker(np.random.default_rng(i)) for i in range(3)]
    (tmp_path / "notes.txt").write_text("mine")
    folder = dataset.publish(frames, contract, tmp_path)
    assert (folder / "dataset.txt").read_text().split() == [
        f"{name}_{i}.npy" for i in range(3) for name in ("bev", "proprio")
    ]
    np.testing.assert_array_equal(np.load(folder / "bev_1.npy"), frames[1].bev[None])
    np.testing.assert_array_equal(
        np.load(folder / "proprio_2.npy"), normalize(contract, frames[2].proprio)[None]
    )
    dataset.publish(frames[:1], contract, tmp_path)
    assert {path.name for path in folder.iterdir()} == {"bev_0.npy", "proprio_0.npy", "dataset.txt"}
    assert {path.name for path in tmp_path.iterdir()} == {"rknn_dataset", "notes.txt"}


def test_files_of_the_user_in_rknn_dataset_are_not_replaced(tmp_path, contract, frame_maker):
    frames = [frame_maker(np.random.default_rng(0))]
    folder = dataset.publish(frames, contract, tmp_path)
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(SampleError, match=r"thesis\.txt"):
        dataset.publish(frames, contract, tmp_path)
    assert (folder / "thesis.txt").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"rknn_dataset"}


def test_what_a_killed_process_left_is_removed(tmp_path, contract, frame_maker):
    (tmp_path / ".rknn_dataset-killed" / "new").mkdir(parents=True)
    (tmp_path / ".rknn_dataset-killed" / "new" / "bev_0.npy").write_bytes(b"half")
    dataset.publish([frame_maker(np.random.default_rng(0))], contract, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"rknn_dataset"}


def test_a_failed_write_leaves_the_old_dataset(tmp_path, contract, frame_maker, monkeypatch):
    frames = [frame_maker(np.random.default_rng(i)) for i in range(2)]
    folder = dataset.publish(frames, contract, tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space"):
        dataset.publish(frames[:1], contract, tmp_path)
    assert len(list(folder.iterdir())) == 5
    assert {path.name for path in tmp_path.iterdir()} == {"rknn_dataset"}


def test_what_must_not_be_replaced_is_refused_by_name(tmp_path):
    dataset.require_replaceable(tmp_path / "absent")
    dataset.require_replaceable(tmp_path)
    (tmp_path / "rknn_dataset").mkdir()
    (tmp_path / "rknn_dataset" / "thesis.txt").write_text("mine")
    with pytest.raises(SampleError, match=r"thesis\.txt"):
        dataset.require_replaceable(tmp_path)
    (tmp_path / "rknn_dataset" / "thesis.txt").unlink()
    (tmp_path / "rknn_dataset").rmdir()
    (tmp_path / "rknn_dataset").symlink_to(tmp_path)
    with pytest.raises(SampleError, match="found a link or file"):
        dataset.require_replaceable(tmp_path)
