"""The gate lets nothing through that drives less far or touches more than the best so far."""

import asyncio

import pytest

from tractor_core.errors import TractorError
from tractor_core.paths import default_params_file
from tractor_training import gate
from tractor_training.gate import Drive, GateParameters, Score


def score(*drives, first=gate.FIRST_SEED, seconds=60.0):
    return Score(tuple(Drive(first + n, m, h) for n, (m, h) in enumerate(drives)), seconds)


def test_the_first_is_measured_by_a_rover_that_stands():
    standing = gate.standing(GateParameters(worlds=3))
    assert standing.mean_m == 0.0 and standing.free_runs == 3
    assert gate.judge(score((5.0, 1), (6.0, 0), (7.0, 0)), standing).passed
    assert gate.judge(standing, standing).passed


@pytest.mark.parametrize(
    "candidate, passes, why",
    [
        ([(5.0, 0), (6.0, 0)], True, "5.50 m"),
        ([(5.0, 0), (5.9, 0)], False, "less far"),
        ([(5.0, 0), (9.0, 1)], False, "less far"),
        ([(12.0, 0), (3.0, 1)], False, "touches something in more worlds"),
    ],
)
def test_it_passes_what_is_not_worse(candidate, passes, why):
    found = gate.judge(score(*candidate), score((5.0, 0), (6.0, 0)))
    assert found.passed == passes and why in found.why
    assert "95 % interval of the difference" in found.why


def test_one_that_touches_something_everywhere_does_not_pass():
    standing = gate.standing(GateParameters(worlds=2))
    assert not gate.judge(score((3.0, 5), (4.0, 1)), standing).passed


def test_who_hardly_drives_touches_nothing_and_that_is_no_merit():
    assert gate.judge(score((8.0, 0), (8.0, 1)), score((0.5, 0), (0.5, 0))).passed


def test_scores_of_other_worlds_are_not_compared():
    with pytest.raises(ValueError, match="the same worlds"):
        gate.judge(score((5.0, 0)), score((5.0, 0), first=7))
    with pytest.raises(ValueError, match="for the same time"):
        gate.judge(score((5.0, 0)), score((5.0, 0), seconds=30.0))


def test_a_score_survives_its_file():
    found = score((5.0, 0), (9.0, 2))
    assert Score.from_json(found.as_json()) == found
    assert found.figures == {"mean_m": 7.0, "free_runs": 1, "collisions": 2, "runs": 2}


def test_an_actor_is_driven_in_the_gates_worlds(repository):
    pytest.importorskip("mujoco", reason="the simulator needs it")
    parameters = GateParameters(worlds=2, seconds=3.0)
    model = repository / "models" / "sac_actor_reference.onnx"
    found = asyncio.run(gate.measure(model, str(default_params_file()), parameters))
    assert gate.same_worlds(found, gate.standing(parameters)) and found.mean_m > 0.1


def test_an_actor_that_cannot_be_driven_is_named(tmp_path):
    model = tmp_path / "none.onnx"
    with pytest.raises(TractorError, match=r"none.onnx: could not be driven .*no such file"):
        asyncio.run(gate.measure(model, str(default_params_file()), GateParameters(worlds=1)))
