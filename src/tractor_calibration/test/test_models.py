"""The command `models` as a user runs it: what it lists, what it changes, and how it refuses."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from folders import snapshot

from tractor_calibration import models as command
from tractor_calibration.store import promotion
from tractor_core import paths
from tractor_core.errors import ParameterError
from tractor_core.offered import ACCEPTED, DONE, OfferedModel, OfferedModels

FIRST, OTHER, SECOND = (
    "actor.20250101T000000Z",
    "other.20250102T000000Z",
    "actor.20250103T000000Z",
)


@pytest.fixture
def run(versioned, capsys, caplog):
    """Run the command on the folder; return exit code, stdout, and the log."""

    def run(*arguments):
        caplog.clear()
        try:
            code = command.main([*arguments, "--models-dir", str(versioned)])
        except SystemExit as exit:
            code = exit.code
        out, err = capsys.readouterr()
        return code, out, err + caplog.text

    return run


def as_json(run, *arguments):
    code, out, _ = run(*arguments, "--json")
    result = json.loads(out)
    assert (result["exit_code"], result["ok"]) == (code, code == 0)
    return result


@pytest.mark.parametrize("figure", ["9" * 3000, "a text", [], {}, True, "1e999", "[" * 5000])
def test_whatever_a_manifest_holds_the_versions_are_listed(run, versioned, figure):
    path = versioned / "versions" / FIRST / "actor.json"
    value = json.loads(path.read_text())
    value["validation"][value["model"]["precision"]]["mae"] = "PLACE"
    text = figure if isinstance(figure, str) and figure != "a text" else json.dumps(figure)
    path.chmod(0o644)
    path.write_text(json.dumps(value).replace('"PLACE"', text))
    result = as_json(run, "list")
    first, _, second = result["versions"]
    assert first.get("mae") is None and "broken" not in second
    assert run("list")[0] == 0


def test_list_shows_every_version_and_what_drives(run, versioned):
    (versioned / "versions" / OTHER / "other.rknn").unlink()
    result = as_json(run, "list")
    assert (result["drives"], result["before"]) == (SECOND, OTHER)
    first, other, second = result["versions"]
    assert (first["number"], first["version"], first["drives"]) == (1, FIRST, False)
    assert (first["precision"], first["target"]) == ("fp16", "rk3588")
    assert (first["mae"], first["sqnr_db"], first["bytes"]) == (0.00014, 70.1, 5)
    assert other["broken"].startswith(f"{OTHER}/other.rknn: expected an .rknn file, found none")
    assert second["drives"]

    code, out, _ = run("list")
    lines = out.splitlines()
    assert code == 0
    assert lines[2].split() == [
        "1", "2026-01-01", "00:00", "fp16", "rk3588", "-", "0.00014", "70.1", FIRST
    ]  # fmt: skip
    assert lines[3].split() == ["2", "broken", OTHER]
    assert lines[4].strip().startswith(f"{OTHER}/other.rknn: expected an .rknn file")
    assert lines[5].split()[:2] == ["->", "3"] and lines[5].endswith(SECOND)
    assert lines[6:] == [
        f"active model: {SECOND}",
        f"rollback goes to: {OTHER}, which is broken; models promote V",
    ]


def test_reasons_name_files_from_the_version_on(versioned, monkeypatch, capsys):
    (versioned / "versions" / FIRST / "actor.json").unlink()
    (versioned / "versions" / OTHER / "other.rknn").unlink()
    monkeypatch.chdir(versioned.parent)
    for folder in (versioned, versioned.name):
        assert command.main(["list", "--json", "--models-dir", str(folder)]) == 0
        for row in json.loads(capsys.readouterr().out)["versions"][:2]:
            assert row["broken"].startswith(f"{row['version']}/")


def test_list_changes_nothing_and_needs_no_lock(run, versioned):
    before = snapshot(versioned)
    with promotion.workspace(versioned):
        code, _, _ = run("list")
    assert code == 0
    assert snapshot(versioned) == before


def test_list_of_a_folder_without_versions(run, versioned):
    shutil.rmtree(versioned)
    versioned.mkdir()
    code, out, _ = run("list")
    assert code == 0
    assert "no versions: convert makes one of an ONNX actor" in out
    assert out.endswith("active model: no model\nrollback goes to: no model\n")


@pytest.mark.parametrize(
    ("verdict", "build", "shown"),
    [
        ("warn", {}, "int8 rk3588 warn"),
        ("pass", {"algorithm": "mmse"}, "int8 mmse rk3588 pass"),
        ("pass", {"hybrid": True}, "int8 hybrid rk3588 pass"),
        (None, {}, "int8 rk3588 -"),
        (["pass"], {}, "int8 rk3588 -"),
        ("\x1b[2J", {}, "int8 rk3588 -"),
    ],
)
def test_list_tells_how_a_version_was_built_and_whether_it_passed(
    run, versioned, verdict, build, shown
):
    file = versioned / "versions" / FIRST / "actor.json"
    record = json.loads(file.read_text())
    record["model"]["precision"] = "int8"
    record["build"] = {"algorithm": "normal", "hybrid": False, "normaliser_inside": False} | build
    record["calibration"]["samples"] = [{"file": "calib_1.npz", "sha256": "0" * 64}]
    record["validation"] = {"verdict": verdict} if verdict else {}
    file.chmod(0o644)
    file.write_text(json.dumps(record))
    lines = run("list")[1].splitlines()
    assert " ".join(lines[2].split()[3:-3]) == shown
    # The columns stand below each other whatever is in them.
    assert len({line.index(name) for line, name in zip(lines[2:5], (FIRST, OTHER, SECOND))}) == 1
    assert lines[1].index("version") == lines[2].index(FIRST)


def test_a_version_whose_network_normalises_its_inputs_is_refused_in_words(run, versioned):
    file = versioned / "versions" / FIRST / "actor.json"
    record = json.loads(file.read_text())
    record["build"]["normaliser_inside"] = True
    file.chmod(0o644)
    file.write_text(json.dumps(record))
    code, out, _ = run("list")
    assert code == 0 and "broken" in out
    refusal = "normaliser_inside: expected false, found true: such builds are no longer supported"
    assert refusal in out
    code, _, err = run("promote", FIRST)
    assert code == 6 and refusal in err


def test_list_says_that_nothing_drives_when_the_version_is_gone(run, versioned):
    move_version(versioned, SECOND)
    code, out, _ = run("list")
    assert code == 0 and "->" not in out
    assert f"active model: none: its folder versions/{SECOND} is gone; models promote V\n" in out
    assert as_json(run, "list")["exists"] is False
    shutil.rmtree(versioned / "versions")
    assert f"versions/{SECOND} is gone; convert again\n" in run("list")[1]


def test_list_says_where_a_rollback_goes_and_when_it_cannot(run, versioned):
    run("rollback")
    run("rollback")
    assert run("list")[1].endswith(f"active model: {FIRST}\nrollback goes to: no model\n")
    run("promote", SECOND)
    move_version(versioned, FIRST)
    assert f"rollback goes to: none: its folder versions/{FIRST} is gone" in run("list")[1]


def test_a_link_made_by_hand_is_named_as_it_is(run, versioned, tmp_path):
    link = versioned / "remote_trained.rknn"
    link.unlink()
    link.symlink_to(tmp_path / "mine.rknn")
    assert f"active model: none: {tmp_path}/mine.rknn is no version" in run("list")[1]
    (tmp_path / "mine.rknn").touch()
    assert f"active model: {tmp_path}/mine.rknn\n" in run("list")[1]


@pytest.mark.parametrize("whole", [True, False])
def test_a_rollback_that_cannot_be_names_what_can_drive(run, versioned, whole):
    spoil_manifest(versioned)
    if not whole:
        move_version(versioned, FIRST)
    code, _, log = run("rollback")
    assert code == 6 and "not a readable manifest" in log
    hint = f"use `models promote V`, whole are: {FIRST}"
    assert (hint if whole else "no other version is whole: convert again") in log


def test_names_from_the_disk_cannot_write_to_the_terminal(run, versioned):
    (versioned / "versions" / "\x1b[2Jevil.20250101T000000Z").mkdir()
    _, out, _ = run("list")
    assert "\x1b" not in out and "evil" in out


def test_list_takes_a_model_without_figures(run, versioned):
    file = versioned / "versions" / FIRST / "actor.json"
    record = json.loads(file.read_text())
    record["validation"] = {"fp16": "none"}
    file.chmod(0o644)
    file.write_text(json.dumps(record))
    assert as_json(run, "list")["versions"][0]["mae"] is None
    assert run("list")[1].splitlines()[2].split()[-3:] == ["-", "-", FIRST]


@pytest.mark.parametrize("text", [FIRST, "1", "actor.20250101"])
def test_promote_says_what_drives_and_what_the_rover_must_do(run, versioned, text):
    code, out, _ = run("promote", text)
    assert code == 0
    assert f"{FIRST} is the active model now; before: {SECOND}" in out
    assert "ros2 service call /sac_actor/reload_model std_srvs/srv/Trigger" in out
    assert "watch_model" in out
    assert (versioned / "remote_trained.rknn").read_bytes() == b"first"
    code, out, _ = run("promote", text)
    assert code == 0
    assert f"{FIRST} is the active model already" in out


def test_rollback_goes_back_step_by_step_and_then_says_there_is_nothing(run, versioned):
    assert as_json(run, "rollback")["drives"] == OTHER
    result = as_json(run, "rollback")
    assert (result["drives"], result["before"], result["changed"]) == (FIRST, OTHER, True)
    before = snapshot(versioned)
    code, _, log = run("rollback")
    assert code == 3
    assert "expected a model that drove before, found none; use `models promote V`" in log
    assert snapshot(versioned) == before


def spoil_manifest(folder):
    path = folder / "versions" / OTHER / "other.json"
    path.chmod(0o644)
    path.write_text("{")


def move_version(folder, version=OTHER):
    (folder / "versions" / version).rename(folder / "moved")


def link_out(folder):
    link = folder / "remote_trained.rknn"
    link.unlink()
    link.symlink_to("/elsewhere/actor.rknn")
    with promotion.workspace(folder) as work:
        promotion.publish(
            [(folder / "versions" / FIRST / "actor.rknn").rename(work / "actor.rknn")],
            "20250105T000000Z",
        )


def pipe_in_the_way(folder):
    (folder / "other.rknn").unlink()
    os.mkfifo(folder / "other.rknn")


@pytest.mark.parametrize(
    ("spoil", "arguments", "code", "sentence"),
    [
        (None, ["promote", "nonesuch"], 3, "found 'nonesuch', which fits no version"),
        (None, ["promote", "actor"], 3, f"which fits {FIRST}, {SECOND}"),
        (None, ["promote"], 2, "promote: expected a version, found none"),
        (None, ["rollback", FIRST], 2, f"rollback: expected no version, found {FIRST}"),
        (None, ["list", "--params", "absent.yaml"], 2, "absent.yaml: cannot be read"),
        (
            move_version,
            ["rollback"],
            3,
            f"which is none; use `models promote V`, whole are: {FIRST}",
        ),
        (link_out, ["rollback"], 3, "found /elsewhere/actor.rknn, which is none"),
        (spoil_manifest, ["rollback"], 6, "not a readable manifest"),
        (spoil_manifest, ["promote", "other"], 6, "not a readable manifest"),
        (pipe_in_the_way, ["promote", "other"], 7, "other.rknn: expected a file, a link to a"),
        (shutil.rmtree, ["list"], 7, "expected a models folder, found none"),
    ],
)
def test_refusals_name_the_reason_and_change_nothing(
    run, versioned, spoil, arguments, code, sentence
):
    if spoil:
        spoil(versioned)
    before = snapshot(versioned)
    found, _, log = run(*arguments)
    assert (found, sentence in log) == (code, True), log
    assert snapshot(versioned) == before


def offer(folder, version=7):
    model = OfferedModel(
        version, hashlib.sha256(b"network").hexdigest(), 7, "nats://10.0.0.5:4222",
        "2026-11-30T12:00:00+00:00",
    )  # fmt: skip
    OfferedModels(folder).put(model, b"network")
    return model


def test_an_offered_model_waits_until_it_is_accepted(run, versioned):
    model = offer(versioned)
    line = run("list")[1].splitlines()[-1]
    assert line == (
        "offered: sac_actor_v07 of nats://10.0.0.5:4222, 2026-11-30T12:00: "
        "waits for you: models accept 7"
    )
    code, out, log = run("accept", "6")
    assert (code, out) == (3, "") and "found '6'; there: sac_actor_v07" in log
    code, out, _ = run("accept", "7")
    assert code == 0
    assert (
        out == "sac_actor_v07 is accepted: rover_link converts it, models list says how that ends\n"
    )
    (listed,) = as_json(run, "list")["offered"]
    assert (listed["name"], listed["version"], listed["state"]) == ("sac_actor_v07", 7, ACCEPTED)
    assert run("list")[1].endswith(": accepted, rover_link converts it\n")
    OfferedModels(versioned).change(model, DONE, "refused: exit code 6: \x1b[2J")
    assert run("list")[1].endswith(": refused: exit code 6: \\x1b[2J\n")
    assert run("accept", "7")[0] == 3


def test_an_offered_model_that_is_not_whole_or_not_writable_is_refused(run, versioned, monkeypatch):
    offer(versioned)
    assert "expected a version, found none" in run("accept")[2]

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("tractor_core.files.replace_file", full)
        code, _, log = run("accept", "7")
        assert code == 7 and "expected room on the disk" in log
    (versioned / "offered" / "sac_actor_v07.onnx").write_bytes(b"other")
    code, _, log = run("accept", "7")
    assert code == 3 and "expected sha256" in log


def test_a_busy_folder(run, versioned):
    with promotion.workspace(versioned):
        code, _, log = run("promote", "1")
    assert code == 7
    assert "busy, another conversion or promotion" in log


@pytest.mark.parametrize("call", ["mkdir", "replace"])
def test_a_disk_that_cannot_be_written(run, versioned, monkeypatch, call):
    before = snapshot(versioned)

    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, call, refuse)
    code, _, log = run("promote", "1")
    monkeypatch.undo()
    assert code == 7
    expected = f"the models folder cannot be used: {versioned}: expected a disk that can be written"
    assert expected in log and "(Read-only file system); mount it" in log
    assert snapshot(versioned) == before


def test_the_default_folder_is_here_or_that_of_the_workspace(tmp_path, monkeypatch):
    workspace, here = tmp_path / "ws", tmp_path / "here"
    (workspace / "models").mkdir(parents=True)
    here.mkdir()
    monkeypatch.chdir(here)
    for prefix in ("install", "install/tractor_bringup"):
        monkeypatch.setenv("AMENT_PREFIX_PATH", str(workspace / prefix))
        assert paths.default_models_dir() == workspace / "models"
    (here / "models").mkdir()
    assert paths.default_models_dir().resolve() == here / "models"
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "a/b/c/d/paths.py"))
    monkeypatch.delenv("AMENT_PREFIX_PATH")
    (here / "models").rmdir()
    with pytest.raises(ParameterError, match=r"looked at models, .*--models-dir"):
        paths.default_models_dir()


def test_help_is_instant_and_documents_the_exit_codes(versioned):
    base = [sys.executable, "-m", "tractor_calibration", "models"]
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run([*base, "--help"], capture_output=True, text=True)
        seconds.append(time.perf_counter() - started)
    assert done.returncode == 0
    for text in ("models promote V", "models rollback", "Exit codes:", "7  no models folder"):
        assert text in done.stdout
    # The best of three: the machine may be busy with others.
    assert min(seconds) < 0.3
    done = subprocess.run(
        [*base, "rollback", "--models-dir", versioned], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.split()[1]) == (0, OTHER)


@pytest.mark.parametrize("name", ["x" * 300, "b/" * 3000])
def test_a_folder_that_cannot_be_looked_at_is_none(tmp_path, caplog, name):
    assert command.main(["list", "--models-dir", str(tmp_path / name)]) == 7
    assert "expected a models folder, found none" in caplog.text
