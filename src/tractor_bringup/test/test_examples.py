"""The examples run as their first lines say, and stay short."""

import subprocess
import sys

import pytest

from tractor_core import list_samples
from tractor_inference.model.onnx import model as onnx_model

MOST_LINES = 40


@pytest.fixture
def run(repository):
    """Return a function that runs an example and returns what it printed."""

    def example(name, *arguments):
        command = [sys.executable, repository / "examples" / f"{name}.py", *arguments]
        done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return example


@pytest.fixture
def folder(tmp_path, contract):
    import actor_factory

    actor_factory.write_samples(tmp_path, contract, 3)
    return tmp_path


def test_samples_are_read_and_bad_ones_named(run, folder):
    (folder / "calib_9.npz").write_bytes(b"")
    lines = run("read_sample", folder)
    assert len(lines) == 4 and all("cells of the LiDAR" in line for line in lines[:3])
    assert "calib_9.npz" in lines[3]


def test_an_actor_answers_samples(run, repository, folder):
    lines = run("run_actor", repository / "models/sac_actor_reference.onnx", folder)
    assert [line.split(":")[0] for line in lines] == [file.name for file in list_samples(folder)]
    assert all("m/s" in line for line in lines)


@pytest.mark.slow
def test_an_exported_actor_is_one_of_the_contract(run, tmp_path, contract):
    run("export_onnx", tmp_path / "actor.onnx")
    assert onnx_model.inspect(tmp_path / "actor.onnx", contract).output == (1, 2)


def test_a_backend_of_ones_own_drives(run):
    assert [line.split(":")[0] for line in run("custom_backend")] == ["4.0 m", "2.0 m", "0.4 m"]


def test_the_examples_are_short_and_all_tried(repository):
    for file in (repository / "examples").glob("*.py"):
        text = file.read_text()
        assert len(text.splitlines()) < MOST_LINES
        assert (
            f'"{file.stem}"'
            in (repository / "src/tractor_bringup/test/test_examples.py").read_text()
        )


def test_the_picture_of_the_axes_is_drawn_where_the_contract_says(repository, tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import figures; from pathlib import Path\n"
        "figures.axes_picture(Path(sys.argv[2]))"
    )
    picture = tmp_path / "axes.png"
    command = [sys.executable, "-c", code, repository / "docs", picture]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert picture.stat().st_size > 10_000
