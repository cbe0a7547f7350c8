"""Offered models stand in one state each, whole, and only the newest of a state is there."""

import hashlib
import json

import pytest

from tractor_core.errors import ModelError
from tractor_core.offered import ACCEPTED, DONE, WAITING, OfferedModel, OfferedModels


def model(version, onnx=b"network", state=WAITING, received=""):
    digest = hashlib.sha256(onnx).hexdigest()
    received = received or f"2026-11-30T12:00:{version:02d}+00:00"
    return OfferedModel(version, digest, len(onnx), "nats://10.0.0.5:4222", received, state)


@pytest.fixture
def offered(tmp_path):
    return OfferedModels(tmp_path)


def files(offered):
    return sorted(path.name for path in offered.folder.iterdir())


def test_a_folder_that_is_not_there_holds_none(offered):
    assert offered.all() == []


def test_what_was_put_there_is_there_whole(offered):
    offered.put(model(7), b"network", b"# card")
    assert offered.all() == [model(7)]
    assert offered.data(model(7)) == (b"network", b"# card")
    offered.put(model(7, b"another"), b"another")
    assert offered.data(model(7, b"another")) == (b"another", None)


def test_the_newest_takes_the_place_of_the_one_in_the_same_state(offered):
    offered.put(model(7), b"network", b"# card")
    offered.put(model(1, b"older", ACCEPTED), b"older")
    offered.put(model(8), b"network")
    assert [(m.version, m.state) for m in offered.all()] == [(1, ACCEPTED), (8, WAITING)]
    assert offered.accept("8").state == ACCEPTED
    assert [(m.version, m.state) for m in offered.all()] == [(8, ACCEPTED)]
    assert files(offered) == ["sac_actor_v08.json", "sac_actor_v08.onnx"]


def test_what_is_done_leaves_its_note(offered):
    offered.put(model(7, state=ACCEPTED), b"network", b"# card")
    assert offered.change(model(7, state=ACCEPTED), DONE, "promoted")
    (found,) = offered.all()
    assert (found.state, found.result, files(offered)) == (DONE, "promoted", ["sac_actor_v07.json"])


def test_what_another_one_has_replaced_is_not_changed(offered):
    offered.put(model(7, b"another"), b"another")
    assert not offered.change(model(7), DONE, "promoted")
    assert not offered.change(model(6), DONE, "promoted")
    assert [m.state for m in offered.all()] == [WAITING]


@pytest.mark.parametrize("wanted", ["7", "07", "v7", "v07", "sac_actor_v07"])
def test_a_model_is_accepted_by_version_or_name(offered, wanted):
    offered.put(model(7), b"network")
    assert offered.accept(wanted).name == "sac_actor_v07"


@pytest.mark.parametrize("wanted", ["", "8", "sac_actor", "../7", "7\n", "\x1b[2J", "9" * 5000])
def test_what_does_not_wait_is_not_accepted(offered, wanted):
    offered.put(model(7), b"network")
    with pytest.raises(ModelError, match="there: sac_actor_v07"):
        offered.accept(wanted)
    offered.accept("7")
    with pytest.raises(ModelError, match="there: none that waits"):
        offered.accept("7")


def test_a_model_that_is_not_whole_is_not_accepted(offered):
    offered.put(model(7), b"network")
    (offered.folder / "sac_actor_v07.onnx").write_bytes(b"networ")
    with pytest.raises(ModelError, match="expected sha256"):
        offered.accept("7")
    (offered.folder / "sac_actor_v07.onnx").unlink()
    with pytest.raises(ModelError, match="no such file"):
        offered.accept("7")


@pytest.mark.parametrize(
    "change",
    [
        {"version": True}, {"version": 8}, {"version": "7"}, {"sha256": "x"}, {"bytes": None},
        {"state": "accepted by me"}, {"result": []}, {"more": 1}, {"origin": 5},
    ],
)  # fmt: skip
def test_a_note_that_is_none_is_named_and_left_out(offered, caplog, change):
    offered.put(model(7), b"network")
    offered.put(model(9, state=ACCEPTED), b"network")
    path = offered.folder / "sac_actor_v07.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert [m.version for m in offered.all()] == [9]
    assert "sac_actor_v07.json: " in caplog.text


def test_a_link_in_place_of_a_model_is_refused(offered, tmp_path):
    offered.put(model(7), b"network")
    (tmp_path / "elsewhere").write_bytes(b"network")
    (offered.folder / "sac_actor_v07.onnx").unlink()
    (offered.folder / "sac_actor_v07.onnx").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="expected a regular file, found a link"):
        offered.accept("7")
