"""What exporters write is brought to one form; what cannot be bounded is refused, in bounds."""

import contextlib
import hashlib
import os

import actor_factory
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tractor_core import contract as contract_module
from tractor_core.errors import ModelError
from tractor_core.paths import default_params_file
from tractor_inference.model.backends import open_backend
from tractor_inference.model.limited import Limits
from tractor_inference.model.onnx import (
    model as onnx_model,
)
from tractor_inference.model.onnx import (
    normal_form,
    proof,
)
from tractor_inference.model.onnx import (
    session as onnx_session,
)
from tractor_inference.model.onnx.inspection import examine

CONTRACT = contract_module.load(default_params_file())
WORKING_EXPORT = r"this export works: torch\.onnx\.export\(.*; see docs/export\.md"


def look(path):
    return examine(path, CONTRACT, beneath=False, sha256=None)


def save(path, model):
    path.write_bytes(model.SerializeToString())
    return path


def constant(name, value):
    return numpy_helper.from_array(np.array(value), name)


def small_actor(nodes=(), weights=(), opset=17, output="m", batch=1):
    """Return an actor that is one product of proprio, then `nodes` from `m` to `action`."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["proprio", "w"], ["m"]), *nodes],
        "small",
        [
            value("bev", TensorProto.FLOAT, [batch, 2, 128, 128]),
            value("proprio", TensorProto.FLOAT, [batch, 6]),
        ],
        [value("action", TensorProto.FLOAT, [batch, 2])],
        [constant("w", np.linspace(-0.3, 0.3, 12).reshape(6, 2).astype(np.float32)), *weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def answers(data, inputs):
    return onnx_session.run_session(onnx_session.open_session(data), ["action"], inputs)[0]


def frame(seed=3):
    rng = np.random.default_rng(seed)
    return {
        "bev": (rng.random((1, 2, 128, 128)) < 0.1).astype(np.float32),
        "proprio": rng.uniform(-2, 2, (1, 6)).astype(np.float32),
    }


def node(op, inputs, outputs, **settings):
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), **settings)


# --- what it says of itself


def with_metadata(path, *values, key="exploration_scale"):
    model = small_actor(output="action", nodes=[node("Tanh", "m", "action")])
    for value in values:
        model.metadata_props.add(key=key, value=value)
    return save(path, model)


@pytest.mark.parametrize(
    ("text", "scale"), [("0", 0.0), ("0.3", 0.3), ("1.0", 1.0), ("1e-05", 1e-05), ("1", 1.0)]
)
def test_the_noise_that_an_actor_asks_for_is_read(tmp_path, text, scale):
    path = with_metadata(tmp_path / "actor.onnx", text)
    assert look(path).exploration_scale == scale
    with contextlib.closing(open_backend("onnx", path, CONTRACT)) as backend:
        assert backend.exploration_scale == scale


@pytest.mark.parametrize("free", [False, True])
def test_the_noise_is_known_whatever_is_done_to_the_file(tmp_path, free):
    model = onnx.load(with_metadata(tmp_path / "actor.onnx", "0.25"))
    model.opset_import[0].version = 21
    if free:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    facts = look(save(tmp_path / "actor.onnx", model))
    assert facts.exploration_scale == 0.25 and facts.changes


def test_an_actor_that_says_nothing_of_noise_asks_for_none(tmp_path):
    for values, key in (((), "exploration_scale"), (("many",), "author")):
        path = with_metadata(tmp_path / "actor.onnx", *values, key=key)
        assert look(path).exploration_scale is None


@pytest.mark.parametrize(
    "text",
    ["", " ", "0,3", "0.3 ", "30%", "-0.1", "1.1", "1e3", "nan", "inf", "0x1", "1_0e-2", ".3",
     "\u0663", "9" * 100_000, "None"],
)  # fmt: skip
def test_noise_that_is_no_number_of_an_action_is_refused(tmp_path, text):
    path = with_metadata(tmp_path / "actor.onnx", text)
    with pytest.raises(
        ModelError, match=r"expected a number from 0 to 1 such as 0\.3, found"
    ) as said:
        look(path)
    assert str(path) in str(said.value) and len(str(said.value)) < 500


def test_noise_that_is_named_twice_is_refused(tmp_path):
    with pytest.raises(ModelError):
        look(with_metadata(tmp_path / "actor.onnx", "0.1", "0.2"))


# --- weights beside the file


def with_weights_beside(folder, name="actor.onnx", location="actor.onnx.data", **settings):
    folder.mkdir(exist_ok=True)
    path = folder / name
    onnx.save(
        actor_factory.make_actor(), path,
        save_as_external_data=True, location=location, size_threshold=0, **settings,
    )  # fmt: skip
    return path


@pytest.mark.parametrize("one_file", [True, False])
def test_weights_beside_the_file_are_put_inside(tmp_path, one_file):
    path = with_weights_beside(tmp_path / "a", all_tensors_to_one_file=one_file)
    facts = look(path)
    inputs = frame()
    expected = actor_factory.onnx_answer(path, inputs["bev"], inputs["proprio"])
    for file in path.parent.iterdir():
        file.unlink()
    assert np.array_equal(answers(facts.data, inputs), expected)
    assert "put inside" in facts.changes[0] and facts.size > 4_000_000


def test_weights_beside_the_file_count_for_what_identifies_an_actor(tmp_path):
    path = with_weights_beside(tmp_path / "a")
    beside = path.with_name("actor.onnx.data")
    first = look(path)
    lines = f"{sha256(path)}  \n{sha256(beside)}  actor.onnx.data\n"
    assert first.sha256 == hashlib.sha256(lines.encode()).hexdigest()
    weights = bytearray(beside.read_bytes())
    weights[100] ^= 1
    beside.write_bytes(weights)
    second = look(path)
    assert second.sha256 != first.sha256
    with pytest.raises(ModelError, match=f"expected sha256 {first.sha256}.*found {second.sha256}"):
        onnx_model.inspect(path, CONTRACT, sha256=first.sha256)


def test_a_damaged_file_that_was_known_is_said_to_be_another(tmp_path):
    path = save(tmp_path / "a.onnx", actor_factory.make_actor())
    known = sha256(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=f"expected sha256 {known} as its manifest says"):
        onnx_model.inspect(path, CONTRACT, sha256=known)
    with pytest.raises(ModelError, match="not a valid ONNX file"):
        onnx_model.inspect(path, CONTRACT)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_link_to_the_model_leads_to_its_weights(tmp_path):
    path = with_weights_beside(tmp_path / "elsewhere")
    (tmp_path / "models").mkdir()
    link = tmp_path / "models" / "linked.onnx"
    link.symlink_to(path)
    assert look(link).sha256 == look(path).sha256
    with pytest.raises(ModelError, match=r"expected a model in .*/models or beneath it"):
        examine(link, CONTRACT, beneath=True, sha256=None)


@pytest.mark.parametrize("instead", ["link", "hard to open", "nothing", "folder"])
def test_weights_that_are_no_plain_file_are_refused(tmp_path, instead):
    path = with_weights_beside(tmp_path / "a")
    beside = path.with_name("actor.onnx.data")
    beside.rename(tmp_path / "real")
    if instead == "link":
        beside.symlink_to(tmp_path / "real")
    elif instead == "hard to open":
        os.mkfifo(beside)
    elif instead == "folder":
        beside.mkdir()
    with pytest.raises(ModelError) as caught:
        look(path)
    expected = {
        "link": "links beside a model's real file are not followed",
        "hard to open": "expected a regular file",
        "nothing": "expected its weights in actor.onnx.data beside it",
        "folder": "expected a regular file",
    }
    assert expected[instead] in str(caught.value)


def rewritten(path, change):
    """Change where the first tensor that lies outside is said to lie."""
    model = onnx.load_model(path, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.external_data)
    entries = {entry.key: entry.value for entry in tensor.external_data} | change
    del tensor.external_data[:]
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return save(path, model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"location": "/etc/passwd"}, "stored outside, in '/etc/passwd'"),
        ({"location": "../a/actor.onnx.data"}, "stored outside"),
        ({"location": "sub/actor.onnx.data"}, "stored outside"),
        ({"location": ".."}, "stored outside"),
        ({"location": ""}, "stored outside"),
        ({"location": "a\0b"}, "stored outside"),
        ({"offset": -1}, "no place"),
        ({"offset": "9" * 400}, "no place"),
        ({"offset": 10**17}, "expected [0-9]+ bytes"),
        ({"length": 4}, "expected [0-9]+ bytes .* found 4"),
        ({"length": "1e3"}, "no place"),
    ],
)
def test_weights_said_to_lie_elsewhere_are_refused(tmp_path, change, message):
    path = rewritten(with_weights_beside(tmp_path / "a"), change)
    with pytest.raises(ModelError, match=message):
        look(path)


def test_a_place_written_as_a_path_from_the_folder_is_the_file_beside_it(tmp_path):
    path = with_weights_beside(tmp_path / "a")
    inside = look(path).data
    assert look(rewritten(path, {"location": "./actor.onnx.data"})).data == inside


def test_weights_that_were_cut_off_are_refused(tmp_path):
    path = with_weights_beside(tmp_path / "a")
    beside = path.with_name("actor.onnx.data")
    os.truncate(beside, beside.stat().st_size - 100)
    with pytest.raises(ModelError, match="it was cut off, or belongs to another export"):
        look(path)


def test_one_file_named_by_many_tensors_does_not_multiply(tmp_path):
    tensors = []
    for number in range(300):
        tensor = TensorProto(name=f"t{number}", data_type=TensorProto.FLOAT, dims=[500_000])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w")
        tensors.append(tensor)
    (tmp_path / "w").write_bytes(bytes(2_000_000))
    path = save(tmp_path / "a.onnx", small_actor([node("Tanh", "m", "action")], tensors))
    with pytest.raises(ModelError, match="expected weights of at most"):
        look(path)


def test_weights_in_a_constant_node_are_found_too(tmp_path):
    tensor = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    hidden = helper.make_node("Constant", [], ["hidden"], value=tensor)
    path = save(tmp_path / "a.onnx", small_actor([hidden, node("Add", "m hidden", "action")]))
    with pytest.raises(ModelError, match=r"hidden: .*stored outside"):
        look(path)


# --- the normal form


def free_batch(model):
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


@pytest.mark.parametrize("opset", [11, 13, 17, 19, 20, 21, 22, 23])
def test_a_newer_opset_and_a_free_batch_are_brought_to_the_toolkit_s_form(tmp_path, opset):
    model = actor_factory.make_actor()
    model.opset_import[0].version, model.ir_version = opset, 10
    given = free_batch(model).SerializeToString()
    facts = look(save(tmp_path / "a.onnx", model))
    assert facts.opset == min(opset, 19) and facts.sha256 == hashlib.sha256(given).hexdigest()
    assert any("batch axis set to 1" in change for change in facts.changes)
    assert any("lowered to 19" in change for change in facts.changes) == (opset > 19)
    normal = onnx.load_model_from_string(facts.data)
    onnx.checker.check_model(normal, full_check=True)
    shapes = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in normal.graph.input]
    assert shapes == [[1, 2, 128, 128], [1, 6]]
    assert np.allclose(answers(facts.data, frame()), answers(given, frame()), rtol=0, atol=1e-6)


def test_a_batch_axis_of_minus_one_is_free(tmp_path):
    model = actor_factory.make_actor()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    facts = look(save(tmp_path / "a.onnx", model))
    assert any("batch axis set to 1" in change for change in facts.changes)
    known = actor_factory.make_actor().SerializeToString()
    assert np.allclose(answers(facts.data, frame()), answers(known, frame()), rtol=0, atol=1e-6)


def test_a_file_in_the_normal_form_is_taken_as_it_is(tmp_path):
    path = save(tmp_path / "a.onnx", actor_factory.make_actor())
    facts = look(path)
    assert facts.data == path.read_bytes() and facts.changes == ()


def test_other_outputs_and_what_only_they_need_are_left_out(tmp_path):
    nodes = [
        node("Tanh", "m", "action"),
        node("MatMul", "proprio big", "s"),
        node("Exp", "s", "std"),
    ]
    model = small_actor(nodes, [constant("big", np.ones((6, 99), np.float32))])
    model.graph.output.append(helper.make_tensor_value_info("std", TensorProto.FLOAT, [1, 99]))
    facts = look(save(tmp_path / "a.onnx", model))
    graph = onnx.load_model_from_string(facts.data).graph
    assert [o.name for o in graph.output] == ["action"] and facts.changes == ("left out: std",)
    assert {n.op_type for n in graph.node} == {"MatMul", "Tanh"}
    assert [t.name for t in graph.initializer] == ["w"]


def test_what_the_dropped_outputs_need_may_be_anything(tmp_path):
    model = small_actor([node("Tanh", "m", "action"), node("NonZero", "m", "where")])
    model.graph.output.append(helper.make_tensor_value_info("where", TensorProto.INT64, [2, "n"]))
    assert look(save(tmp_path / "a.onnx", model)).changes == ("left out: where",)


@pytest.mark.parametrize("batch", [1, "batch"])
def test_shapes_that_the_graph_computes_are_computed_once(tmp_path, batch):
    # What torch's older exporter writes for chunk(2, -1): half of the last dimension.
    nodes = [
        node("Concat", "m m", "wide", axis=1),
        node("Shape", "wide", "shape"),
        node("Gather", "shape one", "count", axis=0),
        node("Add", "count one", "more"),
        node("Div", "more two", "half"),
        node("Mul", "half one", "end"),
        node("Slice", "wide zero end one", "part"),
        node("Tanh", "part", "action"),
    ]
    numbers = [constant(n, np.array([v])) for n, v in (("zero", 0), ("one", 1), ("two", 2))]
    model = small_actor(nodes, numbers, batch=batch)
    facts = look(save(tmp_path / "a.onnx", model))
    graph = onnx.load_model_from_string(facts.data).graph
    assert [n.op_type for n in graph.node] == ["MatMul", "Concat", "Slice", "Tanh"]
    assert "its shapes computed" in facts.changes


@pytest.mark.parametrize("op", ["Gelu", "Mish", "HardSwish", "Identity"])
def test_ops_newer_than_the_toolkit_s_opset_are_expressed_in_older_ones(tmp_path, op):
    model = small_actor([node(op, "m", "n"), node("Tanh", "n", "action")], opset=23)
    facts = look(save(tmp_path / "a.onnx", model))
    assert facts.opset == 19
    given = model.SerializeToString()
    assert np.allclose(answers(facts.data, frame()), answers(given, frame()), rtol=0, atol=1e-6)


def test_groups_are_normalised_as_the_newer_opset_means_it(tmp_path):
    rng = np.random.default_rng(0)
    scale, bias = (constant(n, rng.normal(1, 0.5, 8).astype(np.float32)) for n in ("s", "b"))
    nodes = [
        node("Conv", "bev c", "h", strides=[16, 16]),
        node("GroupNormalization", "h s b", "n", num_groups=4, epsilon=1e-5),
        node("GlobalMaxPool", "n", "p"),
        node("Flatten", "p", "f"),
        node("MatMul", "f v", "q"),
        node("Add", "m q", "r"),
        node("Tanh", "r", "action"),
    ]
    weights = [
        constant("c", rng.normal(0, 0.2, (8, 2, 16, 16)).astype(np.float32)),
        constant("v", rng.normal(0, 0.2, (8, 2)).astype(np.float32)),
    ]
    model = small_actor(nodes, [scale, bias, *weights], opset=21)
    facts = look(save(tmp_path / "a.onnx", model))
    given = model.SerializeToString()
    assert facts.opset == 19
    assert np.allclose(answers(facts.data, frame()), answers(given, frame()), rtol=0, atol=1e-6)


def test_an_op_that_no_older_opset_has_is_refused_by_name_with_an_export_that_works(tmp_path):
    nodes = [
        node("RotaryEmbedding", "x a a", "y"),
        node("ReduceSum", "y", "s", keepdims=0),
        node("Add", "m s", "action"),
    ]
    weights = [
        constant("x", np.ones((1, 1, 2, 2), np.float32)),
        constant("a", np.ones((1, 2, 1), np.float32)),
    ]
    path = save(tmp_path / "a.onnx", small_actor(nodes, weights, opset=23))
    with pytest.raises(ModelError, match=rf"(.|\n)*{WORKING_EXPORT}"):
        look(path)


def test_an_opset_that_nobody_knows_is_refused(tmp_path):
    path = save(tmp_path / "a.onnx", small_actor([node("Tanh", "m", "action")], opset=99))
    with pytest.raises(ModelError, match="99"):
        look(path)


def test_a_normal_form_that_answers_otherwise_is_refused(tmp_path, monkeypatch):
    def spoil(model):
        lower(model)
        weights = next(t for t in model.graph.initializer if t.name == "w")
        values = numpy_helper.to_array(weights) + np.float32(1e-4)
        weights.CopyFrom(numpy_helper.from_array(values, "w"))

    lower = normal_form.lower_opset
    monkeypatch.setattr(normal_form, "lower_opset", spoil)
    path = save(tmp_path / "a.onnx", small_actor([node("Tanh", "m", "action")], opset=20))
    with pytest.raises(ModelError, match="expected the same actions from its normal form"):
        look(path)


def test_half_precision_inside_is_taken(tmp_path):
    nodes = [
        node("Cast", "m", "h", to=TensorProto.FLOAT16),
        node("Tanh", "h", "t"),
        node("Cast", "t", "action", to=TensorProto.FLOAT),
    ]
    assert look(save(tmp_path / "a.onnx", free_batch(small_actor(nodes, opset=21)))).opset == 19


def test_functions_are_expanded(tmp_path):
    inside = [node("Mul", "x x", "y2"), node("Tanh", "y2", "y")]
    imports = [helper.make_opsetid("", 17)]
    function = helper.make_function("mine", "Square", ["x"], ["y"], inside, imports)
    model = small_actor([node("Square", "m", "action", domain="mine")])
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    facts = look(save(tmp_path / "a.onnx", model))
    assert [n.op_type for n in onnx.load_model_from_string(facts.data).graph.node] == [
        "MatMul", "Mul", "Tanh",
    ]  # fmt: skip


def test_what_an_onnx_backend_drives_is_the_normal_form(tmp_path, caplog):
    caplog.set_level("INFO")
    path = with_weights_beside(tmp_path / "a")
    backend = open_backend("onnx", path, CONTRACT)
    inputs = frame()
    expected = actor_factory.onnx_answer(path, inputs["bev"], inputs["proprio"])
    assert np.allclose(backend.infer(inputs["bev"], inputs["proprio"]), expected, atol=1e-6)
    assert backend.digest == look(path).sha256 and "put inside" in caplog.text


# --- what is no answer


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (
            [node("RandomNormalLike", "m", "e"), node("Add", "m e", "action")],
            r"random numbers: expected none, found 1 ops \(RandomNormalLike\).*mean",
        ),
        (
            [node("Bernoulli", "half", "b"), node("Mul", "m b", "action")],
            r"random numbers: expected none, found 1 ops \(Bernoulli\)",
        ),
        (
            [node("Dropout", "m half yes", "action")],
            r"random numbers: expected none, found 1 ops \(Dropout in training\)",
        ),
        # Whether it is in training is computed.
        (
            [
                node("MatMul", "proprio wide", "many"),
                node("Not", "no", "training"),
                node("Dropout", "many half training", "fewer"),
                node("MatMul", "fewer narrow", "action"),
            ],
            r"expected the same actions? ",
        ),
        ([node("Log", "m", "action")], r"expected finite actions, found \[\[(nan|-inf)"),
        ([node("Div", "m zero", "action")], r"expected finite actions"),
        ([node("Mul", "m ten", "action")], r"expected actions in -1\.\.1, found .*tanh"),
    ],
    ids=["sampled", "bernoulli", "dropout", "computed dropout", "nan", "zero", "without tanh"],
)
def test_what_is_no_answer_is_refused(tmp_path, nodes, message):
    weights = [constant(n, np.float32(v)) for n, v in (("half", 0.5), ("zero", 0.0), ("ten", 10.0))]
    rng = np.random.default_rng(0)
    for name, shape in (("wide", (6, 256)), ("narrow", (256, 2))):
        weights.append(constant(name, rng.normal(0.0, 0.02, shape).astype(np.float32)))
    model = small_actor(nodes, [*weights, constant("yes", True), constant("no", False)])
    with pytest.raises(ModelError, match=message) as caught:
        look(save(tmp_path / "a.onnx", model))
    assert "docs/export.md" in str(caught.value)


def test_dropout_in_evaluation_is_taken(tmp_path):
    nodes = [node("Dropout", "m half", "d"), node("Tanh", "d", "action")]
    look(save(tmp_path / "a.onnx", small_actor(nodes, [constant("half", np.float32(0.5))])))


# --- what cannot be bounded


def loop(trips=2**62):
    body = helper.make_graph(
        [node("Identity", "go", "go_on"), node("Add", "x m", "y")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2]),
        ],
    )
    nodes = [node("Loop", "trips yes m", "l", body=body), node("Tanh", "l", "action")]
    return small_actor(nodes, [constant("trips", np.int64(trips)), constant("yes", True)])


def branches(depth=30):
    def branch(level):
        if not level:
            inner = node("Identity", "m", "o")
        else:
            inner = (
                node("If", "yes", "o", then_branch=branch(level - 1), else_branch=branch(level - 1))
                if level == 1
                else node("If", "yes", "o", then_branch=branch(level - 1), else_branch=branch(0))
            )
        return helper.make_graph(
            [inner], "b", [], [helper.make_tensor_value_info("o", TensorProto.FLOAT, [1, 2])]
        )

    nodes = [
        node("If", "yes", "i", then_branch=branch(depth), else_branch=branch(0)),
        node("Tanh", "i", "action"),
    ]
    return small_actor(nodes, [constant("yes", True)])


def call_of(body, imports=(("", 17),)):
    """Return an actor whose function has this body, from `x` to `y`."""
    opsets = [helper.make_opsetid(*one) for one in imports]
    model = small_actor([node("F", "m", "action", domain="mine")])
    model.functions.append(helper.make_function("mine", "F", ["x"], ["y"], body, opsets))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    return model


def branch_in_a_function():
    both = helper.make_graph(
        [node("Identity", "x", "o")], "b", [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, [1, 2])],
    )  # fmt: skip
    return call_of([
        helper.make_node("Constant", [], ["yes"], value=constant("c", True)),
        helper.make_node("If", ["yes"], ["y"], then_branch=both, else_branch=both),
    ])  # fmt: skip


def functions_that_double():
    """Thirty functions, each of which calls the next twice."""
    model = call_of([node("F0", "x", "z", domain="mine"), node("F0", "z", "y", domain="mine")],
                    (("", 17), ("mine", 1)))  # fmt: skip
    for level in range(30):
        name = f"F{level + 1}"
        body = [node(name, "x", "z", domain="mine"), node(name, "z", "y", domain="mine")]
        if level == 29:
            body = [node("Tanh", "x", "y")]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
        function = helper.make_function("mine", f"F{level}", ["x"], ["y"], body, opsets)
        model.functions.append(function)
    return model


def another_domain():
    model = small_actor([node("Gelu", "m", "action", domain="com.microsoft")])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def large(op, inputs, *weights, **settings):
    """Return an actor one of whose tensors is the outcome of an op, by constants that are large."""
    nodes = [
        node(op, inputs, "big", **settings),
        node("ReduceSum", "big", "s", keepdims=0),
        node("Add", "m s", "a"),
        node("Tanh", "a", "action"),
    ]
    return small_actor(nodes, weights)


def by_value(op, inputs, *weights, **settings):
    """As `large`, but a value of the input says how large."""
    nodes = [
        node("ReduceSum", "proprio", "sum", keepdims=0),
        node("Cast", "sum", "n", to=TensorProto.INT64),
        node("Reshape", "n one", "n1"),
        node(op, inputs, "big", **settings),
        node("ReduceSum", "big", "s", keepdims=0),
        node("Add", "m s", "a"),
        node("Tanh", "a", "action"),
    ]
    return small_actor(nodes, [constant("one", [1]), *weights])


G = 1 << 30
HUGE = "expected tensors of 256 MB in all"
UNKNOWN = "expected tensors of fixed shapes"
REFUSED = {
    "loop": (loop, "control flow: expected none, found 1 .Loop l"),
    "branches": (branches, "control flow: expected none, found 1 .If i"),
    "branch in a function": (branch_in_a_function, "control flow: expected none"),
    "functions that double": (functions_that_double, "found functions of more"),
    "another domain": (
        another_domain, "ops: expected those of the default domain, found 1 others .com.micro",
    ),
    "ConstantOfShape": (lambda: large("ConstantOfShape", "k", constant("k", [G])), HUGE),
    "Expand": (lambda: large("Expand", "m k", constant("k", [G, 1, 2])), HUGE),
    "Tile": (lambda: large("Tile", "m k", constant("k", [G, 1])), HUGE),
    "Pad": (lambda: large("Pad", "m k", constant("k", [0, 0, G, 0])), HUGE),
    "Resize": (
        lambda: large("Resize", "bev - k", constant("k", np.float32([1, 1, 1e4, 1e4]))), HUGE,
    ),
    "OneHot": (
        lambda: large("OneHot", "i d v", constant("i", [0]), constant("d", [G]),
                      constant("v", np.float32([0, 1]))),
        HUGE,
    ),
    "Range": (
        lambda: large("Range", "from to by", constant("from", np.float32(0)),
                      constant("to", np.float32(1e9)), constant("by", np.float32(1))),
        HUGE,
    ),
    "outer product": (lambda: large("Mul", "u v", constant("u", np.ones((1, 30_000), np.float32)),
                                    constant("v", np.ones((30_000, 1), np.float32))), HUGE),
    "many that are not so large": (
        lambda: small_actor([
            *(helper.make_node("ConstantOfShape", ["k"], [f"c{i}"]) for i in range(100)),
            node("Tanh", "m", "t"),
            helper.make_node("Sum", [f"c{i}" for i in range(100)], ["big"]),
            node("ReduceSum", "big", "s", keepdims=0), node("Add", "t s", "action"),
        ], [constant("k", [1_000_000])]), HUGE,
    ),
    "ConstantOfShape by value": (lambda: by_value("ConstantOfShape", "n1"), UNKNOWN),
    "Expand by value": (
        lambda: by_value("Expand", "row n1", constant("row", np.ones(1, np.float32))), UNKNOWN,
    ),
    "Tile by value": (
        lambda: by_value("Tile", "row n1", constant("row", np.ones(2, np.float32))), UNKNOWN,
    ),
    "Range by value": (
        lambda: by_value("Range", "zero sum step", constant("zero", np.float32(0)),
                         constant("step", np.float32(1))), UNKNOWN,
    ),
    "NonZero": (
        lambda: small_actor([
            node("NonZero", "m", "z"), node("Cast", "z", "f", to=1),
            node("ReduceSum", "f", "s", keepdims=0), node("Add", "m s", "action"),
        ]), UNKNOWN,
    ),
    "weights without end": (
        lambda: small_actor([node("Tanh", "m", "action")], [
            TensorProto(name="e", data_type=TensorProto.FLOAT, dims=[1 << 40], float_data=[1.0])
        ]),
        "not a valid ONNX file|expected tensors|cannot be taken",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_bounded_is_refused_before_it_costs(tmp_path, monkeypatch, name):
    make, message = REFUSED[name]
    monkeypatch.setattr(onnx_model, "LIMITS", Limits(30.0, 300.0))
    with pytest.raises(ModelError, match=message):
        onnx_model.inspect(save(tmp_path / "a.onnx", make()), CONTRACT)


def test_shapes_that_the_file_only_claims_are_not_believed(tmp_path):
    inner = by_value("ConstantOfShape", "n1")
    inner.graph.value_info.append(helper.make_tensor_value_info("big", TensorProto.FLOAT, [2]))
    with pytest.raises(ModelError, match=UNKNOWN):
        look(save(tmp_path / "a.onnx", inner))
    outer = by_value("ConstantOfShape", "n1")
    del outer.graph.node[-3:]
    outer.graph.node.append(node("Unsqueeze", "big one", "action"))
    with pytest.raises(ModelError, match=f"{UNKNOWN}|expected an action"):
        look(save(tmp_path / "a.onnx", outer))


def test_sparse_weights_that_unfold_are_refused(tmp_path):
    model = small_actor([node("Gather", "sparse i", "g"), node("Add", "m g", "action")])
    model.graph.initializer.append(constant("i", np.array([0])))
    values, places = constant("sparse", np.float32([1])), constant("p", np.array([5]))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [1 << 40]))
    with pytest.raises(ModelError, match=r"sparse|cannot be taken|not a valid"):
        onnx_model.inspect(save(tmp_path / "a.onnx", model), CONTRACT)


def test_what_takes_too_long_in_spite_of_all_is_ended(tmp_path, monkeypatch):
    path = save(tmp_path / "a.onnx", actor_factory.make_actor())
    monkeypatch.setattr(onnx_model, "LIMITS", Limits(0.05, 1000.0))
    with pytest.raises(
        ModelError, match=rf"opens within 0\.05 s and .*longer(.|\n)*{WORKING_EXPORT}"
    ):
        onnx_model.inspect(path, CONTRACT)


def test_an_actor_that_takes_seconds_a_frame_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(proof, "MAX_FRAME_S", 1e-9)
    path = save(tmp_path / "a.onnx", actor_factory.make_actor())
    with pytest.raises(ModelError, match="expected an answer within"):
        look(path)


OPS = ["Tanh", "Exp", "Shape", "Identity", "Neg", "Tile", "Expand", "Reshape", "ConstantOfShape",
       "Concat", "Add", "Mul", "Cast", "Slice", "Gather", "Range", "Size", "NonZero"]  # fmt: skip
NAMES = st.sampled_from(["m", "proprio", "bev", "k", "w", "a", "b", "c", "action", ""])


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    made=st.lists(
        st.tuples(st.sampled_from(OPS), st.lists(NAMES, min_size=1, max_size=4), NAMES), max_size=5
    ),
    numbers=st.lists(st.integers(-3, 1 << 20), max_size=3),
    opset=st.integers(7, 24),
)
def test_any_graph_of_such_ops_is_a_model_error_or_an_actor(tmp_path, made, numbers, opset):
    nodes = [helper.make_node(op, inputs, [output or "d"]) for op, inputs, output in made]
    nodes.append(node("Tanh", "m", "action"))
    model = small_actor(nodes, [constant("k", np.array(numbers, np.int64))], opset=opset)
    path = save(tmp_path / "a.onnx", model)
    try:
        facts = look(path)
    except ModelError:
        return
    assert answers(facts.data, frame()).shape == (1, 2)
