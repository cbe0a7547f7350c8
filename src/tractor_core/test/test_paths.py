"""Which parameter file counts: one rule for nodes, commands and launch files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tractor_core

TEXT = """/**:
  ros__parameters:
    robot:
      max_linear_speed: 0.18
"""
EDITED = TEXT.replace("0.18", "0.05")
ASK = "print(paths.default_params_file())"


class Checkout:
    """A checkout with the modules that answer, and what builds of it look like."""

    def __init__(self, root):
        self.root, self.params = root, root / "config" / "sac_rover.yaml"
        self.launch = root / "launch" / "sac_rover.launch.py"
        for file, text in (
            (self.params, TEXT),
            (self.launch, "# launch\n"),
            (root / "src/tractor_bringup/package.xml", "<package/>"),
            (root / "src/tractor_bringup/scripts/start_sac_rover.sh", "# start\n"),
        ):
            file.parent.mkdir(parents=True)
            file.write_text(text)
        self.code = root / "src/tractor_core"
        package = Path(tractor_core.__file__).parent
        (self.code / "tractor_core").mkdir(parents=True)
        for name in ("__init__", "errors", "outside", "parameters", "paths"):
            shutil.copy(package / f"{name}.py", self.code / "tractor_core")

    def install(self, prefix, link=False, record=True):
        """Do what colcon build does, by copying or with --symlink-install."""
        share = prefix / "share/tractor_bringup"
        for source, folder in (
            (self.params, share / "config"),
            (self.launch, share / "launch"),
            (self.root / "src/tractor_bringup/scripts/start_sac_rover.sh",
             prefix / "lib/tractor_bringup"),
        ):  # fmt: skip
            folder.mkdir(parents=True)
            if link:
                (folder / source.name).symlink_to(source)
            else:
                shutil.copy(source, folder)
        if record and not link:
            relative = os.path.relpath(self.root, prefix)
            (share / "checkout.txt").write_text(f"{self.root}\n{relative}\n")
        return prefix


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path / "checkout")


def ask(code, *prefixes, question=ASK):
    # The tests' own .venv is in a checkout too.
    program = f"import sys; sys.prefix = '/usr'\nfrom tractor_core import paths\n{question}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(code), "AMENT_PREFIX_PATH": os.pathsep.join(map(str, prefixes))},
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() or done.stderr.rpartition("Error: ")[2]


def test_without_a_workspace_the_checkout_counts(checkout):
    assert ask(checkout.code) == str(checkout.params)


@pytest.mark.parametrize("link", [False, True], ids=["copied", "linked"])
def test_the_checkout_is_named_while_both_say_the_same(checkout, tmp_path, link):
    prefix = checkout.install(tmp_path / "install/tractor_bringup", link)
    assert ask(checkout.code, prefix) == str(checkout.params)


def test_an_edit_counts_at_once_where_the_workspace_links(checkout, tmp_path):
    prefix = checkout.install(tmp_path / "install/tractor_bringup", link=True)
    checkout.params.write_text(EDITED)
    assert ask(checkout.code, prefix) == str(checkout.params)


@pytest.mark.parametrize("merged", [False, True], ids=["isolated", "merged"])
@pytest.mark.parametrize("of_install", [False, True], ids=["code of checkout", "installed code"])
def test_an_edit_that_a_copied_workspace_lacks_is_refused(checkout, tmp_path, merged, of_install):
    prefix = checkout.install(tmp_path / ("install" if merged else "install/tractor_bringup"))
    code = checkout.code
    if of_install:
        code = tmp_path / "install/tractor_core/lib/python3/site-packages"
        shutil.copytree(checkout.code, code)
    checkout.params.write_text(EDITED)
    answer = ask(code, prefix)
    assert f"two that differ: {checkout.params} and {prefix}/share/tractor_bringup" in answer
    assert "robot.max_linear_speed of /**: 0.05 and 0.18" in answer
    assert f"run make build in {checkout.root}" in answer
    assert "--params FILE" in answer


def test_an_edited_comment_is_no_difference(checkout, tmp_path):
    prefix = checkout.install(tmp_path / "install/tractor_bringup")
    checkout.params.write_text(f"# mine\n{TEXT}")
    assert ask(checkout.code, prefix) == str(checkout.params)


@pytest.mark.parametrize("text", ["[", "/**: 3", ""])
def test_an_edit_that_is_no_parameter_file_is_refused(checkout, tmp_path, text):
    prefix = checkout.install(tmp_path / "install/tractor_bringup")
    checkout.params.write_text(text)
    answer = ask(checkout.code, prefix)
    assert f"two that differ: {checkout.params}" in answer


def test_an_install_without_its_checkout_counts(checkout, tmp_path):
    prefix = checkout.install(tmp_path / "rover/install/tractor_bringup")
    code = tmp_path / "rover/install/tractor_core/lib/python3/site-packages"
    shutil.copytree(checkout.code, code)
    shutil.rmtree(checkout.root)
    assert ask(code, prefix) == str(prefix / "share/tractor_bringup/config/sac_rover.yaml")


def test_a_workspace_that_was_moved_with_its_checkout_is_compared(checkout, tmp_path):
    checkout.install(checkout.root / "install/tractor_bringup")
    moved = checkout.root.rename(tmp_path / "moved")
    (moved / "config/sac_rover.yaml").write_text(EDITED)
    code = moved / "install/tractor_core/lib/python3/site-packages"
    shutil.copytree(moved / "src/tractor_core", code)
    answer = ask(code, moved / "install/tractor_bringup")
    assert f"two that differ: {moved}/config/sac_rover.yaml" in answer


def test_a_linking_workspace_that_was_copied_is_named(checkout, tmp_path):
    prefix = checkout.install(tmp_path / "install/tractor_bringup", link=True)
    code = tmp_path / "install/tractor_core/lib/python3/site-packages"
    shutil.copytree(checkout.code, code)
    shutil.rmtree(checkout.root)
    answer = ask(code, prefix)
    assert f"a link to {checkout.params} which is not there" in answer


def test_the_workspace_of_another_checkout_is_refused_where_they_differ(checkout, tmp_path):
    other = Checkout(tmp_path / "other")
    prefix = other.install(tmp_path / "install/tractor_bringup", link=True)
    assert ask(checkout.code, prefix) == str(checkout.params)
    checkout.params.write_text(EDITED)
    answer = ask(checkout.code, prefix)
    assert f"two that differ: {checkout.params} and {other.params}" in answer
    assert "Two checkouts are in use" in answer


def test_of_overlaid_workspaces_the_first_counts(checkout, tmp_path):
    over = checkout.install(tmp_path / "over", link=True)
    other = Checkout(tmp_path / "other")
    other.params.write_text(EDITED)
    assert ask(checkout.code, over, other.install(tmp_path / "under")) == str(checkout.params)


def test_a_prefix_that_is_gone_is_passed_over(checkout, tmp_path):
    assert ask(checkout.code, tmp_path / "gone") == str(checkout.params)


def test_older_copies_of_launch_files_and_scripts_are_named(checkout, tmp_path):
    prefix = checkout.install(tmp_path / "install/tractor_bringup")
    installed = prefix / "share/tractor_bringup/launch/sac_rover.launch.py"
    question = (
        f"import pathlib; paths.require_current(pathlib.Path({str(installed)!r})); print('ok')"
    )
    assert ask(checkout.code, prefix, question=question) == "ok"
    checkout.launch.write_text("# edited\n")
    answer = ask(checkout.code, prefix, question=question)
    assert f"{installed} is an older copy of {checkout.launch}" in answer
    assert f"run make build in {checkout.root}" in answer
