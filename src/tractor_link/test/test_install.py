"""An accepted model becomes one that drives, or is refused by name; a fake stands for `convert`."""

import asyncio
import hashlib
import json
import logging
import os
import sys
from pathlib import Path

import pytest
from servers import running, until

from tractor_core.offered import ACCEPTED, DONE, WAITING, OfferedModel, OfferedModels
from tractor_link import install
from tractor_link.install import FP16, INT8, Installer

FAKE = (sys.executable, str(Path(__file__).with_name("fake_convert.py")))


def put(models, onnx, version=7, state=ACCEPTED, card=None):
    model = OfferedModel(
        version, hashlib.sha256(onnx).hexdigest(), len(onnx), "nats://127.0.0.1:4222",
        f"2026-11-30T12:00:{version:02d}", state,
    )  # fmt: skip
    OfferedModels(models).put(model, onnx, card)
    return model


def installer(models, precision=INT8, command=FAKE, **more):
    samples, params = models.parent / "calibration_data", models.parent / "params.yaml"
    return Installer(models, samples, params, precision, command=command, **more)


def installed(made, condition):
    """Run an installer until a condition holds."""

    async def story():
        async with running(made.run()):
            await until(condition)

    asyncio.run(story())


def calls(models):
    return [json.loads(line) for line in (models / "calls.jsonl").read_text().splitlines()]


def states(models):
    return {model.name: model.state for model in OfferedModels(models).all()}


def add_samples(models, count):
    folder = models.parent / "calibration_data"
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"calib_{len(os.listdir(folder))}_{number}.npz").touch()


def test_a_model_is_converted_behind_all_else_and_said_with_its_figures(models):
    put(models, b"promoted", card=b"# card")
    made = installer(models)
    installed(made, lambda: states(models) == {"sac_actor_v07": DONE})
    assert made.installed == (
        "sac_actor_v07: promoted as sac_actor_v07.20261130T120000Z, INT8, verdict pass: on 60 "
        "frames it differs from its ONNX by 0.0021 on average and 0.040 at most, SQNR 50.4 dB"
    )
    assert (made.refused, made.waits, made.problem) == ("", "", None)
    assert (models / "sac_actor_v07.onnx").read_bytes() == b"promoted"
    assert (models / "sac_actor_v07.md").read_bytes() == b"# card"
    assert [path.name for path in (models / "offered").iterdir()] == ["sac_actor_v07.json"]
    (call,) = calls(models)
    assert (call["onnx"], call["nice"]) == ("sac_actor_v07.onnx", 19)
    params, samples = models.parent / "params.yaml", models.parent / "calibration_data"
    options = ["--params", str(params), "--json", "--quantize", "--calibration-dir", str(samples)]
    assert call["options"] == options


def test_fp16_takes_samples_where_there_are_any(models):
    put(models, b"promoted")
    installed(installer(models, FP16), lambda: states(models) == {"sac_actor_v07": DONE})
    add_samples(models, 1)
    put(models, b"promoted too", version=8)
    installed(installer(models, FP16), lambda: states(models) == {"sac_actor_v08": DONE})
    first, second = (call["options"] for call in calls(models))
    assert "--quantize" not in first + second
    assert "--calibration-dir" not in first and "--calibration-dir" in second


@pytest.mark.parametrize(
    ("word", "headline"),
    [
        (b"gate", r"refused: exit code 6: no INT8 model agrees\x1b[2J with its ONNX"),
        (b"silent", "refused: exit code 1: ModuleNotFoundError: no module"),
    ],
)
def test_a_refused_model_is_named_with_exit_code_and_headline(models, word, headline, caplog):
    put(models, word)
    made = installer(models)
    installed(made, lambda: states(models) == {"sac_actor_v07": DONE})
    assert made.refused == f"sac_actor_v07: {headline}" and made.installed == ""
    assert f"{made.refused}; the model before drives on" in caplog.text
    # The same after a restart, without another conversion.
    again = installer(models)
    installed(again, lambda: again.refused)
    assert again.refused == made.refused and len(calls(models)) == 1


def test_what_is_no_answer_is_no_fault(models):
    put(models, b"nonsense")
    made = installer(models)
    installed(made, lambda: made.installed)
    assert made.installed == "sac_actor_v07: promoted"


def test_int8_waits_for_samples_and_says_so(models, monkeypatch):
    monkeypatch.setattr(install, "LOOK_S", 0.05)
    put(models, b"samples")
    add_samples(models, 3)
    made = installer(models)

    async def story():
        async with running(made.run()):
            await until(lambda: "too few" in made.waits.lower())
            assert "tried again with 8 samples, 3 are there" in made.waits
            add_samples(models, 4)
            await asyncio.sleep(0.3)
            assert len(calls(models)) == 1
            add_samples(models, 3)
            await until(lambda: made.installed and DONE in states(models).values())

    asyncio.run(story())
    assert (len(calls(models)), made.waits) == (2, "")
    assert states(models) == {"sac_actor_v07": DONE}


def test_a_newer_model_does_not_wait_for_the_samples_of_an_older_one(models):
    put(models, b"samples")
    made = installer(models)

    async def story():
        async with running(made.run()):
            await until(lambda: "too few" in made.waits.lower())
            put(models, b"promoted", version=8)
            await until(lambda: made.installed and DONE in states(models).values())

    asyncio.run(story())
    assert states(models) == {"sac_actor_v08": DONE}


def test_a_busy_folder_is_tried_again(models, monkeypatch):
    monkeypatch.setattr(install, "FIRST_PAUSE_S", 0.1)
    (models / "busy").touch()
    put(models, b"busy")
    made = installer(models)

    async def story():
        async with running(made.run()):
            await until(lambda: "exit code 7: busy" in (made.problem or ""))
            (models / "busy").unlink()
            await until(lambda: made.installed and made.problem is None)

    asyncio.run(story())


def test_no_file_is_ever_overwritten(models):
    (models / "sac_actor_v07.onnx").write_bytes(b"of somebody else")
    model = put(models, b"promoted")
    installed(installer(models), lambda: states(models) == {"sac_actor_v07": DONE})
    assert (models / "sac_actor_v07.onnx").read_bytes() == b"of somebody else"
    other = models / f"sac_actor_v07_{model.sha256[:8]}.onnx"
    assert other.read_bytes() == b"promoted" and calls(models)[0]["onnx"] == other.name


def test_names_that_are_taken_are_a_problem_until_one_is_free(models, monkeypatch):
    monkeypatch.setattr(install, "FIRST_PAUSE_S", 0.1)
    model = put(models, b"promoted")
    for name in ("sac_actor_v07", f"sac_actor_v07_{model.sha256[:8]}"):
        (models / f"{name}.onnx").mkdir()
    made = installer(models)

    async def story():
        async with running(made.run()):
            await until(lambda: "expected sac_actor_v07 or" in (made.problem or ""))
            (models / "sac_actor_v07.onnx").rmdir()
            await until(lambda: made.installed and DONE in states(models).values())

    asyncio.run(story())


def test_a_model_that_is_not_whole_is_not_converted(models):
    put(models, b"promoted")
    (models / "offered" / "sac_actor_v07.onnx").write_bytes(b"promote")
    made = installer(models)
    installed(made, lambda: "expected sha256" in (made.problem or ""))
    assert not (models / "calls.jsonl").exists()


def test_what_waits_for_the_operator_is_left_until_he_accepts_it(models, caplog):
    caplog.set_level(logging.INFO)
    put(models, b"promoted", state=WAITING)
    made = installer(models)

    async def story():
        async with running(made.run()):
            await until(lambda: "waits for the operator" in made.waits)
            assert not (models / "sac_actor_v07.onnx").exists()
            OfferedModels(models).accept("7")
            await until(lambda: made.installed and DONE in states(models).values())

    asyncio.run(story())


def test_with_all_accepted_nothing_waits(models):
    put(models, b"promoted", state=WAITING)
    made = installer(models, accepts_all=True)
    installed(made, lambda: made.installed)


def test_a_conversion_that_hangs_is_ended(models):
    put(models, b"hang")
    made = installer(models, limit_s=1.5)
    installed(made, lambda: made.refused)
    assert made.refused == "sac_actor_v07: refused: not converted within 2 s"
    assert (models / "interrupted").exists()


def test_a_link_that_ends_interrupts_the_conversion_and_takes_it_up_again(models):
    put(models, b"hang")
    made = installer(models)
    installed(made, (models / "hangs").exists)
    assert (models / "interrupted").exists()
    assert states(models) == {"sac_actor_v07": ACCEPTED}


def test_a_converter_that_is_not_there_is_refused(models):
    put(models, b"promoted")
    made = installer(models, command=("/nowhere/python",))
    installed(made, lambda: made.refused)
    assert "refused: exit code 127" in made.refused and "No such file" in made.refused


def test_the_converter_itself_waits_for_samples(models, actor_onnx, params_file):
    put(models, actor_onnx.read_bytes())
    (models.parent / "params.yaml").write_bytes(params_file.read_bytes())
    made = installer(models, command=install.CONVERT)
    installed(made, lambda: made.refused or "tried again" in made.waits)
    assert made.refused == "" and "not yet: exit code 4: No calibration samples found" in made.waits


@pytest.mark.slow
@pytest.mark.toolkit
def test_the_converter_itself_promotes_what_was_offered(models, actor_onnx, params_file):
    pytest.importorskip("rknn", reason="rknn-toolkit2 is not installed")
    put(models, actor_onnx.read_bytes())
    (models.parent / "params.yaml").write_bytes(params_file.read_bytes())
    made = installer(models, FP16, command=install.CONVERT)

    async def story():
        async with running(made.run()):
            await until(lambda: made.installed or made.refused, 200.0)

    asyncio.run(story())
    assert "sac_actor_v07: promoted as sac_actor_v07." in made.installed
    assert "FP16, verdict pass: on " in made.installed
    active = (models / "remote_trained.rknn").resolve()
    assert active.name == "sac_actor_v07.rknn" and active.parent.parent == models / "versions"
