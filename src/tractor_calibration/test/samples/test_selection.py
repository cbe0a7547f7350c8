"""Calibration frames reach the extremes; held-out frames come from other times."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor_calibration.conversion import toolkit_child
from tractor_calibration.samples import selection
from tractor_calibration.samples.reference import reference_actions
from tractor_core.errors import ModelError
from tractor_inference.model import rknn_toolkit
from tractor_inference.model.onnx import session as onnx_session


def _covered(lows, highs, chosen):
    """Mean share of each tensor's whole range that the chosen frames cover."""
    span = highs.max(axis=0) - lows.min(axis=0)
    return np.mean((highs[chosen].max(axis=0) - lows[chosen].min(axis=0)) / span)


@given(st.integers(0, 2**32 - 1))
def test_coverage_beats_random_choice_of_the_same_size(seed):
    rng = np.random.default_rng(seed)
    lows, highs = -rng.exponential(1.0, (200, 12)), rng.exponential(1.0, (200, 12))
    chosen = selection.by_coverage(lows, highs, 10)
    random = [_covered(lows, highs, rng.choice(200, 10, replace=False).tolist()) for _ in range(20)]
    assert len(set(chosen)) == 10
    assert _covered(lows, highs, chosen) > max(random)
    assert chosen == selection.by_coverage(lows, highs, 10)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 8))
def test_an_unbounded_choice_covers_every_range_exactly(seed, frames, tensors):
    rng = np.random.default_rng(seed)
    ends = np.sort(rng.integers(-5, 6, (2, frames, tensors)).astype(float), axis=0)
    chosen = selection.by_coverage(*ends, frames)
    assert len(set(chosen)) == len(chosen) <= 2 * tensors + 1
    np.testing.assert_array_equal(ends[0][chosen].min(axis=0), ends[0].min(axis=0))
    np.testing.assert_array_equal(ends[1][chosen].max(axis=0), ends[1].max(axis=0))


def test_the_widest_frame_comes_first_and_frames_that_add_nothing_are_left_out():
    lows, highs = np.zeros((9, 1)), np.ones((9, 1))
    assert selection.by_coverage(lows, highs, 4) == [0]
    highs[4], lows[6] = 5.0, -1.0
    assert selection.by_coverage(lows, highs, 1) == [4]
    assert selection.by_coverage(lows, highs, 4) == [4, 6]


@pytest.mark.toolkit
@pytest.mark.parametrize("actor", ["small", "reference"])
def test_covering_frames_build_the_same_model_as_all_frames(
    actor, tmp_path, repository, contract, actor_writer, frame_maker
):
    # The reference actor's widest layer is one that the toolkit computes in parts.
    whole = repository / "models" / "sac_actor_reference.onnx"
    file = whole if actor == "reference" else actor_writer(tmp_path / "actor.onnx")
    data = file.read_bytes()
    frames = [frame_maker(np.random.default_rng(i)) for i in range(40)]
    lows, highs, _ = selection.activations(data, contract, frames, "rk3588")
    chosen = selection.by_coverage(lows, highs, len(frames))
    assert len(chosen) < len(frames)
    expected = reference_actions(data, contract, frames)
    actions = []
    for name, calibration in (("all", frames), ("chosen", [frames[i] for i in sorted(chosen)])):
        folder = tmp_path / name
        folder.mkdir()
        job = toolkit_child.Job(
            data, "rk3588", contract, frames, expected, calibration,
            {"int8": rknn_toolkit.QUANTIZED},
        )  # fmt: skip
        limits = toolkit_child.Limits(60.0, "", 3000.0)
        outcome = toolkit_child.run(job, folder, folder / "log", limits)
        actions.append(outcome.builds["int8"].actions)
    np.testing.assert_array_equal(actions[0], actions[1])


def test_every_tensor_of_the_network_is_measured(tmp_path, contract, actor_writer, frame_maker):
    pytest.importorskip("onnxruntime")
    data = actor_writer(tmp_path / "actor.onnx").read_bytes()
    frames = [frame_maker(np.random.default_rng(i)) for i in range(3)]
    lows, highs, _ = selection.activations(data, contract, iter(frames), "rk3588")
    # Two inputs and the outputs of twelve nodes.
    assert lows.shape == highs.shape == (3, 14)
    assert (lows <= highs).all()
    assert lows[:, 0].tolist() == [0.0] * 3
    assert highs[:, 0].tolist() == [1.0] * 3


def test_nan_inside_a_network_that_answers_numbers_is_refused(
    tmp_path, contract, actor_editor, frame_maker
):
    data = actor_editor(tmp_path / "actor.onnx", "hidden nan").read_bytes()
    frames = [frame_maker(np.random.default_rng(i)) for i in range(3)]
    with pytest.raises(ModelError, match=r"NaN or Inf inside, in 1 of 19 tensors \(root\)"):
        selection.activations(data, contract, frames, "rk3588")


def test_empty_tensors_have_no_extremes(tmp_path, contract, actor_editor, frame_maker):
    data = actor_editor(tmp_path / "actor.onnx", "empty").read_bytes()
    frames = [frame_maker(np.random.default_rng(i)) for i in range(3)]
    lows, highs, _ = selection.activations(data, contract, frames, "rk3588")
    assert lows.shape == highs.shape == (3, 15)
    assert np.isfinite(lows).all()


@pytest.mark.parametrize("half", [False, True], ids=["float", "half"])
@pytest.mark.parametrize("settings", [{}, {"transA": 1}, {"transB": 1, "alpha": 0.5, "beta": 2.0}])
def test_the_parts_of_a_wide_layer_add_up_to_it(contract, frame_maker, half, settings):
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    inputs, kind = 2 * 128 * 128, np.float16 if half else np.float32
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.01, (inputs, 2)).astype(kind)
    weights = weights.T if "transB" in settings else weights
    shape = np.array([-1, 1] if "transA" in settings else [1, -1])
    node, value = helper.make_node, helper.make_tensor_value_info
    nodes = [
        node("Cast", ["bev"], ["b"], to=helper.np_dtype_to_tensor_dtype(np.dtype(kind))),
        node("Reshape", ["b", "shape"], ["wide"]),
        node("Gemm", ["wide", "w", "bias"], ["sum"], **settings),
        node("Cast", ["sum"], ["action"], to=TensorProto.FLOAT),
    ]
    arrays = {"shape": shape, "w": weights, "bias": np.full(2, 0.5, kind)}
    graph = helper.make_graph(
        nodes, "wide",
        [value("bev", TensorProto.FLOAT, [1, 2, 128, 128]), value("proprio", 1, [1, 6])],
        [value("action", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    sample = frame_maker(np.random.default_rng(1))
    (layer,) = selection._split_sums(graph, "rk3588")
    wide = sample.bev.reshape(shape)
    total = sum(list(layer.tensors(wide))[1::2])
    parts = rknn_toolkit.parts_of_sum(inputs, "rk3588")
    data = model.SerializeToString()
    lows, highs, _ = selection.activations(data, contract, [sample], "rk3588")
    # Two inputs, four nodes, and each part's input and sum.
    assert lows.shape == highs.shape == (1, 6 + 2 * len(parts))
    session = onnx_session.open_session(data)
    feeds = {"bev": sample.bev[None], "proprio": np.zeros((1, 6), np.float32)}
    expected = onnx_session.run_session(session, ["action"], feeds)[0]
    np.testing.assert_allclose(total, expected, rtol=0, atol=0.02)
