"""What the suite relies on in rknn-toolkit2, tried with the real one."""

import logging
from pathlib import Path

import actor_factory
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tractor_core.contract import normalize
from tractor_core.errors import ModelError
from tractor_inference.model import rknn_toolkit

pytestmark = pytest.mark.toolkit


@pytest.fixture(scope="module")
def frames():
    return actor_factory.make_samples(12)


@pytest.fixture(scope="module", autouse=True)
def toolkit():
    pytest.importorskip("rknn.api", reason="rknn-toolkit2 is not installed")


def answers(rknn, frames, contract):
    return np.concatenate(
        [
            rknn_toolkit.simulate(rknn, f.bev[None], normalize(contract, f.proprio)[None])
            for f in frames
        ]
    )


def references(model, frames, contract):
    return np.concatenate(
        [
            actor_factory.onnx_answer(model, f.bev[None], normalize(contract, f.proprio)[None])
            for f in frames
        ]
    )


def test_dataset_holds_what_the_network_is_fed(tmp_path, contract, frames):
    dataset = rknn_toolkit.write_dataset(frames[:3], contract, tmp_path / "new" / "rknn_dataset")
    assert dataset.read_text().splitlines() == [f"bev_{i}.npy proprio_{i}.npy" for i in range(3)]
    for i, frame in enumerate(frames[:3]):
        bev = np.load(dataset.parent / f"bev_{i}.npy")
        proprio = np.load(dataset.parent / f"proprio_{i}.npy")
        assert bev.dtype == proprio.dtype == np.float32
        assert np.array_equal(bev, frame.bev[None])
        assert np.array_equal(proprio, normalize(contract, frame.proprio)[None])


@pytest.mark.parametrize("order", [("bev", "proprio"), ("proprio", "bev")])
@pytest.mark.parametrize(("precision", "mean_error"), [("fp16", 2e-3), ("int8", 0.02)])
def test_builds_follow_onnxruntime_whatever_the_order_of_the_inputs(
    tmp_path, contract, frames, order, precision, mean_error, capfd
):
    folder = tmp_path / "with space"
    folder.mkdir()
    model = actor_factory.make_actor(input_order=order)
    onnx.save(model, folder / "actor.onnx")
    dataset = rknn_toolkit.write_dataset(frames, contract, folder) if precision == "int8" else None
    rknn = rknn_toolkit.build(folder / "actor.onnx", contract, target="rk3588", dataset=dataset)
    rknn_toolkit.export(rknn, folder / "actor.rknn")
    rknn_toolkit.start_simulator(rknn)
    found = answers(rknn, frames, contract)
    again = answers(rknn, frames, contract)
    rknn_toolkit.release(rknn)
    assert np.array_equal(found, again)
    assert np.abs(found - references(model, frames, contract)).mean() < mean_error
    size = (folder / "actor.rknn").stat().st_size
    assert size < 0.35 * (folder / "actor.onnx").stat().st_size or precision == "fp16"
    assert capfd.readouterr().out == ""


def test_exports_never_overwrite(tmp_path, contract, actor_onnx):
    rknn = rknn_toolkit.build(actor_onnx, contract, target="rk3588", dataset=None)
    path = tmp_path / "model.rknn"
    path.write_bytes(b"precious")
    with pytest.raises(ModelError, match="expected no such file"):
        rknn_toolkit.export(rknn, path)
    assert path.read_bytes() == b"precious"
    with pytest.raises(ModelError, match="export_rknn"):
        rknn_toolkit.export(rknn, tmp_path / "no" / "folder.rknn")
    rknn_toolkit.release(rknn)


@pytest.mark.parametrize(
    ("target", "dataset", "message"),
    [
        ("rk9999", None, "config: .*rk9999"),
        ("rk3588", "absent/dataset.txt", "build: expected return code 0, found -1"),
        ("rk3588", "empty.txt", "build: "),
        ("rk3588", "names_nothing.txt", "build: "),
    ],
)
def test_refusals_of_the_toolkit_are_errors(
    tmp_path, contract, actor_onnx, target, dataset, message
):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "names_nothing.txt").write_text("bev_0.npy proprio_0.npy\n")
    with pytest.raises(ModelError, match=message):
        rknn_toolkit.build(
            actor_onnx, contract, target=target, dataset=dataset and tmp_path / dataset
        )


def test_damaged_onnx_is_an_error(tmp_path, contract, actor_onnx):
    damaged = tmp_path / "actor.onnx"
    damaged.write_bytes(actor_onnx.read_bytes()[:1000])
    with pytest.raises(ModelError, match="load_onnx"):
        rknn_toolkit.build(damaged, contract, target="rk3588", dataset=None)
    with pytest.raises(ModelError, match="load_onnx"):
        rknn_toolkit.build(Path("absent.onnx"), contract, target="rk3588", dataset=None)


def test_no_answer_of_the_simulator_is_an_error(contract, actor_onnx, frames):
    rknn = rknn_toolkit.build(actor_onnx, contract, target="rk3588", dataset=None)
    rknn_toolkit.start_simulator(rknn)
    # The toolkit answers float64 with None instead of an error.
    bev, proprio = frames[0].bev[None], frames[0].proprio[None]
    with pytest.raises(ModelError, match="inference: expected one output, found None"):
        rknn_toolkit.simulate(rknn, bev.astype(np.float64), proprio)
    rknn_toolkit.release(rknn)


def test_logging_of_the_process_is_left_alone(contract, actor_onnx):
    before = (list(logging.getLogger().handlers), logging.getLogger().level)
    rknn_toolkit.release(rknn_toolkit.build(actor_onnx, contract, target="rk3588", dataset=None))
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == before


class RaisingToolkit:
    def inference(self, **_):
        raise ValueError("Traceback of the toolkit\n  shape mismatch")

    def release(self):
        raise ValueError("Traceback of the toolkit\n  already gone")


def test_calls_that_raise_are_named(contract, frames, caplog):
    bev, proprio = frames[0].bev[None], frames[0].proprio[None]
    with pytest.raises(ModelError, match="rknn-toolkit2 inference: shape mismatch"):
        rknn_toolkit.simulate(RaisingToolkit(), bev, proprio)
    rknn_toolkit.release(RaisingToolkit())
    assert "rknn-toolkit2 release: already gone" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inputs", "target"),
    [
        *((n, "rk3588") for n in (3072, 3088, 4112, 4128, 8192, 8208)),
        *((n, "rk3576") for n in (6144, 6160, 6176)),
        *((n, "rk3562") for n in (6160, 6176)),
        *((n, target) for target in ("rk3566", "rk3568") for n in (6144, 6148, 6160, 16384)),
    ],
)
def test_a_wide_sum_is_split_as_the_toolkit_splits_it(inputs, target, tmp_path, monkeypatch):
    from rknn.api import RKNN

    monkeypatch.chdir(tmp_path)
    shapes = {"x": [1, inputs], "action": [1, 8]}
    x, action = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    )
    weights = numpy_helper.from_array(np.full((inputs, 8), 1e-3, np.float32), "weights")
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["action"]),
    ]
    graph = helper.make_graph(nodes, "sum", [x], [action], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, "sum.onnx")
    np.save("x.npy", np.linspace(-1, 1, inputs, dtype=np.float32)[None])
    Path("dataset.txt").write_text("x.npy\n")
    rknn = RKNN(verbose=False)
    assert rknn.config(target_platform=target) == 0
    assert rknn.load_onnx(model="sum.onnx") == 0
    assert rknn.hybrid_quantization_step1(dataset="dataset.txt") == 0
    rknn.release()
    # The toolkit's own graph, which it writes for its users to look at.
    (graph_file,) = tmp_path.glob("*.model")
    found = onnx.load(graph_file).graph
    sizes = [t for t in found.initializer if t.name.endswith("split_i1")]
    lengths = numpy_helper.to_array(sizes[0]).tolist() if sizes else [inputs]
    parts = rknn_toolkit.parts_of_sum(inputs, target)
    assert [part.stop - part.start for part in parts] == lengths
