"""`check` as a user runs it: grades, reasons, hostile files, quarantine, the page."""

import dataclasses
import errno
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import zipfile

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor_calibration import check
from tractor_calibration.samples import quality, survey
from tractor_calibration.samples import report as check_report
from tractor_core import samples
from tractor_core.diversity import all_regions

pytestmark = pytest.mark.usefixtures("signal_handlers_stay")

# Runs the command with little address space and says on stderr how much memory it took.
# Not ru_maxrss: that begins with what the parent had when it made the process.
LIMITED = """
import re, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
from tractor_calibration import check
code = check.main(sys.argv[2:])
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print("peak_kb", peak, file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture
def run(capsys, params_file):
    """Run the command in this process; returns (exit code, result)."""

    def command(*arguments):
        code = check.main([*map(str, arguments), "--json", "--params", str(params_file)])
        result = json.loads(capsys.readouterr().out)
        assert result["exit_code"] == code and result["ok"] == (code == 0)
        return code, result

    return command


def limited(folder, *arguments, address_space=2_000_000_000):
    """Run the command in a process of its own; returns it, and its peak memory in MB."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(address_space), str(folder), *arguments],
        capture_output=True, text=True, timeout=300, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    return done, int(done.stderr.split("peak_kb ")[-1]) / 1024


def write(folder, contract, frames, first=0, **members):
    """Write frames without waiting for the disk."""
    folder.mkdir(exist_ok=True)
    for i, frame in enumerate(frames, first):
        content = dict(bev=frame.bev, proprio=frame.proprio, contract=np.array(contract.digest))
        stamp = np.int64((i + 1) * 400_000_000)
        np.savez_compressed(folder / f"calib_{10**18 + i}.npz", stamp=stamp, **content, **members)
    return folder


@pytest.fixture
def frames(frame_maker):
    def make(count, seed=0):
        rng = np.random.default_rng(seed)
        return [frame_maker(rng) for _ in range(count)]

    return make


def contents(folder):
    """What every path below a folder is: a link's target, a file's bytes."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink()
        else path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }  # fmt: skip


def reasons(result):
    return " | ".join(finding["reason"] for finding in result["findings"])


class TestGrade:
    @pytest.mark.parametrize(
        ("count", "grade", "code", "reason"),
        [
            (110, "good", 0, ""),
            (60, "fair", 0, "60 usable samples; 100 are wanted"),
            (30, "poor", 1, "30 usable samples; fewer than 50 are poor"),
        ],
    )
    def test_follows_the_number_of_diverse_samples(
        self, tmp_path, contract, frames, run, count, grade, code, reason
    ):
        found = run(write(tmp_path / "set", contract, frames(count)))
        assert (found[0], found[1]["grade"]) == (code, grade)
        assert found[1]["distinct"] == min(count, 100)
        assert reason in reasons(found[1])

    def test_samples_that_are_alike_count_once(self, tmp_path, contract, frames, run):
        rng = np.random.default_rng(0)
        (standing,) = frames(1)
        standing.proprio[:] = [2.0, 0.5, 0.5, 0.1, 0.0, 0.0]
        noisy = []
        for _ in range(120):
            proprio = standing.proprio + rng.normal(0.0, 0.002, 6).astype(np.float32)
            noisy.append(samples.Sample(standing.bev, proprio))
        code, result = run(write(tmp_path / "set", contract, noisy))
        assert (code, result["grade"], result["distinct"]) == (1, "poor", 1)
        assert "120 usable samples, 1 of them distinct" in reasons(result)
        assert "other places" in result["findings"][0]["advice"]

    def test_repeated_content_is_named_and_counts_once(self, tmp_path, contract, frames, run):
        made = frames(60)
        folder = write(tmp_path / "set", contract, made)
        write(folder, contract, made, first=60)
        result = run(folder)[1]
        assert (result["usable"], result["distinct"], result["grade"]) == (120, 60, "fair")
        assert result["duplicates"] == {
            f"calib_{10**18 + 60 + i}.npz": f"calib_{10**18 + i}.npz" for i in range(60)
        }

    def test_an_empty_channel_is_poor(self, tmp_path, contract, frames, run):
        made = frames(110)
        for frame in made:
            frame.bev[1] = 0.0
        code, result = run(write(tmp_path / "set", contract, made))
        assert (code, result["grade"]) == (1, "poor")
        assert "the depth channel is empty in every sample" in reasons(result)
        assert result["channels"]["depth"] == {"mean_occupancy": 0.0, "empty_samples": 110}
        assert "camera_info" in result["findings"][0]["advice"]

    def test_a_feature_that_never_changes_is_fair(self, tmp_path, contract, frames, run):
        made = frames(110)
        for frame in made:
            frame.proprio[3] = 0.125
        code, result = run(write(tmp_path / "set", contract, made))
        assert (code, result["grade"]) == (0, "fair")
        assert "cur_lin is 0.125 in every sample" in reasons(result)
        assert result["features"]["cur_lin"]["constant"]

    def test_straight_driving_is_fair_and_the_missing_is_said_in_words(
        self, tmp_path, contract, frames, run
    ):
        made = frames(110)
        for i, frame in enumerate(made):
            frame.proprio[3:5] = 0.15 + i / 1e4, (0.5 if i < 2 else 0.0)
        result = run(write(tmp_path / "set", contract, made))[1]
        assert result["grade"] == "fair"
        advice = next(f["advice"] for f in result["findings"] if "motion" in f["reason"])
        assert "turning left, at speed (2)" in advice and "turning right, at speed (0)" in advice
        assert {"feature": "motion", "region": "turning left, at speed", "samples": 2} in (
            result["few"]
        )

    def test_every_region_and_session_is_counted(self, tmp_path, contract, frames, run):
        folder = write(tmp_path / "set", contract, frames(8), session=np.array("monday"))
        write(folder, contract, frames(4, seed=1), first=8)
        result = run(folder)[1]
        assert result["sessions"] == {"": 4, "monday": 8}
        assert {n: [*c] for n, c in result["regions"].items()} == all_regions(contract)
        assert {sum(counts.values()) for counts in result["regions"].values()} == {12}

    def test_the_figures_are_those_of_the_samples(self, tmp_path, contract, frames):
        made = frames(12)
        found = survey.survey(write(tmp_path / "set", contract, made), contract)
        np.testing.assert_allclose(found.occupancy, np.mean([f.bev for f in made], axis=0))
        np.testing.assert_array_equal(found.proprio, [f.proprio for f in made])
        outliers = quality.describe(found)["outliers"]
        between = np.linalg.norm(found.points[:, None] - found.points[None], axis=2)
        np.fill_diagonal(between, np.inf)
        nearest = between.min(axis=1)
        assert outliers[0]["file"] == found.files[int(nearest.argmax())].name
        assert outliers[0]["distance"] == pytest.approx(nearest.max(), abs=1e-3)
        assert len(outliers) == min(quality.MOST_OUTLIERS, (nearest > quality.ALIKE).sum())

    def test_none_stands_alone_among_samples_that_are_much_alike(self, tmp_path, contract, frames):
        (one,) = frames(1)
        nearly = [dataclasses.replace(one, proprio=one.proprio * f) for f in (1.0, 0.999, 0.998)]
        found = survey.survey(write(tmp_path / "set", contract, nearly), contract)
        assert not quality.describe(found)["outliers"]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 50), st.floats(0.0, 2.0))
def test_chosen_points_are_apart_and_near_to_all_others(seed, total, count, radius):
    points = np.random.default_rng(seed).normal(size=(total, 3)).astype(np.float32)
    chosen, nearest = survey.spread(points, count, radius)
    between = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(between, np.inf)
    assert len({*chosen}) == len(chosen) <= count
    assert (between[np.ix_(chosen, chosen)] > radius).all()
    if len(chosen) < count:
        np.fill_diagonal(between, 0.0)
        assert (between[chosen].min(axis=0) <= radius).all()
        np.fill_diagonal(between, np.inf)
    np.testing.assert_allclose(nearest, between[chosen].min(axis=1), rtol=1e-5)


def _changed(frame, **changes):
    return dict(bev=frame.bev, proprio=frame.proprio) | changes


def _with(array, index, value):
    array = array.copy()
    array[index] = value
    return array


BAD = {
    "nan": (lambda f: _changed(f, proprio=_with(f.proprio, 1, np.nan)), "found 1 NaN or Inf"),
    "inf": (lambda f: _changed(f, bev=_with(f.bev, (0, 3, 3), np.inf)), "found 1 NaN or Inf"),
    "grid": (lambda f: _changed(f, bev=_with(f.bev, (0, 3, 3), 1.5)), "expected 0..1"),
    "lidar": (lambda f: _changed(f, proprio=_with(f.proprio, 0, 4.5)), "lidar_min: expected 0..4"),
    "shape": (lambda f: _changed(f, bev=f.bev[:, :64]), "expected shape (2, 128, 128)"),
    "type": (lambda f: _changed(f, proprio=f.proprio.astype(float)), "expected float32"),
    "member": (lambda f: dict(bev=f.bev), "missing ['proprio']"),
    "essay": (lambda f: _changed(f, contract=np.array("x" * 100_000)), "expected contract"),
}


def test_each_fault_is_found_and_the_others_are_still_judged(tmp_path, contract, frames, run):
    folder = write(tmp_path / "set", contract, frames(110))
    (good,) = frames(1, seed=1)
    for name, (make, _) in BAD.items():
        np.savez(folder / f"calib_{name}.npz", **make(good))
    before = contents(folder)
    code, result = run(folder)
    assert (code, result["grade"]) == (0, "good")
    assert (result["found"], result["usable"]) == (110 + len(BAD), 110)
    for name, (_, sentence) in BAD.items():
        assert sentence in result["unusable"].pop(f"calib_{name}.npz")
    assert not result["unusable"]
    assert "cannot be used, and are left out: 8" in reasons(result)
    assert contents(folder) == before
    text = check.table(run(folder)[1], contract.proprio_labels)
    assert "calib_nan.npz" in text and len(text) < 10_000


def test_files_of_one_reason_are_named_up_to_ten(calibration_dir, contract, run):
    for number in range(12):
        (calibration_dir / f"calib_{number:02}.npz").mkdir()
    (calibration_dir / "calib_link.npz").symlink_to("nowhere")
    text = check.table(run(calibration_dir)[1], contract.proprio_labels)
    first = ", ".join(f"calib_{number:02}.npz" for number in range(10))
    assert f"  {first} and 2 more: expected a regular file, found a folder\n" in text
    assert "  calib_link.npz: expected a regular file, found a link\n" in text


class TestAnotherParameterFile:
    """Samples are sound under the parameter file that they were made with."""

    @pytest.fixture
    def clipped(self, tmp_path, params_file):
        content = yaml.safe_load(params_file.read_text())
        content["/**"]["ros__parameters"]["observation"]["proprio_clip"] = 2.0
        path = tmp_path / "clip.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    @pytest.fixture
    def good_set(self, tmp_path, contract, frames):
        return write(tmp_path / "set", contract, frames(100))

    def test_all_stay_and_are_named_once(self, good_set, clipped, capsys):
        before = contents(good_set)
        code = check.main([str(good_set), "--params", str(clipped), "--quarantine"])
        out, _ = capsys.readouterr()
        assert code == 4
        assert contents(good_set) == before
        assert out.count("made with another parameter file") == 1
        assert (
            "poor: all 100 samples were made with another parameter file: "
            "proprio_clip: here 2.0, there 3.0\n    -> give the --params they were made with"
        ) in out
        assert "drive" not in out

    def test_the_error_gives_the_same_remedy(self, good_set, clipped, capsys):
        check.main([str(good_set), "--params", str(clipped), "--json"])
        result = json.loads(capsys.readouterr().out)
        assert result["error"].endswith("can be used; give the --params they were made with")
        assert (result["found"], len(result["foreign"]), result["unusable"]) == (100, 100, {})

    def test_some_are_named_and_only_damaged_files_are_moved(self, good_set, frames, run):
        (good,) = frames(1, seed=1)
        np.savez(good_set / "calib_x.npz", **_changed(good, contract=np.array("0" * 64)))
        (good_set / "calib_y.npz").write_text("text")
        code, result = run(good_set, "--quarantine")
        assert (code, result["grade"]) == (0, "good")
        assert {*result["quarantined"]} == {"calib_y.npz"}
        assert result["foreign"] == {"calib_x.npz": "0" * 64}
        assert "1 of 102 samples were made with another parameter file: contract: here" in (
            reasons(result)
        )
        assert "there 000000000000; they are calib_x.npz" in reasons(result)

    def test_where_they_are_missing_nobody_is_sent_to_drive(self, tmp_path, contract, frames, run):
        folder = write(tmp_path / "set", contract, frames(30))
        for file in samples.list_files(folder)[:20]:
            with np.load(file) as data:
                members = {**data, "contract": np.array("0" * 64)}
            np.savez(file, **members)
        code, result = run(folder)
        assert (code, result["grade"], result["usable"]) == (1, "poor", 10)
        assert "give the --params" in result["findings"][0]["advice"]
        assert "drive" not in result["findings"][0]["advice"]


class Trap:
    def __reduce__(self):
        return os.mkdir, (os.environ["TRAP"],)


def _bomb(path, shape, content, method=zipfile.ZIP_DEFLATED):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    with zipfile.ZipFile(path, "w", method) as archive, archive.open("bev.npy", "w") as member:
        member.write(header.getvalue())
        for _ in range(content):
            member.write(bytes(1_000_000))


@pytest.fixture
def hostile(tmp_path, contract, frames, monkeypatch):
    """A folder with one good sample and all that must not be read; (folder, {name: reason})."""
    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    folder = write(tmp_path / "set", contract, frames(1))
    (good,) = samples.list_files(folder)
    outside = tmp_path / "outside.npz"
    outside.write_bytes(good.read_bytes())
    np.savez(folder / "pickle.npz", bev=np.array([Trap()], dtype=object), proprio=np.zeros(6))
    _bomb(folder / "bomb_declared.npz", (60_000, 60_000), 0)
    _bomb(folder / "bomb_deflated.npz", (2, 128, 128), 100)
    _bomb(folder / "bomb_bzip2.npz", (2, 128, 128), 100, zipfile.ZIP_BZIP2)
    with zipfile.ZipFile(folder / "header.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bev.npy", b"\x93NUMPY\x02\x00" + b"\xff\xff\xff\x7f" + b"(" * 1_000_000)
    (folder / "huge.npz").touch()
    os.truncate(folder / "huge.npz", 3_000_000_000)
    (folder / "link.npz").symlink_to(outside)
    (folder / "nowhere.npz").symlink_to("absent")
    os.mkfifo(folder / "pipe.npz")
    (folder / "folder.npz").mkdir()
    (folder / "folder.npz" / "thesis.txt").write_text("mine")
    (folder / "half.npz").write_bytes(good.read_bytes()[:-300])
    (folder / "esc\x1b[2J\n.npz").write_text("text")
    (folder / os.fsdecode(b"\xff.npz")).write_text("text")
    expected = {
        "pickle.npz": "pickle",
        "bomb_declared.npz": "declares 14400000000 bytes",
        "bomb_deflated.npz": "declares 100000128 bytes",
        "bomb_bzip2.npz": "expected stored or deflated data",
        "header.npz": "absurd header",
        "huge.npz": "expected at most 4194304 bytes",
        **dict.fromkeys(("link.npz", "nowhere.npz"), "expected a regular file, found a link"),
        "pipe.npz": "expected a regular file, found a pipe",
        "folder.npz": "expected a regular file, found a folder",
        **dict.fromkeys(
            ("half.npz", "esc\x1b[2J\n.npz", os.fsdecode(b"\xff.npz")), "not a readable .npz file"
        ),
    }
    return folder, expected


def test_hostile_files_are_refused_in_little_memory(hostile, tmp_path):
    folder, expected = hostile
    page = tmp_path / "page.html"
    done, peak_mb = limited(folder, "--json", "--html", str(page))
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    assert {*result["unusable"]} == {*expected}
    for name, sentence in expected.items():
        assert sentence in result["unusable"][name]
    assert not (tmp_path / "sprung").exists()
    # The interpreter with numpy and matplotlib takes most of it.
    assert peak_mb < 200
    assert "Traceback" not in done.stderr
    assert "esc\\x1b[2J\\n.npz" in page.read_text()
    plain, peak_mb = limited(folder)
    assert plain.stdout.isascii() and "\x1b" not in plain.stdout
    assert peak_mb < 120


class TestQuarantine:
    def test_moves_what_cannot_be_used_as_it_is_and_says_why(self, hostile, tmp_path, run):
        folder, expected = hostile
        (good,) = [f for f in samples.list_files(folder) if f.name.startswith("calib_")]
        kept = good.read_bytes()
        outside = (tmp_path / "outside.npz").read_bytes()
        code, result = run(folder, "--quarantine")
        assert code == 1
        assert result["quarantined"] == {name: name for name in expected}
        place = folder / "quarantine"
        assert {path.name for path in folder.iterdir()} == {good.name, "quarantine"}
        assert {path.name for path in place.iterdir()} == {
            *expected, *(f"{name}.txt" for name in expected)
        }  # fmt: skip
        for name, sentence in expected.items():
            assert sentence in (place / f"{name}.txt").read_text()
        assert os.readlink(place / "link.npz") == str(tmp_path / "outside.npz")
        assert os.readlink(place / "nowhere.npz") == "absent"
        assert (place / "pipe.npz").is_fifo()
        assert (place / "folder.npz" / "thesis.txt").read_text() == "mine"
        assert good.read_bytes() == kept
        assert (tmp_path / "outside.npz").read_bytes() == outside
        assert run(folder, "--quarantine")[1]["unusable"] == {}

    def test_overwrites_nothing(self, calibration_dir, run):
        place = calibration_dir / "quarantine"
        for text in ("first", "second", "third"):
            (calibration_dir / "calib_1.npz").write_text(text)
            run(calibration_dir, "--quarantine")
        (calibration_dir / "calib_2.npz").write_text("fourth")
        (place / "calib_2.npz").write_text("the user's")
        run(calibration_dir, "--quarantine")
        assert [
            (place / name).read_text()
            for name in ("calib_1.npz", "calib_1.2.npz", "calib_1.3.npz", "calib_2.npz",
                         "calib_2.2.npz")
        ] == ["first", "second", "third", "the user's", "fourth"]  # fmt: skip
        assert len([*place.glob("*.txt")]) == 4

    def test_names_as_long_as_they_may_be_are_moved(self, calibration_dir, run):
        name = "x" * 251 + ".npz"
        (calibration_dir / name).write_text("text")
        moved = run(calibration_dir, "--quarantine")[1]["quarantined"]
        assert (calibration_dir / "quarantine" / moved[name]).read_text() == "text"

    @pytest.mark.parametrize("kind", ["link", "file"])
    def test_goes_nowhere_else(self, calibration_dir, tmp_path, run, kind):
        (calibration_dir / "calib_1.npz").write_text("text")
        if kind == "link":
            (tmp_path / "elsewhere").mkdir()
            (calibration_dir / "quarantine").symlink_to(tmp_path / "elsewhere")
        else:
            (calibration_dir / "quarantine").write_text("mine")
        before = contents(tmp_path)
        code, result = run(calibration_dir, "--quarantine")
        assert code == 7
        assert "expected a folder or nothing, found a link or file" in result["error"]
        assert result["usable"] == 104
        assert contents(tmp_path) == before

    def test_makes_no_folder_when_all_can_be_used(self, calibration_dir, run):
        assert run(calibration_dir, "--quarantine")[1]["quarantined"] == {}
        assert not (calibration_dir / "quarantine").exists()


class TestPage:
    def test_holds_all_plots_itself(self, tmp_path, contract, frames, run):
        folder = write(tmp_path / "set", contract, frames(20), session=np.array("$\\frac$<b>"))
        write(folder, contract, frames(20, seed=1), first=20)
        (folder / "<img src=x>.npz").write_text("text")
        page = tmp_path / "page.html"
        result = run(folder, "--html", page)[1]
        text = page.read_text()
        assert text.count('src="data:image/png;base64,') == text.count("<img ") == 9
        assert f"{result['grade'].upper()}: 40 of 41 samples can be used" in text
        assert "<script" not in text and "http" not in text
        assert "&lt;img src=x&gt;.npz" in text
        for finding in result["findings"]:
            assert finding["reason"] in text and finding["advice"] in text
        assert result["outliers"][0]["file"] in text
        assert {path.name for path in tmp_path.iterdir()} == {"set", "page.html"}

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_is_made_of_few_samples_too(self, tmp_path, contract, frames, run, count):
        folder = write(tmp_path / "set", contract, frames(count))
        (folder / "calib_bad.npz").write_text("text")
        page = tmp_path / "page.html"
        assert run(folder, "--html", page)[0] == (1 if count else 4)
        assert "calib_bad.npz" in page.read_text()

    def test_the_two_axes_hold_most_of_the_variance(self):
        rng = np.random.default_rng(0)
        points = rng.normal(size=(500, 5)) * [0.1, 3.0, 0.1, 2.0, 0.1]
        places, shares = check_report.principal(points)
        np.testing.assert_allclose(np.abs(places.std(axis=0)), [3.0, 2.0], rtol=0.1)
        assert shares[0] > shares[1] and shares.sum() > 0.99
        again, _ = check_report.principal(points[::-1])
        np.testing.assert_allclose(again[::-1], places, atol=1e-9)


class TestExitCodes:
    @pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
    def test_no_samples(self, tmp_path, run, make):
        make(tmp_path / "set")
        code, result = run(tmp_path / "set")
        assert code == 4
        assert "No calibration samples found" in result["error"]

    def test_wrong_parameters(self, calibration_dir, tmp_path, capsys):
        assert check.main([str(calibration_dir), "--params", str(tmp_path / "none"), "--json"]) == 2
        assert json.loads(capsys.readouterr().out)["exit_code"] == 2

    @pytest.mark.parametrize("page", ["calib_1.npz", "absent/page.html"])
    def test_a_page_that_cannot_be_meant(self, calibration_dir, page):
        with pytest.raises(SystemExit) as ended:
            check.main([str(calibration_dir), "--html", str(calibration_dir / page)])
        assert ended.value.code == 2

    def test_a_page_that_cannot_be_made(self, calibration_dir, tmp_path, no_jinja2, capsys):
        with pytest.raises(SystemExit) as ended:
            check.main([str(calibration_dir), "--html", str(tmp_path / "page.html")])
        assert ended.value.code == 2
        assert "found no Jinja2; pip install Jinja2" in capsys.readouterr().err

    def test_a_page_that_cannot_be_written(self, calibration_dir, tmp_path, run):
        (tmp_path / "page.html").mkdir()
        code, result = run(calibration_dir, "--html", tmp_path / "page.html")
        assert code == 7 and "the report cannot be written" in result["error"]
        assert {path.name for path in tmp_path.iterdir()} == {"calibration_data", "page.html"}

    def test_interrupted(self, calibration_dir, run, monkeypatch):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(survey, "survey", interrupt)
        assert run(calibration_dir)[0] == 130


def test_a_file_that_is_replaced_meanwhile_is_not_counted(calibration_dir, contract):
    def progress(files):
        files[3].unlink()
        return files

    found = survey.survey(calibration_dir, contract, progress)
    assert len(found.files) == 103 and not found.unusable


def test_progress_is_shown_on_a_terminal_only(calibration_dir):
    command = [sys.executable, "-m", "tractor_calibration", "check", str(calibration_dir)]
    piped = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert piped.returncode == 0
    assert re.fullmatch(r"INFO: parameters: /.+/config/sac_rover.yaml\n", piped.stderr)
    assert piped.stdout.startswith(f"{calibration_dir}: FAIR\n")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=theirs, timeout=60)
    os.set_blocking(ours, False)
    shown = os.read(ours, 10_000)
    os.close(theirs)
    os.close(ours)
    assert b"checking" in shown


@pytest.mark.slow
def test_memory_does_not_grow_with_the_samples(tmp_path, contract, frames):
    peaks_mb = []
    for count in (200, 2000):
        folder = write(tmp_path / str(count), contract, frames(count))
        done, peak_mb = limited(folder, "--json")
        assert json.loads(done.stdout)["usable"] == count
        peaks_mb.append(peak_mb)
    assert peaks_mb[1] < 150
    # A grid is 131 kB: none of 1800 more stays in memory.
    assert peaks_mb[1] - peaks_mb[0] < 20


@pytest.mark.parametrize("name", ["absent", "x" * 300, "b/" * 3000, "file"])
def test_what_is_no_folder_holds_no_samples(run, tmp_path, name):
    (tmp_path / "file").write_text("")
    code, result = run(tmp_path / name)
    assert code == check.NO_SAMPLES and "No calibration samples found" in result["error"]


def test_a_folder_that_cannot_be_listed_is_named(run, tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(samples.os, "listdir", refuse)
    code, result = run(tmp_path)
    assert code == check.NO_SAMPLES and "expected permission, found none" in result["error"]


def test_samples_that_lie_one_folder_below_are_pointed_to(run, tmp_path):
    (tmp_path / "calibration_data").mkdir()
    (tmp_path / "calibration_data" / "calib_1.npz").write_bytes(b"")
    _, result = run(tmp_path)
    assert f"there are some in {tmp_path}/calibration_data: name that folder" in result["error"]
