"""What was learnt survives: the same curve whatever ended it, each chunk once, none of others."""

import dataclasses
import logging
import os
import shutil
import signal
import subprocess
import sys

import pytest
from experience_file import make

from tractor_core import contract as contracts
from tractor_core import robot as robots
from tractor_core.errors import TractorError
from tractor_core.experience import encode
from tractor_core.paths import default_params_file

torch = pytest.importorskip("torch", reason="learning needs torch")

from tractor_training import config  # noqa: E402
from tractor_training import learning as learning_of_run  # noqa: E402
from tractor_training.learning import FolderUsedError, Learning  # noqa: E402

CONTRACT = contracts.load(default_params_file())
ROBOT = robots.load(default_params_file())
LEARNER = {"learning_starts": 20, "buffer_size": 5000}


@pytest.fixture
def encoder(repository):
    return repository / "models" / "sac_actor_reference.onnx"


@pytest.fixture
def own():
    return config.changed(config.load(), learner=LEARNER, sac={"batch_size": 8})


def chunks(count, **fields):
    return [encode(make(CONTRACT, 30, seed=n, first=30 * n, **fields)) for n in range(count)]


def opened(folder, own, encoder):
    return Learning(folder, own, CONTRACT, ROBOT, encoder)


def weights(learning):
    return {k: v.clone() for k, v in learning.trainer.sac.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("saved, killed", [(0, 0), (3, 3), (4, 9), (5, 9), (20, 12)])
def test_a_killed_learner_goes_on_to_the_same_weights(tmp_path, own, encoder, saved, killed):
    data = chunks(12)
    whole = opened(tmp_path / "whole", own, encoder)
    whole.add(data)
    while whole.step():
        pass
    assert whole.trainer.sac.updates == 59 and whole.progress.steps == 360
    first = opened(tmp_path / "parts", own, encoder)
    first.add(data[:killed])
    for _ in range(saved):
        assert first.step()
    if saved:
        first.save()
    learnt = first.progress.steps
    while first.step():  # what is lost with the process
        pass
    first.close()
    again = opened(tmp_path / "parts", own, encoder)
    assert again.progress.steps == learnt and again.waiting == killed - learnt // 30
    again.add(data)
    while again.step():
        pass
    assert again.progress.steps == 360
    assert same(weights(whole), weights(again))
    whole.export(tmp_path / "whole.onnx", 0.3)
    again.export(tmp_path / "again.onnx", 0.3)
    assert (tmp_path / "whole.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()


def test_a_chunk_counts_once_whatever_comes_twice(tmp_path, own, encoder):
    learning = opened(tmp_path, own, encoder)
    data = chunks(3)
    assert learning.add([data[0], data[0], data[1]]) == [None] * 3
    assert learning.waiting == 2
    learning.close()
    again = opened(tmp_path, own, encoder)
    assert again.add(data) == [None] * 3 and again.waiting == 3


def test_what_cannot_be_learnt_from_is_named_and_kept_out(tmp_path, own, encoder):
    learning = opened(tmp_path, own, encoder)
    (good,) = chunks(1)
    other = encode(dataclasses.replace(make(CONTRACT, 3), contract="0" * 64))
    whys = learning.add([b"nonsense", good[:-9], other, good])
    assert whys[3] is None and all(whys[:3]) and "contract" in whys[2]
    assert learning.waiting == 1


def test_a_folder_has_one_learner(tmp_path, own, encoder):
    learning = opened(tmp_path, own, encoder)
    with pytest.raises(FolderUsedError, match="another trainer uses this folder"):
        opened(tmp_path, own, encoder)
    learning.close()
    opened(tmp_path, own, encoder)


def saved(folder, own, encoder):
    learning = opened(folder, own, encoder)
    learning.add(chunks(3))
    while learning.step():
        pass
    learning.save()
    learning.close()
    return learning


def test_a_changed_reward_judges_all_experience_anew(tmp_path, own, encoder, caplog):
    before = saved(tmp_path, own, encoder)
    with caplog.at_level(logging.WARNING):
        other = config.changed(own, reward={"progress": 2.0})
        again = opened(tmp_path, other, encoder)
    assert "the reward was changed: all experience is judged anew" in caplog.text
    assert same(weights(before), weights(again))
    assert not (before.trainer.replay._reward == again.trainer.replay._reward).all()


def test_a_checkpoint_of_another_contract_or_encoder_is_refused(
    tmp_path, own, encoder, monkeypatch
):
    saved(tmp_path, own, encoder)
    other = dataclasses.replace(CONTRACT, proprio_clip=2.0)
    with pytest.raises(TractorError, match=f"expected a checkpoint of contract {other.digest}"):
        Learning(tmp_path, own, other, ROBOT, encoder)


def test_what_the_configuration_says_now_counts(tmp_path, own, encoder):
    saved(tmp_path, own, encoder)
    again = opened(tmp_path, config.changed(own, sac={"policy_lr": 1e-5}), encoder)
    (group,) = again.trainer.sac.optimizers["policy"].param_groups
    assert group["lr"] == 1e-5


def test_only_what_is_still_drawn_from_is_read_again(tmp_path, own, encoder, monkeypatch):
    monkeypatch.setattr(learning_of_run, "MEMORY_STEPS", 300)
    small = config.changed(own, learner={"buffer_size": 1000})
    data = []
    for number in range(62):
        chunk = make(CONTRACT, 30, seed=number, first=30 * number)
        chunk.rows["stamp_ns"] += number * 10**9
        data.append(encode(chunk))
    first = opened(tmp_path, small, encoder)
    first.add(data[:60])
    while first.step():
        pass
    first.save()
    first.close()
    again = opened(tmp_path, small, encoder)
    assert again.trainer.replay.steps < 1400 and again.progress.steps == 1800
    random_numbers = torch.get_rng_state()  # of the process, which both have here
    for learning in (first, again):
        torch.set_rng_state(random_numbers)
        learning.add(data[60:])
        while learning.step():
            pass
    assert same(weights(first), weights(again))


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 half", b"x" * 1000])
def test_a_damaged_checkpoint_is_named_and_left_alone(tmp_path, own, encoder, damage):
    saved(tmp_path, own, encoder)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(damage)
    with pytest.raises(TractorError, match="expected a checkpoint, found a damaged one"):
        opened(tmp_path, own, encoder)
    assert path.read_bytes() == damage


def test_a_checkpoint_of_others_runs_no_code(tmp_path, own, encoder):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    saved(tmp_path, own, encoder)
    torch.save({"made_for": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(TractorError, match="found a damaged one"):
        opened(tmp_path, own, encoder)
    assert not (tmp_path / "ran").exists()


def test_a_chunk_that_is_not_there_any_more_is_said(tmp_path, own, encoder, caplog):
    saved(tmp_path, own, encoder)
    shutil.rmtree(tmp_path / "chunks")
    later = opened(tmp_path, own, encoder)
    later.add(chunks(3)[2:])
    later.close()
    shutil.rmtree(tmp_path / "chunks")
    (tmp_path / "chunks").mkdir()
    again = opened(tmp_path, own, encoder)
    assert again.trainer.sac.updates == 14 and again.waiting == 0
    assert "the chunk that was learnt from last is not there" in caplog.text


def test_earlier_experience_makes_half_of_each_batch(tmp_path, own, encoder):
    folder = tmp_path / "recorded" / "sent"
    folder.mkdir(parents=True)
    for number, data in enumerate(chunks(4, session="20261101T000000Z-0badcafe")):
        (folder / f"{number}.rvxp").write_bytes(data)
    (folder / "broken.rvxp").write_bytes(b"none")
    mixed = config.changed(own, start={"experience": str(tmp_path / "recorded")})
    learning = opened(tmp_path / "run", mixed, encoder)
    assert learning.trainer.prior is not None and learning.trainer.prior.steps == 120
    learning.add(chunks(3))
    while learning.step():
        pass
    assert learning.trainer.sac.updates == 14
    empty = config.changed(own, start={"experience": str(tmp_path / "nothing")})
    with pytest.raises(TractorError, match="expected chunks of experience"):
        opened(tmp_path / "other", empty, encoder)


@pytest.mark.slow
def test_killed_at_ten_moments_it_ends_where_it_would_have(tmp_path):
    """The command as users run it, killed with SIGKILL while it learns."""
    folder = tmp_path / "copied"
    folder.mkdir()
    for number, data in enumerate(chunks(400)):
        (folder / f"chunk_{number:05d}.rvxp").write_bytes(data)
    options = tmp_path / "training.yaml"
    options.write_text(
        "server: {checkpoint_s: 1.0}\nlearner: {learning_starts: 20}\nsac: {batch_size: 64}\n"
    )

    def start(name):
        command = [
            sys.executable, "-m", "tractor_training", "serve", "--config", str(options),
            "--folder", str(tmp_path / name), "--from-experience", str(folder),
        ]  # fmt: skip
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    whole = start("whole")
    _, said = whole.communicate(timeout=300)
    assert whole.returncode == 0, said.decode()
    kills = 0
    while True:
        parts = start("parts")
        try:
            _, said = parts.communicate(timeout=4.0 + 0.7 * kills)
        except subprocess.TimeoutExpired:
            if kills < 10:
                kills += 1
                parts.send_signal(signal.SIGKILL)
                parts.communicate()
                continue
            _, said = parts.communicate(timeout=300)
        assert parts.returncode == 0, said.decode()
        break
    assert kills >= 3
    actors = [tmp_path / name / "run" / "latest.onnx" for name in ("whole", "parts")]
    assert actors[0].read_bytes() == actors[1].read_bytes()
