"""A promotion is whole or did not happen, at every moment, and nothing the user had is lost."""

import contextlib
import errno
import fcntl
import itertools
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from folders import snapshot

from tractor_calibration import models
from tractor_calibration.store import destination, promotion
from tractor_calibration.store import folder as models_folder
from tractor_calibration.store.folder import Change
from tractor_core.errors import ContractError, ModelError
from tractor_inference.model import manifest

FIRST, OTHER, SECOND = (
    "actor.20250101T000000Z",
    "other.20250102T000000Z",
    "actor.20250103T000000Z",
)
NEW = "actor.20250104T000000Z"
# The older model of the fixture `models` gets this time.
OLDER_NS = 1_700_000_000_000_000_000
OLDER = "20231114T221320Z"


def drives(folder):
    """What a node would load: the bytes of the model, if the manifest beside it is its own."""
    model = manifest.real_path(folder / "remote_trained.rknn")
    record = manifest.read(model)
    return manifest.read_checked(model, record.model.sha256)


def promote(folder, version, contract, action="promote"):
    with promotion.workspace(folder) as work:
        return promotion.promote(work, version, contract, action)


@pytest.fixture
def publish(model_stager):
    def publish(folder, stamp="20250104T000000Z", **model):
        with promotion.workspace(folder) as work:
            return promotion.publish(model_stager(work, **model), stamp)

    return publish


@pytest.fixture
def by_hand(models, model_stager):
    """A folder as an older suite left it: ordinary files, and a link to one of them."""
    model_stager(models, b"the older model")
    (models / "actor.report.html").unlink()
    for path in models.glob("actor.*"):
        os.utime(path, ns=(OLDER_NS, OLDER_NS))
    return models


# What a promotion makes


def test_first_model_of_an_empty_folder(tmp_path, publish):
    change, kept = publish(tmp_path)
    assert (change.version, change.previous, kept) == (NEW, None, [])
    assert drives(tmp_path) == b"new model"
    files = snapshot(tmp_path)
    assert {name: target for name, target in files.items() if "/" not in name} == {
        "versions": None,
        "history.jsonl": files["history.jsonl"],
        "remote_trained.rknn": f"versions/{NEW}/actor.rknn",
        "actor.rknn": f"versions/{NEW}/actor.rknn",
        "actor.json": f"versions/{NEW}/actor.json",
        "actor.report.html": f"versions/{NEW}/actor.report.html",
    }
    line = json.loads(files["history.jsonl"])
    assert (line["action"], line["version"], line["previous"]) == ("convert", NEW, None)
    assert models_folder.before(tmp_path) is None


def test_versions_stay_as_they_are_and_every_name_leads_to_its_own(versioned, contract, publish):
    before = snapshot(versioned / "versions")
    assert os.readlink(versioned / "actor.rknn") == f"versions/{SECOND}/actor.rknn"
    promote(versioned, OTHER, contract)
    assert drives(versioned) == b"other"
    assert os.readlink(versioned / "actor.rknn") == f"versions/{SECOND}/actor.rknn"
    promote(versioned, FIRST, contract)
    assert os.readlink(versioned / "actor.json") == f"versions/{FIRST}/actor.json"
    assert snapshot(versioned / "versions") == before
    assert all(path.stat().st_mode & 0o222 == 0 for path in versioned.glob("versions/*/*"))


def test_two_conversions_in_one_second_are_two_versions(tmp_path, publish):
    publish(tmp_path, content=b"one")
    change, _ = publish(tmp_path, content=b"two")
    assert change.version == f"{NEW}-2"
    assert models_folder.names(tmp_path) == [NEW, f"{NEW}-2"]
    assert drives(tmp_path) == b"two"


def test_a_link_by_name_goes_when_a_version_lacks_its_file(by_hand, publish, contract):
    publish(by_hand)
    assert (by_hand / "actor.report.html").exists()
    promote(by_hand, f"actor.{OLDER}", contract)
    assert not os.path.lexists(by_hand / "actor.report.html")


def test_a_version_that_drives_already_changes_nothing(versioned, contract):
    before = snapshot(versioned)
    assert promote(versioned, SECOND, contract) == (None, [])
    assert snapshot(versioned) == before


# Disks that lack something


def refuse(monkeypatch, module, call, number):
    def refusing(*args, **_):
        raise OSError(number, os.strerror(number), str(args[0]))

    monkeypatch.setattr(module, call, refusing)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EROFS])
def test_a_disk_without_symbolic_links_is_refused_by_name_before_any_work(
    by_hand, contract, monkeypatch, number
):
    before = snapshot(by_hand)
    refuse(monkeypatch, os, "symlink", number)
    expected = r"symbolic links.*ext4.*--output"
    with pytest.raises(ModelError, match=expected) as caught, promotion.workspace(by_hand):
        pytest.fail("work began")
    assert str(caught.value).startswith(f"{by_hand}: ")
    assert snapshot(by_hand) == before


def test_a_disk_without_hard_links_modes_and_syncs_takes_models(by_hand, publish, monkeypatch):
    refuse(monkeypatch, os, "link", errno.EOPNOTSUPP)
    refuse(monkeypatch, os, "chmod", errno.EPERM)
    refuse(monkeypatch, os, "fsync", errno.EINVAL)
    publish(by_hand)
    assert drives(by_hand) == b"new model"
    assert models_folder.before(by_hand) == f"actor.{OLDER}"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_refused_by_name(versioned, contract, monkeypatch, number):
    before = snapshot(versioned)
    refuse(monkeypatch, fcntl, "flock", number)
    with pytest.raises(ModelError, match=r"locks folders.*a disk of this machine"):
        promote(versioned, FIRST, contract)
    assert snapshot(versioned) == before


# What was there before


def test_ordinary_files_become_a_version_to_return_to(by_hand, publish, contract):
    change, kept = publish(by_hand)
    assert kept == [change.previous] == [f"actor.{OLDER}"]
    assert drives(by_hand) == b"new model"
    assert models_folder.before(by_hand) == f"actor.{OLDER}"
    promote(by_hand, f"actor.{OLDER}", contract, "rollback")
    assert drives(by_hand) == b"the older model"


def test_files_of_unknown_kind_are_kept_as_they_are(models, publish):
    _, (kept,) = publish(models)
    place = models / "versions" / kept
    assert (place / "actor.rknn").read_bytes() == b"the older model"
    assert (place / "actor.json").read_text() == '{"older": true}'


def test_a_driving_model_of_another_name_becomes_a_version_too(by_hand, publish):
    change, kept = publish(by_hand, stem="fresh")
    assert kept == [change.previous] == [f"actor.{OLDER}"]
    assert (by_hand / "actor.rknn").read_bytes() == b"the older model"
    assert drives(by_hand) == b"new model"


def test_a_kept_manifest_leads_where_it_led(models, publish, model_stager):
    model_stager(models, b"the older model")
    written = json.loads((models / "actor.json").read_text())
    written["onnx"]["file"] = "../exports/actor.onnx"
    written["calibration"]["folder"] = "/absolute/calibration_data"
    (models / "actor.json").write_text(json.dumps(written))
    _, (kept,) = publish(models)
    found = json.loads((models / "versions" / kept / "actor.json").read_text())
    assert found["onnx"].pop("file") == "../../../exports/actor.onnx"
    del written["onnx"]["file"]
    assert found == written


def test_a_model_in_place_of_the_link_is_kept_with_its_manifest(
    versioned, publish, contract, model_stager
):
    (versioned / "remote_trained.rknn").unlink()
    model_stager(versioned, b"by hand", "remote_trained")
    change, (kept,) = publish(versioned)
    assert change.previous == kept == models_folder.before(versioned)
    strays = [path.name for path in versioned.glob("remote_trained.*")]
    assert strays == ["remote_trained.rknn"]
    promote(versioned, kept, contract, "rollback")
    assert drives(versioned) == b"by hand"
    assert [path.name for path in versioned.glob("remote_trained.*")] == strays


@pytest.mark.parametrize("there", [True, False])
def test_a_link_made_by_hand_is_replaced_and_remembered(versioned, tmp_path, contract, there):
    outside = tmp_path / "outside.rknn"
    if there:
        outside.write_bytes(b"of the user")
    link = versioned / "remote_trained.rknn"
    link.unlink()
    link.symlink_to(outside)
    change, _ = promote(versioned, FIRST, contract)
    assert change.previous == str(outside) == models_folder.before(versioned)
    assert drives(versioned) == b"first"
    if there:
        assert outside.read_bytes() == b"of the user"


def test_a_link_made_by_hand_to_a_version_counts_as_that_version(versioned, contract):
    link = versioned / "remote_trained.rknn"
    link.unlink()
    link.symlink_to(versioned.absolute() / "versions" / OTHER / "other.rknn")
    assert models_folder.active(versioned) == OTHER
    assert models_folder.before(versioned) == SECOND


def make(path, kind):
    """Put something in the way."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    {
        "folder": path.mkdir, "file": path.touch, "pipe": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to("/tmp"), "dangling": lambda: path.symlink_to("gone"),
        "link out": lambda: path.symlink_to("../outside/actor.rknn"),
    }[kind]()  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("versions", kind) for kind in ("file", "link", "dangling", "pipe")),
        *(("history.jsonl", kind) for kind in ("folder", "dangling", "link", "pipe")),
        *(("remote_trained.rknn", kind) for kind in ("folder", "pipe")),
        *(("actor.rknn", kind) for kind in ("folder", "link out", "dangling", "pipe")),
        *(("actor.json", kind) for kind in ("folder", "dangling")),
        *(("actor.report.html", kind) for kind in ("folder", "link")),
    ],
)
def test_what_lies_in_the_way_is_refused_and_untouched(versioned, publish, name, kind):
    make(versioned / name, kind)
    before = snapshot(versioned)
    with pytest.raises(ModelError, match=f"{name}: expected .* move it away"):
        destination.check_destination(versioned / "actor.rknn")
    with pytest.raises(OSError, match=f"{name}"):
        publish(versioned)
    assert snapshot(versioned) == before


def test_bad_destinations_are_refused_all_at_once(tmp_path):
    for name in ("actor.rknn", "remote_trained.rknn", "history.jsonl"):
        (tmp_path / name).mkdir()
    with pytest.raises(ModelError) as refused:
        destination.check_destination(tmp_path / "actor.rknn")
    for name in ("actor.rknn: expected", "remote_trained.rknn: expected", "history.jsonl: exp"):
        assert name in str(refused.value)
    with pytest.raises(ModelError, match="create it first"):
        destination.check_destination(tmp_path / "absent" / "actor.rknn")
    with pytest.raises(ModelError, match="choose another name"):
        destination.check_destination(tmp_path / "remote_trained.rknn")


# A version that cannot be trusted


def edit(folder, change):
    path = folder / "actor.json"
    path.chmod(0o644)
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def _append_byte(place):
    (place / "actor.rknn").chmod(0o644)
    (place / "actor.rknn").write_bytes(b"firstX")


def _link_away(place, name):
    os.rename(place / name, place.parent.parent / "moved")
    (place / name).symlink_to(place.parent.parent / "moved")


BROKEN = {
    "tampered": (_append_byte, ModelError, "bytes as its manifest says"),
    "no model": (lambda p: (p / "actor.rknn").unlink(), ModelError, "expected an .rknn file"),
    "no manifest": (lambda p: (p / "actor.json").unlink(), ModelError, "expected the manifest"),
    "size": (
        lambda p: edit(p, lambda r: r["model"].update(bytes=7)),
        ModelError,
        "expected 7 bytes as its manifest says",
    ),
    "of another name": (
        lambda p: edit(p, lambda r: r["model"].update(file="other.rknn")),
        ModelError,
        "expected other.rknn as its manifest says",
    ),
    "schema": (lambda p: edit(p, lambda r: r.update(schema=0)), ModelError, "expected schema"),
    "contract": (
        lambda p: edit(p, lambda r: r["contract"].update(digest="0" * 64)),
        ContractError,
        "expected contract",
    ),
    "linked model": (lambda p: _link_away(p, "actor.rknn"), ModelError, "found a link"),
    "linked manifest": (lambda p: _link_away(p, "actor.json"), ModelError, "found a link"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_version_is_listed_with_its_reason_and_never_driven(versioned, contract, fault):
    spoil, error, reason = BROKEN[fault]
    spoil(versioned / "versions" / FIRST)
    before = snapshot(versioned)
    with pytest.raises(error, match=reason):
        promote(versioned, FIRST, contract)
    assert snapshot(versioned) == before
    first, other, second = models_folder.versions(versioned, contract)
    assert first.record is None and reason in first.broken and "\n" not in first.broken
    assert (other.broken, second.broken) == ("", "")


def test_what_is_no_version_is_listed_too(versioned, contract):
    (versioned / "versions" / "notes.txt").write_text("mine")
    (versioned / "versions" / "far.20250101T000000Z").symlink_to("/tmp")
    broken = {v.name: v.broken for v in models_folder.versions(versioned, contract) if v.broken}
    assert "expected a name like" in broken.pop("notes.txt")
    assert "found a link" in broken.pop("far.20250101T000000Z")
    assert broken == {}


@pytest.mark.parametrize("version", ["../evil/actor.20250101T000000Z", "..", "", "actor"])
def test_a_name_cannot_lead_out_of_the_folder(versioned, contract, version):
    with pytest.raises(ModelError, match="expected a name like"):
        promote(versioned, version, contract)


@pytest.mark.parametrize(
    ("text", "found"),
    [(FIRST, FIRST), ("1", FIRST), ("2", OTHER), ("o", OTHER), ("actor.20250103", SECOND)],
)
def test_a_version_is_found_by_name_number_or_beginning(versioned, text, found):
    assert models_folder.find(versioned, text) == found


@pytest.mark.parametrize("text", ["", "0", "4", "actor", "ctor", "versions", "*"])
def test_no_version_is_guessed(versioned, text):
    with pytest.raises(ModelError, match="which fits"):
        models_folder.find(versioned, text)


def test_a_number_that_also_begins_a_name_is_refused(versioned, publish):
    publish(versioned, stem="2fast")
    with pytest.raises(ModelError, match=rf"{OTHER}, 2fast"):
        models_folder.find(versioned, "2")


# History


@pytest.mark.parametrize(
    ("changes", "before"),
    [
        ("c:a", None),
        ("c:a c:b", "a"),
        ("c:a c:b r:a", None),
        ("c:a c:b c:c r:b", "a"),
        ("c:a c:b c:c r:b p:c", "b"),
        ("c:a c:b p:a p:b", "a"),
        ("c:a c:b c:c r:b r:a", None),
        ("c:a c:b p:a r:b", "a"),
    ],
)
def test_before_is_never_what_was_rolled_away_from(tmp_path, changes, before):
    version, lines = None, []
    for text in changes.split():
        action, name = text.split(":")
        action = {"c": "convert", "p": "promote", "r": "rollback"}[action]
        lines.append(Change("2025-01-01T00:00:00+00:00", action, name, version).__dict__)
        version = name
    (tmp_path / "history.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "remote_trained.rknn").symlink_to(f"versions/{version}/actor.rknn")
    assert models_folder.before(tmp_path) == before


@pytest.mark.parametrize("kept", [0, 1, 40, -2, -1])
def test_a_history_cut_short_loses_its_last_line_only(versioned, contract, publish, caplog, kept):
    path = versioned / "history.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + lines[-1][:kept])
    with caplog.at_level(logging.WARNING):
        assert models_folder.before(versioned) == OTHER
    assert ("line 3 cannot be read" in caplog.text) == (kept not in (0, -1))
    publish(versioned)
    assert models_folder.history(versioned)[-1].version == NEW
    assert models_folder.before(versioned) == SECOND
    assert path.read_text().startswith("".join(lines[:-1]) + lines[-1][:kept])


@pytest.mark.parametrize(
    "line",
    [
        "\0\0\0", "[]", '{"time": 1}', '{"version": "a"}', "\xff", "[" * 100_000, "1" * 5000,
        '{"time": ' * 5000, '"' + "x" * 200_000 + '"', "{}\n" * 5000,
        '{"time": "", "time": "", "action": "promote", "version": "v", "previous": null}',
    ],
)  # fmt: skip
def test_lines_of_others_are_left_out_and_left_alone(versioned, contract, line):
    path = versioned / "history.jsonl"
    path.write_text(line + "\n" + path.read_text(), encoding="latin-1")
    before = path.read_bytes()
    assert models_folder.before(versioned) == OTHER
    promote(versioned, FIRST, contract)
    assert path.read_bytes().startswith(before)


def test_a_history_that_is_no_file_is_named_and_never_waited_for(versioned):
    (versioned / "history.jsonl").unlink()
    os.mkfifo(versioned / "history.jsonl")
    with pytest.raises(ModelError, match=r"history\.jsonl: expected a regular file, found a pipe"):
        models_folder.before(versioned)


# Faults and interruptions

LAYOUTS = ("empty", "by_hand", "in_place", "versioned")


@pytest.fixture
def layout(request, tmp_path, model_stager):
    """A models folder of one of LAYOUTS."""
    if request.param == "empty":
        folder = tmp_path / "empty"
        folder.mkdir()
    else:
        folder = request.getfixturevalue("versioned" if request.param == "versioned" else "by_hand")
    if request.param == "in_place":
        (folder / "remote_trained.rknn").unlink()
        model_stager(folder, b"in place of the link", "remote_trained")
    return folder


@pytest.mark.parametrize("layout", LAYOUTS, indirect=True)
@pytest.mark.parametrize(
    "call", ["mkdir", "open", "rename", "replace", "link", "symlink", "unlink", "chmod", "fsync"]
)
def test_a_step_that_fails_leaves_everything_as_before(layout, publish, monkeypatch, call):
    before = snapshot(layout)
    original = getattr(os, call)
    for failing in range(1000):
        calls = []

        def failing_call(*args, calls=calls, failing=failing, **kwargs):
            calls.append(args)
            if len(calls) == failing + 1:
                raise OSError(28, "No space left on device")
            return original(*args, **kwargs)

        monkeypatch.setattr(os, call, failing_call)
        try:
            publish(layout)
        except OSError:
            assert snapshot(layout) == before
        else:
            break
        finally:
            monkeypatch.undo()
    assert failing > 0 or call in ("link", "unlink", "chmod")
    assert drives(layout) == b"new model"


def test_a_disk_that_fills_up_within_a_line_of_history(versioned, contract):
    path = versioned / "history.jsonl"
    with path.open("a") as file:
        file.write("\n" * 20_000)
    before = snapshot(versioned)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
    try:
        with pytest.raises(OSError, match=r"history\.jsonl"):
            promote(versioned, FIRST, contract)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert snapshot(versioned) == before


def test_the_model_drives_at_every_moment(by_hand, publish, monkeypatch):
    seen = []
    for name in ("link", "symlink", "rename", "replace", "unlink", "fsync"):
        original = getattr(os, name)

        def spy(*args, original=original, **kwargs):
            seen.append(drives(by_hand))
            return original(*args, **kwargs)

        monkeypatch.setattr(os, name, spy)
    publish(by_hand)
    assert sorted(set(seen)) == [b"new model", b"the older model"]
    assert seen == sorted(seen, reverse=True)


CHANGING = {"os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.chmod"}


def signalled(number, moment, change, *arguments):
    """Return the status of a process that gets a signal before its n-th call that changes a file.

    It makes a change, and ends with the exit code that this returns, or 0.
    """
    pid = os.fork()
    if pid == 0:
        left = moment

        def hook(event, args):
            nonlocal left
            if event in CHANGING or (event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR)):
                if left == 0:
                    os.kill(os.getpid(), number)
                left -= 1

        status = 1
        # A process of the suite has threads of numpy's, and any of them may take the signal.
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        try:
            sys.addaudithook(hook)
            code = change(*arguments)
            status = code if isinstance(code, int) else 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed(moment, change, *arguments):
    """Kill a process so; return whether it came to its end before."""
    status = signalled(signal.SIGKILL, moment, change, *arguments)
    assert status in (0, -signal.SIGKILL)
    return status == 0


@pytest.mark.parametrize(
    ("verb", "old", "new", "before", "after"),
    [
        (["promote", FIRST], b"second", b"first", OTHER, SECOND),
        (["rollback"], b"second", b"other", OTHER, FIRST),
    ],
)
def test_sigkill_at_every_moment_of_a_promotion(
    versioned, tmp_path, contract, verb, old, new, before, after
):
    untouched = snapshot(versioned / "versions")
    outcomes = []
    for moment in range(1000):
        folder = shutil.copytree(versioned, tmp_path / f"{moment}", symlinks=True)
        ended = killed(moment, models.main, [*verb, "--models-dir", str(folder)])
        outcomes.append(drives(folder))
        assert outcomes[-1] in (old, new)
        assert snapshot(folder / "versions") == untouched
        assert models_folder.before(folder) == (after if outcomes[-1] == new else before)
        now = models_folder.active(folder)
        change, _ = promote(folder, FIRST if now == SECOND else SECOND, contract)
        assert change.previous == now
        # As after the same promotions without a kill.
        assert list(folder.glob(".*")) == []
        versions = [change.version for change in models_folder.history(folder)]
        assert versions == [FIRST, OTHER, SECOND, *([now] if now != SECOND else []), change.version]
        assert (folder / "actor.rknn").read_bytes() == drives(folder)
        assert (folder / "other.rknn").read_bytes() == b"other"
        shutil.rmtree(folder)
        if ended:
            break
    assert outcomes == sorted(outcomes, key=[old, new].index)
    assert outcomes.count(old) >= 3 and outcomes.count(new) >= 10


@pytest.mark.parametrize("layout", LAYOUTS, indirect=True)
def test_sigkill_at_every_moment_of_a_publication(layout, tmp_path, publish, model_stager, request):
    (tmp_path / "staged").mkdir()
    before = snapshot(layout)
    old = drives(layout) if (layout / "remote_trained.rknn").exists() else None
    # Manifests are rewritten when they move; all else must be found byte for byte.
    contents = {v for k, v in before.items() if not k.endswith(".json") and isinstance(v, bytes)}
    contents -= {before.get("history.jsonl")}
    outcomes = []
    for moment in range(1000):
        folder = shutil.copytree(layout, tmp_path / f"{moment}", symlinks=True)
        ended = killed(moment, publish, folder)
        driven = (folder / "remote_trained.rknn").exists()
        outcomes.append(drives(folder) if driven else None)
        assert outcomes[-1] in (old, b"new model")
        now = models_folder.active(folder) if outcomes[-1] == b"new model" else None
        if now:
            assert now == NEW
        change, _ = publish(folder, "20250105T000000Z", content=b"the next")
        assert now in (None, change.previous)
        assert drives(folder) == (folder / "actor.rknn").read_bytes() == b"the next"
        assert list(folder.glob(".*")) == []
        assert [path.name for path in folder.glob("remote_trained.*")] == ["remote_trained.rknn"]
        assert contents <= set(snapshot(folder).values())
        kept = set(models_folder.names(folder)) - {FIRST, OTHER, SECOND, NEW, change.version}
        assert len(kept) == {"by_hand": 1, "in_place": 2}.get(request.node.callspec.id, 0)
        shutil.rmtree(folder)
        if ended:
            break
    assert outcomes == sorted(outcomes, key=[old, b"new model"].index)
    assert outcomes.count(old) >= 5 and outcomes.count(b"new model") >= 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_at_every_moment_leaves_nothing_behind(versioned, tmp_path, number):
    before, codes = snapshot(versioned), []
    command = ["promote", FIRST, "--models-dir"]
    for moment in range(1000):
        folder = shutil.copytree(versioned, tmp_path / f"{moment}", symlinks=True)
        codes.append(signalled(number, moment, models.main, [*command, str(folder)]))
        assert list(folder.glob(".*")) == []
        if drives(folder) == b"second":
            assert snapshot(folder) == before
        else:
            assert models_folder.recorded(folder)[-1].version == FIRST
        if codes[-1] == 0:
            break
    assert set(codes) == {130, 0} and len(codes) > 20


# Two at once


def test_a_second_one_is_told_to_wait(versioned, contract):
    with promotion.workspace(versioned), pytest.raises(ModelError, match="busy, another"):
        promote(versioned, FIRST, contract)


def test_two_processes_that_promote_at_once_do_not_mix(versioned, contract):
    source = """
import sys
from pathlib import Path
from tractor_calibration.store import promotion
from tractor_core import contract, paths
from tractor_core.errors import ModelError
folder, changes = Path(sys.argv[1]), 0
observed = contract.load(paths.default_params_file())
while changes < 20:
    try:
        with promotion.workspace(folder) as work:
            changes += promotion.promote(work, sys.argv[2], observed)[0] is not None
            changes += promotion.promote(work, sys.argv[3], observed)[0] is not None
    except ModelError as error:
        assert "busy" in str(error), error
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", source, versioned, *pair])
        for pair in ((FIRST, OTHER), (OTHER, SECOND))
    ]
    while any(process.poll() is None for process in processes):
        assert drives(versioned) in (b"first", b"other", b"second")
        assert not any(version.broken for version in models_folder.versions(versioned, contract))
        assert models_folder.before(versioned) in (FIRST, OTHER, SECOND)
    assert [process.wait() for process in processes] == [0, 0]
    changes = models_folder.history(versioned)
    assert len(changes) >= 3 + 2 * 20
    assert all(b.previous == a.version for a, b in itertools.pairwise(changes))
    assert models_folder.active(versioned) == changes[-1].version
    assert drives(versioned) in (b"other", b"second")


def test_leftovers_of_a_killed_process_are_removed(versioned):
    before = snapshot(versioned)
    (versioned / ".convert-dead").mkdir()
    (versioned / ".convert-dead" / "half.rknn").write_bytes(b"half")
    (versioned / ".convert-dead" / "intent.json").write_text('{"time')
    with promotion.workspace(versioned):
        pass
    assert snapshot(versioned) == before


def test_what_a_link_leads_to_is_no_leftover(versioned, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    (versioned / ".convert-link").symlink_to(tmp_path / "mine")
    (versioned / ".convert-file").touch()
    before = snapshot(versioned)
    with promotion.workspace(versioned):
        pass
    assert snapshot(versioned) == before
    assert (tmp_path / "mine" / "thesis.txt").exists()
