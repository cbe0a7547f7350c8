"""Names and texts of others reach terminals, logs and pages as text, and end no finished work."""

import html.parser
import json
import os
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tractor_calibration import check, harvest, models
from tractor_calibration.pages import page as pages
from tractor_core import samples
from tractor_core.text import printable

# Any name that Linux takes, as Python sees it: surrogates are bytes that are no UTF-8.
NAMES = st.binary(min_size=1, max_size=40).map(
    lambda name: os.fsdecode(name.replace(b"/", b"_").replace(b"\0", b"_"))
)
TEXTS = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)
HOSTILE = ["a\x1b[2J", "b\nERROR: c", "c\udce9", "d\u202e", "e\x9b1m", "ü漢", "\r", "<b>&\x00"]
QUICK = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def assert_harmless(text):
    text.encode("utf-8")
    controls = {c for c in text.replace("\n", "") if unicodedata.category(c) in ("Cc", "Cf", "Cs")}
    assert not controls


@pytest.fixture
def run(capsys, caplog):
    """Run a command in this process; return its exit code and standard output."""

    def run(command, *arguments):
        code = command.main([*map(str, arguments)])
        return code, capsys.readouterr().out

    return run


@QUICK
@given(names=st.lists(NAMES, max_size=4))
def test_check_of_files_of_any_name(tmp_path_factory, run, names):
    folder = tmp_path_factory.mktemp("samples")
    page = folder.parent / f"{folder.name}.html"
    for name in {*names, *(name.replace("\0", "") for name in HOSTILE)}:
        (folder / f"{name[:20]}.npz".replace("/", "_")).write_bytes(b"no sample")
    code, shown = run(check, folder, "--html", page)
    assert code == check.NO_SAMPLES
    assert_harmless(shown)
    assert "ERROR: c" not in [line.strip() for line in shown.splitlines()]
    code, shown = run(check, folder, "--json")
    assert {os.fsencode(name) for name in json.loads(shown)["unusable"]} == {
        os.fsencode(file.name) for file in samples.list_files(folder)
    }


@QUICK
@given(created=TEXTS, target=TEXTS, version=NAMES)
def test_models_of_any_version_and_manifest(versioned, run, created, target, version):
    stray = versioned / "versions" / version[:20]
    if version not in (".", "..") and not os.path.lexists(stray):
        stray.mkdir()
    path = next(versioned.glob("versions/other.*/other.json"))
    record = json.loads(path.read_text())
    record["created"] = created
    record["model"]["target"] = target
    path.chmod(0o644)
    path.write_text(json.dumps(record))
    code, shown = run(models, "list", "--models-dir", versioned)
    assert code == 0
    assert_harmless(shown)
    lines = len(shown.splitlines())
    broken = sum("broken" in row for row in json.loads(
        run(models, "list", "--models-dir", versioned, "--json")[1])["versions"])  # fmt: skip
    assert lines == 2 + len(os.listdir(versioned / "versions")) + broken + 2


@pytest.mark.parametrize("name", [n for n in HOSTILE if "\0" not in n and "\x00" not in n])
def test_harvest_of_a_folder_of_any_name(tmp_path, run, caplog, params_file, name):
    bag = tmp_path / name
    bag.mkdir()
    (bag / "a.db3").write_bytes(b"no database")
    code, shown = run(harvest, bag, "--out", tmp_path / "out", "--params", params_file)
    assert code == harvest.NOTHING
    assert_harmless(shown)


class _Texts(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.texts = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


# What a report of each kind does with texts of others, without its plots.
PAGE = """{% extends "tractor_calibration/pages/base.html" %}
{% import "tractor_calibration/pages/parts.html" as parts %}
{% block body %}{{ parts.table([text], [[text]]) }}{{ parts.list([text]) }}{% endblock %}"""


@given(TEXTS)
def test_a_page_shows_any_text_as_text(text):
    template = pages.environment().from_string(PAGE)
    page = template.render(title=text, tone=text, verdict=text, text=text)
    page.encode("utf-8")
    parser = _Texts()
    parser.feed(page)
    assert parser.tags == [
        "html", "head", "meta", "meta", "title", "style", "body", "h1", "p",
        "div", "table", "tr", "th", "tr", "td", "ul", "li",
    ]  # fmt: skip
    shown = "".join(parser.texts)
    assert_harmless(shown)
    assert text == "" or shown.count(printable(text)) >= 6


ASCII = {"PYTHONIOENCODING": "ascii"}
POSIX = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.parametrize("environment", [ASCII, POSIX, {"LANG": "C"}], ids=["ascii", "POSIX", "C"])
def test_a_terminal_that_lacks_a_letter_gets_the_result_all_the_same(
    tmp_path, contract, versioned, environment
):
    folder = tmp_path / "prüfung_漢"
    sample = samples.Sample(
        np.zeros(contract.bev_shape, np.float32), np.array([2.0, 0, 0, 0, 0, 0], np.float32), 1
    )
    samples.write(folder, sample, contract)
    (folder / "é\udce9.npz").touch()
    versioned = versioned.rename(tmp_path / "modèles")
    for command, code in (
        (["check", folder], 1),
        (["check", folder, "--json"], 1),
        (["models", "list", "--models-dir", versioned], 0),
        (["models", "rollback", "--models-dir", versioned], 0),
        (["harvest", folder / "ü", "--out", folder], 4),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "tractor_calibration", *command],
            capture_output=True, env=os.environ | environment, timeout=60,
        )  # fmt: skip
        assert b"Traceback" not in done.stderr and b"Error" not in done.stderr, done.stderr
        assert done.returncode == code
