"""Two drivers in the same worlds: paired differences, intervals, and the worlds that differ."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor_sim import comparison, rollout
from tractor_sim.rollout import FIRST_UNSEEN_SEED, Run


def runs(metres, collisions=None, first_seed=7):
    hits = collisions or [0] * len(metres)
    nothing = np.zeros((0, 4))
    return [
        Run(first_seed + i, distance_m, hit, 0, nothing)
        for i, (distance_m, hit) in enumerate(zip(metres, hits, strict=True))
    ]


@given(st.lists(st.floats(0.0, 20.0), min_size=1, max_size=40))
def test_one_driver_against_itself_does_not_differ(metres):
    found = comparison.compare(("a", "a"), runs(metres), runs(metres))
    assert (found.distance_m.mean, found.distance_m.low, found.distance_m.high) == (0, 0, 0)
    assert found.differing == []


@given(
    st.lists(st.floats(0.0, 20.0), min_size=2, max_size=40),
    st.lists(st.floats(-1.0, 1.0), min_size=40, max_size=40),
)
def test_the_mean_lies_within_its_interval(metres, apart):
    second = [a + b for a, b in zip(metres, apart)]
    found = comparison.compare(("a", "b"), runs(metres), runs(second)).distance_m
    assert found.low - 1e-9 <= found.mean <= found.high + 1e-9
    assert found.mean == pytest.approx(found.second - found.first, abs=1e-9)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        first = rng.normal(8.0, 2.0, 40)
        found = comparison.difference(first, first + rng.normal(0.1, 0.3, 40))
        held += found.low <= 0.1 <= found.high
    # 95 are expected; 87 is about four standard deviations below.
    assert 87 <= held <= 100


def test_the_worlds_that_differ_are_named():
    found = comparison.compare(
        ("actor.onnx", "actor.rknn"), runs([8.0, 8.0, 5.0]), runs([8.1, 8.0, 2.0], [0, 1, 0])
    )
    assert found.differing == [1, 2]
    text = comparison.table(found)
    assert "world 8: 8.00 and 8.00 m, 0 and 1 collisions" in text
    assert "world 9: 5.00 and 2.00 m" in text and "world 7" not in text
    assert json.loads(json.dumps(found.as_json()))["worlds"][1]["collisions"] == [0, 1]


@pytest.mark.parametrize("second", [[], runs([1.0], first_seed=8), runs([1.0, 2.0])])
def test_runs_of_other_worlds_are_not_compared(second):
    with pytest.raises(ValueError, match="in every world"):
        comparison.compare(("a", "b"), runs([1.0]), second)


def test_the_command_compares_and_draws(params_file, repository, tmp_path, capsys):
    model, picture = repository / "models" / "sac_actor_reference.onnx", tmp_path / "both.png"
    arguments = ["--compare", "expert", str(model), "--worlds", "2", "--seconds", "2"]
    arguments += ["--params", str(params_file), "--processes", "1"]
    assert rollout.main([*arguments, "--plot", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert "expert" in printed and "sac_actor_reference.onnx" in printed
    assert "confidence interval" in printed and f"written: {picture}" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert rollout.main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    seeds = [world["seed"] for world in found["worlds"]]
    assert seeds == [FIRST_UNSEEN_SEED, FIRST_UNSEEN_SEED + 1]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--expert", "--plot", "a.png"], "with --compare"),
        (["--compare", "expert", "expert", "--plot", "a.jpg"], "ends in .png or .svg"),
        (["--compare", "expert"], "expected 2 arguments"),
        (["--compare", "expert", "expert", "--expert"], "not allowed with"),
    ],
)
def test_wrong_usage_says_what_was_expected(arguments, why, capsys):
    with pytest.raises(SystemExit) as ended:
        rollout.main(arguments)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err


def test_a_model_that_is_missing_is_named(params_file, tmp_path, capsys):
    missing = tmp_path / "none.rknn"
    arguments = ["--compare", "expert", str(missing), "--worlds", "1", "--seconds", "1"]
    assert rollout.main([*arguments, "--params", str(params_file)]) == 1
    assert str(missing) in capsys.readouterr().err


def test_a_picture_that_cannot_be_written_is_said(params_file, tmp_path, capsys):
    folder = tmp_path / "taken.png"
    folder.mkdir()
    arguments = ["--compare", "expert", "expert", "--worlds", "1", "--seconds", "1"]
    arguments += ["--params", str(params_file), "--plot", str(folder)]
    assert rollout.main(arguments) == 1
    assert str(folder) in capsys.readouterr().err
