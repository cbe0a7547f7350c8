"""One set of cases over every backend, then what is each one's own."""

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import actor_factory
import numpy as np
import onnx
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tractor_core import reference_observations
from tractor_core.contract import normalize
from tractor_core.errors import ContractError, ModelError, ParameterError
from tractor_core.packed import PackedSamples
from tractor_core.paths import config_file
from tractor_inference.model import backends, manifest, rknn_toolkit, vendor
from tractor_inference.model.backends import open_backend, rknn
from tractor_inference.model.backends.fake import FakeBackend
from tractor_inference.model.onnx import inspection
from tractor_inference.model.onnx import model as onnx_model
from tractor_inference.model.onnx import session as onnx_session
from tractor_inference.model.simulator import Simulator

KINDS = ["onnx", "rknn", "fake", pytest.param("rknn_sim", marks=pytest.mark.toolkit)]
# Mean difference from onnxruntime: INT8 rounds, the others differ by summation order at most.
MEAN_ERROR = {"onnx": 1e-6, "rknn": 1e-6, "rknn_sim": 0.02}
MODEL_FIXTURE = {"onnx": "actor_onnx", "rknn": "board_model", "rknn_sim": "int8_model"}


@pytest.fixture(scope="session")
def observations(contract):
    """Frames the INT8 model was calibrated with, so that rounding is its only error."""
    return [
        (sample.bev[None], normalize(contract, sample.proprio)[None])
        for sample in actor_factory.make_samples(12)
    ]


@pytest.fixture(scope="session")
def simulator(int8_model, contract):
    backend = open_backend("rknn_sim", int8_model, contract)
    yield backend
    backend.close()


@pytest.fixture(params=KINDS)
def backend(request, contract):
    """An open backend of each kind."""
    if request.param == "rknn_sim":
        yield request.getfixturevalue("simulator")
        return
    if request.param == "rknn":
        request.getfixturevalue("board")
    fixture = MODEL_FIXTURE.get(request.param)
    model = request.getfixturevalue(fixture) if fixture else Path("not read")
    opened = open_backend(request.param, model, contract)
    yield opened
    opened.close()


def test_answers_one_float32_action_in_range(backend, observations):
    for bev, proprio in observations:
        action = backend.infer(bev, proprio)
        assert action.shape == (1, 2) and action.dtype == np.float32
        assert np.isfinite(action).all() and np.abs(action).max() <= 1.0


def test_equal_observations_get_equal_actions_and_stay_as_they_are(backend, observations):
    bev, proprio = (array.copy() for array in observations[0])
    first = backend.infer(bev, proprio).copy()
    backend.infer(*observations[1])
    assert np.array_equal(backend.infer(bev, proprio), first)
    assert np.array_equal(bev, observations[0][0]) and np.array_equal(proprio, observations[0][1])


def bad_inputs():
    bev, proprio = np.zeros((1, 2, 128, 128), np.float32), np.zeros((1, 6), np.float32)
    nan, inf = bev.copy(), proprio.copy()
    nan[0, 1, 5, 5], inf[0, 3] = np.nan, -np.inf
    return [
        pytest.param(nan, proprio, "bev: expected finite values, found 1 NaN or Inf", id="nan"),
        pytest.param(bev, inf, "proprio: expected finite values, found 1 NaN", id="inf"),
        pytest.param(
            bev.transpose(0, 2, 3, 1),
            proprio,
            r"bev: expected float32 \(1, 2, 128, 128\), found float32 \(1, 128, 128, 2\)",
            id="nhwc",
        ),
        pytest.param(bev[0], proprio, r"found float32 \(2, 128, 128\)", id="no batch"),
        pytest.param(bev, proprio[0], r"expected float32 \(1, 6\), found float32 \(6,\)", id="6"),
        pytest.param(bev.astype(np.float64), proprio, "found float64", id="float64"),
        pytest.param(bev.astype(np.float16), proprio, "found float16", id="float16"),
        pytest.param(bev, proprio.tolist(), "numpy array, found list", id="list"),
        pytest.param(nan, inf, "bev: (.|\n)*proprio: ", id="both are named"),
    ]


@pytest.mark.parametrize(("bev", "proprio", "message"), bad_inputs())
def test_bad_input_is_refused_with_expected_and_found(backend, bev, proprio, message):
    with pytest.raises(ContractError, match=message):
        backend.infer(bev, proprio)


@pytest.mark.parametrize("backend", ["onnx", "rknn", KINDS[-1]], indirect=True)
def test_layout_reaches_the_network_as_it_was_given(backend, observations, actor_onnx):
    readings = {
        "as given": lambda bev: bev,
        "channels swapped": lambda bev: bev[:, ::-1],
        "rows and columns swapped": lambda bev: bev.transpose(0, 1, 3, 2),
        "memory read as NHWC": lambda bev: bev.reshape(1, 128, 128, 2).transpose(0, 3, 1, 2),
    }
    errors = dict.fromkeys(readings, 0.0)
    for bev, proprio in observations:
        answer = backend.infer(bev, proprio)
        for name, read in readings.items():
            reference = actor_factory.onnx_answer(actor_onnx, read(bev), proprio)
            errors[name] += np.abs(answer - reference).mean() / len(observations)
    error = errors.pop("as given")
    assert error < MEAN_ERROR[backend.name]
    assert min(errors.values()) > 4.0 * MEAN_ERROR[backend.name], errors


def test_a_model_says_how_much_noise_it_asks_for(board, board_model, contract):
    """Of an .onnx the file says it, see test_inspection; of an .rknn its manifest."""
    for scale in (None, 0.25):
        record = dataclasses.replace(manifest.read(board_model), exploration_scale=scale)
        manifest.write(record, manifest.path_of(board_model))
        with contextlib.closing(open_backend("rknn", board_model, contract)) as opened:
            assert opened.exploration_scale == scale


def test_a_grid_viewed_in_a_message_is_read_like_its_copy(backend, observations):
    bev, proprio = observations[2]
    view = np.ascontiguousarray(bev.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert not view.flags.c_contiguous
    assert np.array_equal(backend.infer(view, proprio), backend.infer(bev, proprio))


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_backend_says_so_and_closes_again(request, kind, contract, observations):
    if kind == "rknn":
        request.getfixturevalue("board")
    fixture = MODEL_FIXTURE.get(kind)
    model = request.getfixturevalue(fixture) if fixture else Path("not read")
    backend = open_backend(kind, model, contract)
    backend.close()
    backend.close()
    with pytest.raises(ModelError, match=f"backend {kind}: it is closed"):
        backend.infer(*observations[0])


# --- choosing


def test_auto_picks_by_suffix_and_says_which(actor_onnx, contract, caplog):
    with caplog.at_level(logging.INFO):
        assert open_backend("auto", actor_onnx, contract).name == "onnx"
    assert f"chose onnx for {actor_onnx}" in caplog.text


def test_auto_runs_an_rknn_on_the_npu_where_there_is_one(board, board_model, contract, caplog):
    link = board_model.parent / "remote_trained.rknn"
    link.symlink_to(board_model.name)
    with caplog.at_level(logging.INFO):
        assert open_backend("auto", link, contract).name == "rknn"
    assert "chose rknn" in caplog.text
    assert "API version: 2.5.0 (fake) DRV version: 0.9.8" in caplog.text


def test_without_rknnlite_an_rknn_is_refused_and_the_simulator_named(board_model, contract):
    with pytest.raises(ModelError, match="rknn-toolkit-lite2 is not installed") as caught:
        open_backend("rknn", board_model, contract)
    assert "rknn_sim" in str(caught.value)


def machine(monkeypatch, tmp_path, toolkit, board=b""):
    """A machine without rknnlite, with or without the toolkit, and a board's names."""
    device_tree = tmp_path / "compatible"
    device_tree.write_bytes(board)
    monkeypatch.setattr(rknn, "DEVICE_TREE", device_tree)
    there = {"rknn": object() if toolkit else None, "rknnlite": None}
    monkeypatch.setattr(backends.importlib.util, "find_spec", there.get)


def test_a_board_without_its_binding_never_drives_in_the_simulator(
    board_model, contract, tmp_path, monkeypatch
):
    machine(monkeypatch, tmp_path, toolkit=True, board=b"radxa,rock-5b\0rockchip,rk3588\0")
    with pytest.raises(
        ModelError, match=r"this board .radxa,rock-5b.*pip install rknn-toolkit-lit"
    ):
        open_backend("auto", board_model, contract)


def test_a_pc_without_the_toolkit_is_told_what_to_do(board_model, contract, tmp_path, monkeypatch):
    machine(monkeypatch, tmp_path, toolkit=False)
    with pytest.raises(ModelError, match=r"make setup installs it .*model:=FILE\.onnx"):
        open_backend("auto", board_model, contract)


def test_a_pc_that_cannot_simulate_a_model_says_what_is_missing_and_what_to_do(
    board_model, contract, tmp_path, monkeypatch
):
    machine(monkeypatch, tmp_path, toolkit=True)
    monkeypatch.setattr(rknn_toolkit, "toolkit_version", lambda: "9.9.9")
    with pytest.raises(ModelError, match=r"found 9\.9\.9") as caught:
        open_backend("auto", board_model, contract)
    for text in ("auto chose rknn_sim", "no NPU here", "convert the ONNX", "model:=FILE.onnx"):
        assert text in str(caught.value)


@pytest.mark.parametrize("kind", ["rknn", "rknn_sim"])
def test_an_onnx_for_the_npu_is_refused_with_what_to_do(kind, actor_onnx, contract):
    with pytest.raises(ModelError, match=r"expected a \.rknn .* found suffix '\.onnx'; convert"):
        open_backend(kind, actor_onnx, contract)


def test_other_kinds_and_suffixes_are_refused(board_model, contract):
    with pytest.raises(
        ModelError, match=r"expected a \.onnx file for backend onnx, found .*\.rknn"
    ):
        open_backend("onnx", board_model, contract)
    with pytest.raises(ModelError, match=r"expected an \.onnx or \.rknn file, found suffix ''"):
        open_backend("auto", Path(""), contract)
    with pytest.raises(ParameterError, match=r"expected one of auto, onnx.* found 'tpu'"):
        open_backend("tpu", board_model, contract)


# --- onnx


def write_variant(path, change):
    model = actor_factory.make_actor()
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def free_height(model):
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def batch_of_four(model):
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4


def doubles(model):
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.DOUBLE
    cast = helper.make_node("Cast", ["proprio"], ["narrow"], to=TensorProto.FLOAT)
    model.graph.node.insert(0, cast)
    next(n for n in model.graph.node if n.output[0] == "proprio0").input[0] = "narrow"


def third_input(model):
    model.graph.input.append(helper.make_tensor_value_info("goal", TensorProto.FLOAT, [1, 2]))


def action_second(model):
    model.graph.node.append(helper.make_node("Identity", ["action"], ["log_std"]))
    model.graph.output.insert(
        0, helper.make_tensor_value_info("log_std", TensorProto.FLOAT, [1, 2])
    )


def unknown_type(model):
    model.graph.input[0].type.tensor_type.elem_type = 99


def renamed_input(model):
    model.graph.input[0].name = "grid"
    model.graph.node[0].input[0] = "grid"


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (
            free_height,
            ["expected bev float [1, 2, 128, 128]", "found bev float [1, 2, 'height', 1"],
        ),
        (batch_of_four, ["found bev float [4, 2, 128, 128], proprio float [4, 6]"]),
        (doubles, ["proprio float [1, 6]; found", "proprio double [1, 6]"]),
        (third_input, ["goal float [1, 2]"]),
        (action_second, ["first output: expected action float [1, 2]; found log_std float"]),
        (unknown_type, ["not a valid ONNX file", "no name defined for value 99"]),
        (renamed_input, ["expected bev float", "found grid float [1, 2, 128, 128]"]),
    ],
)
def test_onnx_files_that_are_no_actor_are_refused(tmp_path, contract, change, messages):
    path = write_variant(tmp_path / "other.onnx", change)
    with pytest.raises(ModelError, match=r"other\.onnx: not an? (actor|valid)") as caught:
        open_backend("onnx", path, contract)
    for message in messages:
        assert message in str(caught.value)


def test_foreign_policies_are_refused_naming_their_inputs(shared_data, contract):
    files = sorted((shared_data / "foreign_onnx").glob("*.onnx"))
    assert files
    for file in files:
        with pytest.raises(ModelError, match=r"expected bev float .*; found obs float \["):
            open_backend("onnx", file, contract)


def test_damaged_and_missing_onnx_files_are_refused(tmp_path, actor_onnx, contract):
    data = actor_onnx.read_bytes()
    path = tmp_path / "actor.onnx"
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        open_backend("onnx", path, contract)
    for content, message in (
        (b"", "found 0"),
        (b"\0" * 100, "not a valid ONNX file"),
        (data[: len(data) // 2], "not a valid ONNX file"),
        (onnx.ModelProto().SerializeToString() or b"\x08\x08", "not a valid ONNX file"),
    ):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=message):
            open_backend("onnx", path, contract)
    path.unlink()
    path.mkdir()
    with pytest.raises(ModelError, match="expected a regular file, found a folder"):
        open_backend("onnx", path, contract)
    fifo = tmp_path / "pipe.onnx"
    os.mkfifo(fifo)
    with pytest.raises(ModelError, match="expected a regular file"):
        open_backend("onnx", fifo, contract)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    damage=st.lists(
        st.tuples(st.integers(0, 10_000), st.integers(0, 4), st.binary(max_size=4)),
        min_size=1,
        max_size=3,
    )
)
def test_any_damage_to_an_onnx_file_is_a_model_error_or_an_actor(tmp_path, contract, damage):
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in contract.input_shapes.items()
    ]
    output = helper.make_tensor_value_info("action", TensorProto.FLOAT, [1, 2])
    weights = numpy_helper.from_array(np.ones((6, 2), np.float32), "w")
    node = helper.make_node("MatMul", ["proprio", "w"], ["action"])
    graph = helper.make_graph([node], "small", inputs, [output], [weights])
    opset = helper.make_opsetid("", 17)
    small = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    data = bytearray(small.SerializeToString())
    for place, removed, inserted in damage:
        start = place % len(data)
        data[start : start + removed] = inserted
    path = tmp_path / "actor.onnx"
    path.write_bytes(data)
    with contextlib.suppress(ModelError):
        facts = inspection.examine(path, contract, beneath=False, sha256=None)
        assert facts.inputs == contract.input_shapes and facts.output == (1, 2)


def test_inputs_are_found_by_name_whatever_their_order(tmp_path, contract, observations):
    model = actor_factory.make_actor(input_order=("proprio", "bev"))
    path = tmp_path / "actor.onnx"
    onnx.save(model, path)
    facts = onnx_model.inspect(path, contract)
    assert facts.inputs == contract.input_shapes and facts.output == (1, 2) and facts.opset == 17
    assert facts.sha256 == manifest.sha256_file(path) and facts.data == path.read_bytes()
    backend = open_backend("onnx", path, contract)
    expected = actor_factory.onnx_answer(model, *observations[0])
    assert np.allclose(backend.infer(*observations[0]), expected, atol=1e-6)


def test_replacing_the_file_does_not_change_an_open_model(tmp_path, contract, observations):
    path = tmp_path / "actor.onnx"
    onnx.save(actor_factory.make_actor(seed=0), path)
    backend = open_backend("onnx", path, contract)
    before = backend.infer(*observations[0])
    onnx.save(actor_factory.make_actor(seed=1), path)
    assert np.array_equal(backend.infer(*observations[0]), before)


def choosy(model):
    """Choose among eight by the first proprioception: values beyond cannot be looked up."""
    nodes, table = model.graph.node, np.zeros((8, 2), np.float32)
    nodes[-1].output[0] = "bounded"
    model.graph.initializer.append(numpy_helper.from_array(table, "table"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 0]), "first"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1]), "one"))
    nodes.append(helper.make_node("Slice", ["proprio", "first", "one"], ["value"]))
    nodes.append(helper.make_node("Cast", ["value"], ["number"], to=TensorProto.INT64))
    nodes.append(helper.make_node("Gather", ["table", "number"], ["row"]))
    nodes.append(helper.make_node("Reshape", ["row", "shape"], ["flat"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2]), "shape"))
    nodes.append(helper.make_node("Add", ["bounded", "flat"], ["action"]))


def test_an_actor_that_fails_while_running_is_a_model_error(tmp_path, contract, observations):
    path = write_variant(tmp_path / "actor.onnx", choosy)
    backend = open_backend("onnx", path, contract)
    bev, proprio = observations[0]
    with pytest.raises(ModelError, match="onnxruntime cannot run the ONNX"):
        backend.infer(bev, np.full_like(proprio, 100.0))


def test_what_onnxruntime_refuses_to_open_is_named(monkeypatch):
    with pytest.raises(ModelError, match=r"mine\.onnx: onnxruntime cannot open it"):
        onnx_session.open_session(b"junk", "mine.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match="pip install onnxruntime"):
        onnx_session.open_session(b"junk")


# --- rknn


@pytest.fixture
def open_on_board(board, board_model, contract):
    return lambda: open_backend("rknn", board_model, contract)


def test_native_output_stays_off_stdout(open_on_board, capfd):
    open_on_board().close()
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "librknnrt version" in captured.err


def test_uses_of_stderr_for_stdout_that_overlap_leave_it_as_it_was(capfd):
    """The first one in is the first one out."""
    stdout, inode = sys.stdout, os.fstat(1).st_ino
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        first.enter_context(vendor.stdout_to_stderr())
        second.enter_context(vendor.stdout_to_stderr())
        first.close()
        os.write(1, b"vendor\n")
        print("vendor's Python")
    assert (sys.stdout, os.fstat(1).st_ino) == (stdout, inode)
    os.write(1, b"result\n")
    assert capfd.readouterr() == ("result\n", "vendor\nvendor's Python\n")


def test_a_machine_without_an_npu_is_told_what_it_lacks(open_on_board, board, monkeypatch):
    board.init_code = -1
    monkeypatch.setattr(rknn, "NEEDED_FILES", {Path("/nonexistent/npu"): "no driver"})
    with pytest.raises(ModelError) as caught:
        open_on_board()
    for text in (
        "init_runtime with NPU_CORE_AUTO: expected 0, found -1",
        "librknnrt of unknown version",
        "model built by rknn-toolkit2 2.5.0 for rk3588",
        "missing here: /nonexistent/npu: no driver",
        "rknn_sim",
    ):
        assert text in str(caught.value)
    assert board.released == 1


def test_an_older_runtime_is_told_to_be_replaced(open_on_board, board, monkeypatch):
    board.init_code = -1
    monkeypatch.setattr(rknn, "NEEDED_FILES", {})
    with pytest.raises(ModelError, match=r"install librknnrt 2\.5\.0 or later"):
        open_on_board()


def test_the_npu_cores_are_those_that_were_asked_for(board, board_model, contract):
    for core_mask, asked in (("auto", 0), ("0", 1), ("1", 2), ("2", 4), ("0_1", 3), ("0_1_2", 7)):
        open_backend("rknn", board_model, contract, core_mask).close()
        assert board.core_mask == asked
    with pytest.raises(ParameterError, match=r"expected one of auto, 0, .* found '1_2'"):
        open_backend("rknn", board_model, contract, "1_2")


def test_cores_that_the_board_refuses_are_named(board, board_model, contract, monkeypatch):
    board.init_code = -1
    monkeypatch.setattr(rknn, "NEEDED_FILES", {})
    with pytest.raises(ModelError, match="init_runtime with NPU_CORE_0_1: expected 0, found -1"):
        open_backend("rknn", board_model, contract, "0_1")
    with pytest.raises(ModelError, match="needs npu_core_mask auto"):
        open_backend("rknn", board_model, contract, "0_1")


@pytest.mark.parametrize(
    ("names", "platforms", "fits"),
    [
        (b"radxa,rock-5b\0rockchip,rk3588\0", ("RK3588",), True),
        (b"radxa,rock-5a\0rockchip,rk3588s\0", ("RK3588",), True),
        (b"radxa,rock-3a\0rockchip,rk3568\0", ("RK3588", "RK3566", "RK3568"), True),
        (b"pine64,quartz64-a\0rockchip,rk3566\0", ("RK3588",), False),
        (b"armsom,sige5\0rockchip,rk3576\0", ("RK3588",), False),
        (b"raspberrypi,5-model-b\0brcm,bcm2712\0", ("RK3588",), False),
    ],
)
def test_a_model_for_another_machine_is_refused_by_name(
    open_on_board, board, tmp_path, monkeypatch, names, platforms, fits
):
    tree = tmp_path / "compatible"
    tree.write_bytes(names)
    monkeypatch.setattr(rknn, "DEVICE_TREE", tree)
    board.platforms = platforms
    if fits:
        open_on_board().close()
        return
    with pytest.raises(ModelError) as caught:
        open_on_board()
    machine = names.decode().strip("\0").replace("\0", ", ")
    assert f"expected a model for this machine, {machine}, found one for rk3588" in str(
        caught.value
    )
    assert board.released == 1


def test_other_failures_to_open_release_the_board(open_on_board, board):
    board.load_code = -1
    with pytest.raises(ModelError, match="load_rknn: expected 0, found -1"):
        open_on_board()
    board.load_code = 0
    board.platforms = ("RK3566", "RK3568")
    with pytest.raises(ModelError, match=r"for rk3588 .*, found one for rk3566, rk3568"):
        open_on_board()
    board.platforms = None
    with pytest.raises(ModelError, match=r"not a readable \.rknn file"):
        open_on_board()
    assert board.released == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("__init__", "rknn-toolkit-lite2 RKNNLite: argument 1 must be str"),
        ("load_rknn", r"actor\.rknn: load_rknn: argument 1 must be str"),
        ("init_runtime", r"actor\.rknn: init_runtime: argument 1 must be str"),
    ],
)
def test_calls_to_open_that_raise_are_named(open_on_board, board, caplog, call, message):
    board.raising = (call, "release")
    with pytest.raises(ModelError, match=message):
        open_on_board()
    assert ("release: argument 1 must be str" in caplog.text) == (call != "__init__")


@pytest.mark.parametrize("code", [0, -1])
def test_a_runtime_that_cannot_say_its_version_hides_nothing_else(
    open_on_board, board, caplog, monkeypatch, code
):
    monkeypatch.setattr(rknn, "NEEDED_FILES", {})
    caplog.set_level("INFO")
    board.init_code, board.raising = code, ("get_sdk_version",)
    if code == 0:
        open_on_board().close()
        said = caplog.text
    else:
        with pytest.raises(
            ModelError, match="init_runtime with NPU_CORE_AUTO: expected 0"
        ) as error:
            open_on_board()
        said = str(error.value)
        assert "install librknnrt 2.5.0 or later" in said
    assert "librknnrt of unknown version" in said and "argument 1 must be str" in said
    assert "model built by rknn-toolkit2 2.5.0 for rk3588" in said


def test_an_inference_that_raises_is_named(open_on_board, board, observations):
    backend = open_on_board()
    board.raising = ("inference",)
    with pytest.raises(ModelError, match="backend rknn: inference: argument 1 must be str"):
        backend.infer(*observations[0])


def test_a_release_that_raises_is_logged(open_on_board, board, caplog):
    backend = open_on_board()
    board.raising = ("release",)
    backend.close()
    assert "rknn-toolkit-lite2 release: argument 1 must be str" in caplog.text


@pytest.mark.parametrize("outputs", [None, []])
def test_no_answer_from_the_npu_is_an_error(open_on_board, board, observations, outputs):
    backend = open_on_board()
    board.outputs = lambda: outputs
    with pytest.raises(ModelError, match="inference: expected one output"):
        backend.infer(*observations[0])


def test_closing_releases_the_board_once(open_on_board, board):
    backend = open_on_board()
    backend.close()
    backend.close()
    assert board.released == 1


def test_garbage_of_the_binding_is_collected_once_answers_were_sent(
    open_on_board, board, observations, monkeypatch
):
    collections = []
    monkeypatch.setattr(rknn, "COLLECT_EVERY_FRAMES", 3)
    monkeypatch.setattr(rknn.gc, "collect", lambda: collections.append(1))
    backend = open_on_board()
    for frame in range(1, 8):
        before = len(collections)
        backend.infer(*observations[0])
        assert len(collections) == before
        backend.tidy()
        assert len(collections) == frame // 3


def test_a_model_changed_after_conversion_is_refused(open_on_board, board_model):
    board_model.write_bytes(board_model.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match=r"expected sha256 .* found"):
        open_on_board()


# --- rknn_sim


@pytest.fixture
def copied_model(int8_model, tmp_path):
    folder = tmp_path / "copied model"
    shutil.copytree(int8_model.parent, folder)
    return folder / int8_model.name


@pytest.mark.toolkit
def test_two_openings_of_a_model_answer_alike(simulator, copied_model, contract, observations):
    link = copied_model.parent / "remote_trained.rknn"
    link.symlink_to(copied_model)
    again = open_backend("rknn_sim", link, contract)
    for bev, proprio in observations:
        assert np.array_equal(again.infer(bev, proprio), simulator.infer(bev, proprio))
    again.close()


@pytest.mark.toolkit
def test_opening_the_simulator_keeps_stdout_clean_and_the_log_short(
    copied_model, contract, observations, capfd
):
    backend = open_backend("rknn_sim", copied_model, contract)
    backend.infer(*observations[0])
    backend.close()
    said = capfd.readouterr()
    assert said.out == ""
    # Its native code writes there past Python; its progress bars are off only where tqdm is first
    # imported by it, which another test may have done before.
    lines = [line for line in said.err.split("\n") if line.strip() and "it/s]" not in line]
    assert len(lines) <= 2, lines


@pytest.mark.toolkit
def test_what_the_toolkit_said_is_shown_when_it_fails(actor_onnx, contract, capfd):
    onnx_bytes = onnx_model.inspect(actor_onnx, contract).data
    with pytest.raises(ModelError, match="rknn-toolkit2 config"):
        Simulator(onnx_bytes, PackedSamples(), contract, "no such chip", manifest.BuildRecord())
    said = capfd.readouterr()
    assert "rknn-toolkit2 said:" in said.err and "no such chip" in said.err
    assert said.out == ""


@pytest.mark.toolkit
def test_whatever_is_raised_in_the_simulators_process_is_said(actor_onnx, contract):
    onnx_bytes = onnx_model.inspect(actor_onnx, contract).data
    with pytest.raises(ModelError, match="'NoneType' object has no attribute"):
        Simulator(onnx_bytes, PackedSamples(), None, "rk3588", manifest.BuildRecord())


@pytest.mark.toolkit
def test_a_simulator_that_was_killed_is_named_and_another_one_opens(
    copied_model, contract, observations, monkeypatch, tmp_path
):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = psutil.Process().children()
    backend = open_backend("rknn_sim", copied_model, contract)
    [process] = set(psutil.Process().children()) - set(before)
    process.kill()
    with pytest.raises(ModelError, match="the process of the simulator has ended, with -9"):
        backend.infer(*observations[0])
    backend.close()
    again = open_backend("rknn_sim", copied_model, contract)
    assert np.isfinite(again.infer(*observations[0])).all()
    again.close()
    assert psutil.Process().children() == before
    assert not list(temporary.iterdir())


@pytest.mark.toolkit
@pytest.mark.parametrize("moment", ["open", "its toolkit hangs"])
def test_the_simulator_does_not_outlive_who_opened_it_and_its_folder_goes_with_the_next(
    copied_model, contract, tmp_path, monkeypatch, moment
):
    hung, temporary = tmp_path / "hung", tmp_path / "temporary"
    temporary.mkdir()
    (tmp_path / "rknn").mkdir()
    (tmp_path / "rknn/api.py").write_text(
        f"import pathlib, time\npathlib.Path({str(hung)!r}).touch()\ntime.sleep(3600)\n"
    )
    script = tmp_path / "opens.py"
    script.write_text(
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tractor_core.contract import load\n"
        "from tractor_core.paths import default_params_file\n"
        "from tractor_inference.model.backends import open_backend\n"
        "sys.path[:1] = sys.argv[2:]\n"
        "opened = open_backend('rknn_sim', Path(sys.argv[1]), load(default_params_file()))\n"
        "print('open', flush=True)\n"
        "time.sleep(3600)\n"
    )
    paths = [str(tmp_path)] if moment != "open" else []
    starter = subprocess.Popen(
        [sys.executable, str(script), str(copied_model), *paths], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"TMPDIR": str(temporary)},
    )  # fmt: skip
    if moment == "open":
        assert starter.stdout.readline() == "open\n"
    else:
        end_s = time.monotonic() + 60.0
        while not hung.exists():
            assert time.monotonic() < end_s and starter.poll() is None
    [process] = psutil.Process(starter.pid).children()
    starter.kill()
    starter.communicate()
    process.wait(5.0)
    [left] = temporary.iterdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr("tractor_inference.model.simulator.NEW_S", 0.0)
    open_backend("rknn_sim", copied_model, contract).close()
    assert not left.exists()


@pytest.mark.toolkit
def test_a_model_that_is_not_built_in_time_ends_the_process(actor_onnx, contract, monkeypatch):
    monkeypatch.setattr("tractor_inference.model.simulator.BUILD_LIMIT_S", 0.1)
    before = psutil.Process().children()
    onnx_bytes = onnx_model.inspect(actor_onnx, contract).data
    with pytest.raises(ModelError, match=r"expected the model built within 0\.1 s"):
        Simulator(onnx_bytes, PackedSamples(), contract, "rk3588", manifest.BuildRecord())
    assert psutil.Process().children() == before


@pytest.mark.toolkit
def test_an_answer_that_was_not_received_is_never_taken_for_that_to_the_next_frame(
    copied_model, contract, observations, monkeypatch
):
    backend = open_backend("rknn_sim", copied_model, contract)
    line = backend._simulator._line
    monkeypatch.setattr(type(line), "recv", lambda _: (_ for _ in ()).throw(MemoryError))
    with pytest.raises((MemoryError, ModelError)):
        backend.infer(*observations[0])
    monkeypatch.undo()
    with pytest.raises(ModelError, match="the process of the simulator has ended"):
        backend.infer(*observations[1])
    backend.close()


@pytest.mark.toolkit
def test_everything_missing_for_the_simulator_is_named(copied_model, contract):
    files = sorted((copied_model.parent / "calibration_data").iterdir())
    files[0].unlink()
    files[1].write_bytes(files[2].read_bytes())
    with pytest.raises(ModelError, match="calibration samples cannot be used again") as caught:
        open_backend("rknn_sim", copied_model, contract)
    assert f"{files[0]}: cannot be read" in str(caught.value)
    assert f"{files[1]}: expected sha256" in str(caught.value)
    (copied_model.parent / "actor.onnx").write_bytes(b"other")
    with pytest.raises(ModelError, match=r"actor\.onnx: expected sha256"):
        open_backend("rknn_sim", copied_model, contract)


@pytest.fixture
def with_set(copied_model):
    """A model that these frames of a set beside it have calibrated too, by its manifest."""
    kept = copied_model.with_name(reference_observations.FILE_NAME)
    kept.write_bytes(config_file(reference_observations.FILE_NAME).read_bytes())
    digest = manifest.sha256_file(kept)

    def write(*indices):
        path = manifest.path_of(copied_model)
        value = json.loads(path.read_text())
        value["calibration"]["samples"] += [
            {"file": reference_observations.frame_name(kept.name, i), "sha256": digest}
            for i in indices
        ]
        path.write_text(json.dumps(value))
        return copied_model, kept

    return write


@pytest.mark.toolkit
def test_reference_observations_that_calibrated_are_read_beside_the_model(
    with_set, contract, observations
):
    model, _ = with_set(0, 399)
    backend = open_backend("rknn_sim", model, contract)
    assert np.isfinite(backend.infer(*observations[0])).all()
    backend.close()


@pytest.mark.toolkit
def test_reference_observations_that_are_others_or_gone_are_named_once(with_set, contract):
    model, kept = with_set(0, 1, 400)
    with pytest.raises(ModelError, match=r"npz#400: expected an index below 400") as caught:
        open_backend("rknn_sim", model, contract)
    kept.write_bytes(b"others")
    with pytest.raises(ModelError) as caught:
        open_backend("rknn_sim", model, contract)
    assert str(caught.value).count(f"{kept}: expected sha256") == 1
    kept.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        open_backend("rknn_sim", model, contract)


@pytest.mark.toolkit
def test_a_manifest_of_too_many_frames_is_refused(with_set, contract):
    model, _ = with_set(*[0] * 2000)
    with pytest.raises(ModelError, match="expected at most 2000 calibration frames, found 2012"):
        open_backend("rknn_sim", model, contract)


@pytest.mark.toolkit
def test_another_toolkit_than_built_the_model_is_refused(copied_model, contract):
    path = manifest.path_of(copied_model)
    value = json.loads(path.read_text())
    value["toolkit"]["version"] = "2.3.2"
    path.write_text(json.dumps(value))
    with pytest.raises(ModelError, match=r"expected rknn-toolkit2 2\.3\.2.* found 2\.5\.0"):
        open_backend("rknn_sim", copied_model, contract)


def test_without_the_toolkit_the_simulator_says_what_to_install(monkeypatch, actor_onnx, contract):
    monkeypatch.setattr(rknn_toolkit, "DISTRIBUTION", "no-such-distribution")
    with pytest.raises(ModelError, match=r"rknn-toolkit2 is not installed here"):
        rknn_toolkit.toolkit_version()
    monkeypatch.setitem(sys.modules, "rknn.api", None)
    with pytest.raises(ModelError, match=r"rknn-toolkit2 is not installed here"):
        rknn_toolkit.build(actor_onnx, contract, target="rk3588", dataset=None)


# --- fake


def test_the_fake_turns_to_the_gap_and_says_that_it_is_fake(contract, caplog):
    backend = open_backend("fake", Path("unread.rknn"), contract)
    assert "no model drives" in caplog.text
    bev, proprio = np.zeros((1, 2, 128, 128), np.float32), np.zeros((1, 6), np.float32)
    straight = backend.infer(bev, proprio)[0]
    proprio[0, 5] = 0.5
    left, right = backend.infer(bev, proprio)[0]
    assert straight[0] == straight[1] > 0.0
    assert right > left


def test_scripted_faults_reach_the_caller(contract):
    bev, proprio = np.zeros((1, 2, 128, 128), np.float32), np.zeros((1, 6), np.float32)
    entered, resume = threading.Event(), threading.Event()

    def script(frame):
        if frame == 0:
            raise ModelError("scripted")
        if frame == 1:
            return np.full((1, 2), np.nan, np.float32)
        if frame == 2:
            return np.zeros((3,), np.float32)
        entered.set()
        resume.wait()
        return None

    backend = FakeBackend(contract, script)
    with pytest.raises(ModelError, match="scripted"):
        backend.infer(bev, proprio)
    assert np.isnan(backend.infer(bev, proprio)).all()
    assert backend.infer(bev, proprio).shape == (3,)
    thread = threading.Thread(target=backend.infer, args=(bev, proprio))
    thread.start()
    assert entered.wait(5.0) and thread.is_alive()
    resume.set()
    thread.join(5.0)
    assert not thread.is_alive()
