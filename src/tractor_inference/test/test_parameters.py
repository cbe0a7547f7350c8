import dataclasses

import pytest

from tractor_core import parameters
from tractor_core.bev.parameters import BuilderParameters
from tractor_core.errors import ParameterError
from tractor_core.input_monitor import FRAME_SILENCE_S
from tractor_core.parameters import param
from tractor_inference.actor_parameters import ActorParameters

NODES = {
    "bev_builder": ("tractor_core.bev.parameters", "BuilderParameters"),
    "sac_actor": ("tractor_inference.actor_parameters", "ActorParameters"),
    "cmd_guard": ("tractor_inference.guard.guard", "GuardParameters"),
    "rover_link": ("tractor_link.parameters", "LinkParameters"),
    "convert": ("tractor_calibration.parameters", "ConvertParameters"),
    "harvest": ("tractor_calibration.parameters", "HarvestParameters"),
}


@pytest.mark.parametrize("node", NODES)
def test_the_shared_file_shows_every_parameter_with_its_default(params_file, node):
    module, name = NODES[node]
    cls = getattr(__import__(module, fromlist=[name]), name)
    section = {
        key: value
        for key, value in parameters.read_file(params_file, node).items()
        if "." not in key
    }
    assert parameters.from_values(cls, section) == cls()
    assert set(section) == {field.name for field in dataclasses.fields(cls)}


@dataclasses.dataclass(frozen=True)
class Example:
    speed: float = param("Speed, m/s.", minimum=0.0, maximum=1.0)
    names: tuple[str, ...] = param("Names.", ("a",), length=1)
    count: int = param("Count.", 3)
    flag: bool = param("Flag.", False)


def test_integers_are_fine_floats_but_booleans_are_no_numbers():
    assert parameters.from_values(Example, {"speed": 1}).speed == 1.0
    for bad in ({"speed": True}, {"speed": 0.5, "count": True}, {"speed": 0.5, "flag": 1}):
        with pytest.raises(ParameterError, match=r"expected (float|int|bool), found"):
            parameters.from_values(Example, bad)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1, "fast", None])
def test_values_out_of_range_are_refused(value):
    with pytest.raises(ParameterError, match="speed: expected"):
        parameters.from_values(Example, {"speed": value})


def test_sections_are_laid_over_the_shared_one(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(
        "/**:\n  ros__parameters: {a: 1, b: 1, group: {c: 1}}\n"
        "/**/node:\n  ros__parameters: {b: 2}\n"
        "/other:\n  ros__parameters: {a: 9}\n"
    )
    assert parameters.read_file(path, "node") == {"a": 1, "b": 2, "group.c": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/**: foo", r"section /\*\* has no ros__parameters"),
        ("/**: 0", r"section /\*\* has no ros__parameters"),
        ("/node: [1]", "section /node has no ros__parameters"),
        ("node: {ros__parameters: 7}", "section node has no ros__parameters"),
        ("/**: {ros__parameters: {day: 2025-13-45}}", "not valid YAML"),
        ("just text", "expected sections of nodes"),
        ("/**: &x {ros__parameters: *x}", r"the alias \*x"),
        ("/**: {ros__parameters: " + "{a: " * 500, "nests deeper"),
        ("/**: {ros__parameters: {a: 1, a: 2}}", "each key once, found 'a'"),
        ("/**: {ros__parameters: {a: " + "1" * 400 + "}}", "number of 64 bits"),
    ],
)
def test_files_of_another_form_are_refused_naming_the_section(tmp_path, text, message):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=message) as caught:
        parameters.read_file(path, "node")
    assert str(path) in str(caught.value)


def test_an_empty_section_holds_nothing(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("/**:\nnode:\n  ros__parameters: {a: 1}\n")
    assert parameters.read_file(path, "node") == {"a": 1}


def test_the_rover_stands_before_another_frame_is_adopted():
    for cls in (BuilderParameters, ActorParameters):
        field = next(f for f in dataclasses.fields(cls) if f.name == "max_input_age_s")
        assert field.metadata["maximum"] < FRAME_SILENCE_S
