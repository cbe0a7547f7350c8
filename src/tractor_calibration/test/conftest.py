"""Shared makers of these tests: a small actor in ONNX and folders of calibration samples."""

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tractor_core import samples
from tractor_core.contract import Contract
from tractor_core.samples import Sample

# Enough, and different enough, to be graded fair.
SAMPLES, DIFFERENT_FRAMES = 104, 52


def write_actor(path: Path, gain: float = 0.3, scale: float = 1.0) -> Path:
    """Write a small actor with random weights.

    `gain` widens the actions before tanh, `scale` multiplies them after it.
    """
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = []

    def weight(name: str, *shape: int, gain: float = 2.0) -> str:
        fan_in = int(np.prod(shape[1:]))
        values = rng.normal(0.0, np.sqrt(gain / fan_in), shape).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    weights.append(numpy_helper.from_array(np.float32(scale), "scale"))
    conv = dict(kernel_shape=[4, 4], strides=[4, 4])
    nodes = [
        helper.make_node("Conv", ["bev", weight("c1", 8, 2, 4, 4)], ["h1"], **conv),
        helper.make_node("Relu", ["h1"], ["r1"]),
        helper.make_node("Conv", ["r1", weight("c2", 8, 8, 4, 4)], ["h2"], **conv),
        helper.make_node("Relu", ["h2"], ["r2"]),
        helper.make_node("Flatten", ["r2"], ["flat"]),
        helper.make_node("Gemm", ["flat", weight("w1", 16, 512, gain=20.0)], ["f1"], transB=1),
        helper.make_node("Gemm", ["proprio", weight("w2", 16, 6)], ["f2"], transB=1),
        helper.make_node("Concat", ["f1", "f2"], ["joined"], axis=1),
        helper.make_node("Relu", ["joined"], ["r3"]),
        helper.make_node("Gemm", ["r3", weight("w3", 2, 32, gain=gain)], ["f3"], transB=1),
        helper.make_node("Tanh", ["f3"], ["bounded"]),
        helper.make_node("Mul", ["bounded", "scale"], ["action"]),
    ]
    graph = helper.make_graph(
        nodes,
        "actor",
        [
            helper.make_tensor_value_info("bev", TensorProto.FLOAT, [1, 2, 128, 128]),
            helper.make_tensor_value_info("proprio", TensorProto.FLOAT, [1, 6]),
        ],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, [1, 2])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


def edit_actor(path: Path, fault: str) -> Path:
    """Write the small actor with more nodes before its output.

    `hidden nan` computes a NaN inside and answers numbers, `misfit` fails while it runs, `empty`
    holds a tensor without elements.
    """
    write_actor(path)
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    node = helper.make_node
    zero = numpy_helper.from_array(np.zeros((1, 1), np.float32))
    pair = numpy_helper.from_array(np.zeros((1, 2), np.float32))
    nothing = numpy_helper.from_array(np.zeros(0, np.float32))
    added = {
        "hidden nan": [
            node("Abs", ["bounded"], ["size"]),
            node("Neg", ["size"], ["negative"]),
            node("Sqrt", ["negative"], ["root"]),
            node("IsNaN", ["root"], ["is_nan"]),
            node("Constant", [], ["zero"], value=zero),
            node("Where", ["is_nan", "zero", "zero"], ["healed"]),
            node("Add", ["bounded", "healed"], ["action"]),
        ],
        "misfit": [
            node("Constant", [], ["table"], value=pair),
            node("ReduceMax", ["proprio"], ["value"], keepdims=0),
            node("Cast", ["value"], ["number"], to=TensorProto.INT64),
            node("Gather", ["table", "number"], ["row"]),
            node("Add", ["bounded", "row"], ["action"]),
        ],
        "empty": [
            node("Constant", [], ["nothing"], value=nothing),
            node("Mul", ["bounded", "scale"], ["action"]),
        ],
    }
    model = onnx.load(path)
    del model.graph.node[-1]
    model.graph.node.extend(added[fault])
    onnx.save(model, path)
    return path


def make_frame(rng: np.random.Generator, stamp_ns: int = 0) -> Sample:
    """Draw one observation: a few walls in each channel, proprioception in its raw ranges."""
    bev = np.zeros((2, 128, 128), np.float32)
    for channel in bev:
        for _ in range(rng.integers(1, 5)):
            row, col = rng.integers(4, 96, 2)
            channel[row : row + rng.integers(2, 30), col : col + rng.integers(2, 30)] = 1.0
    low = np.array([0.0, -1.0, -1.0, -0.2, -1.0, -1.0])
    high = np.array([4.0, 1.0, 1.0, 0.2, 1.0, 1.0])
    return Sample(bev, rng.uniform(low, high).astype(np.float32), stamp_ns)


def write_samples(folder: Path, contract: Contract, count: int, seed: int = 0) -> Path:
    """Write `count` samples, 0.4 s apart.

    Frames come again, so that those held out are like those that calibrate and INT8 passes.
    """
    for i in range(count):
        rng = np.random.default_rng([seed, i % DIFFERENT_FRAMES])
        samples.write(folder, make_frame(rng, (i + 1) * 400_000_000), contract)
    return folder


@pytest.fixture(autouse=True)
def toolkit_installed(request: pytest.FixtureRequest) -> None:
    wanted = request.node.get_closest_marker("toolkit")
    if wanted and importlib.util.find_spec("rknn") is None:
        pytest.skip("rknn-toolkit2 is not installed")


@pytest.fixture(autouse=True)
def logs_and_reports_of_failures(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let what a failed conversion leaves to be read lie in a folder of the test's own."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))


@pytest.fixture(scope="session")
def frame_maker() -> Callable[..., Sample]:
    return make_frame


@pytest.fixture(scope="session")
def actor_writer() -> Callable[..., Path]:
    return write_actor


@pytest.fixture(scope="session")
def actor_editor() -> Callable[..., Path]:
    return edit_actor


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A models folder with an actor, and an older model that must never be lost."""
    folder = tmp_path / "models"
    folder.mkdir()
    write_actor(folder / "actor.onnx")
    (folder / "actor.rknn").write_bytes(b"the older model")
    (folder / "actor.json").write_text('{"older": true}')
    (folder / "remote_trained.rknn").symlink_to("actor.rknn")
    return folder


@pytest.fixture(scope="session")
def written_samples(tmp_path_factory: pytest.TempPathFactory, contract: Contract) -> Path:
    return write_samples(tmp_path_factory.mktemp("samples"), contract, SAMPLES)


@pytest.fixture
def calibration_dir(tmp_path: Path, written_samples: Path) -> Path:
    return shutil.copytree(written_samples, tmp_path / "calibration_data")


@pytest.fixture(scope="session")
def model_stager(
    tmp_path_factory: pytest.TempPathFactory, contract: Contract
) -> Callable[..., list[Path]]:
    """Write the files of a model, with a manifest that a reader accepts, as a conversion does."""
    import actor_factory

    folder = tmp_path_factory.mktemp("manifest")
    (folder / "actor.rknn").write_bytes(b"a model")
    onnx = write_actor(folder / "actor.onnx")
    actor_factory.write_manifest(folder / "actor.rknn", onnx, contract, [])
    template = json.loads((folder / "actor.json").read_text())
    template["onnx"]["file"] = "../../actor.onnx"

    def stage(work: Path, content: bytes = b"new model", stem: str = "actor") -> list[Path]:
        model = {"file": f"{stem}.rknn", "bytes": len(content)}
        model["sha256"] = hashlib.sha256(content).hexdigest()
        record = template | {"model": template["model"] | model}
        record["validation"] = {"fp16": {"mae": 0.00014, "sqnr_db": 70.1}}
        texts = {
            ".json": json.dumps(record).encode(), ".report.html": b"page", ".rknn": content
        }  # fmt: skip
        for suffix, text in texts.items():
            (work / f"{stem}{suffix}").write_bytes(text)
        return [work / f"{stem}{suffix}" for suffix in texts]

    return stage


@pytest.fixture
def versioned(tmp_path: Path, model_stager: Callable[..., list[Path]]) -> Path:
    """A models folder where actor drives in its second version, after other and its first."""
    from tractor_calibration.store import promotion

    folder = tmp_path / "versioned"
    folder.mkdir()
    for stamp, stem, content in (
        ("20250101T000000Z", "actor", b"first"),
        ("20250102T000000Z", "other", b"other"),
        ("20250103T000000Z", "actor", b"second"),
    ):
        with promotion.workspace(folder) as work:
            promotion.publish(model_stager(work, content, stem), stamp)
    return folder


@pytest.fixture
def no_jinja2(monkeypatch):
    """As where Jinja2 is not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "jinja2" else find(name)
    )
