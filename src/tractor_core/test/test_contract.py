import dataclasses

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tractor_core import contract, parameters
from tractor_core.errors import ContractError, ParameterError


@pytest.fixture(scope="module")
def ours(params_file):
    return contract.load(params_file)


def test_constants_are_those_of_the_guide(ours):
    assert ours.bev_shape == (2, 128, 128)
    assert ours.resolution_m == 0.03125
    assert ours.proprio_mean == (2.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert ours.proprio_std == (2.0, 1.0, 1.0, 0.2, 1.0, 1.0)
    assert ours.proprio_clip == 3.0
    assert ours.action_space == "tracks"


def test_one_metre_of_lidar_min_normalises_to_minus_one_half(ours):
    raw = np.array([1.0, 0, 0, 0.1, 0, 0])
    np.testing.assert_allclose(contract.normalize(ours, raw), [-0.5, 0, 0, 0.5, 0, 0], atol=1e-7)


@given(hnp.arrays(np.float64, (3, 6), elements=st.floats(-1e6, 1e6)))
def test_normalised_is_clipped_and_finite(raw):
    ours = _default()
    out = contract.normalize(ours, raw)
    assert out.dtype == np.float32 and out.shape == raw.shape
    assert np.abs(out).max() <= 3.0
    expected = np.clip((raw - [2, 0, 0, 0, 0, 0]) / [2, 1, 1, 0.2, 1, 1], -3, 3)
    np.testing.assert_allclose(out, expected, atol=1e-6)


def _default():
    from tractor_core.paths import default_params_file

    return contract.load(default_params_file())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_normalise_refuses_what_is_not_finite_and_names_the_feature(ours, bad):
    raw = np.zeros(6)
    raw[5] = bad
    with pytest.raises(ContractError, match="gap_heading"):
        contract.normalize(ours, raw)


def test_normalise_refuses_another_size(ours):
    with pytest.raises(ContractError, match="expected last dimension 6"):
        contract.normalize(ours, np.zeros(5))


def test_digest_depends_on_every_field(ours):
    changed = {
        "grid_cells": 64,
        "grid_extent_m": 8.0,
        "proprio_mean": (2.0, 0.0, 0.0, 0.0, 0.0, 0.1),
        "proprio_std": (2.0, 1.0, 1.0, 0.2, 1.0, 2.0),
        "proprio_clip": 4.0,
        "action_space": "twist",
    }
    digests = {dataclasses.replace(ours, **{k: v}).digest for k, v in changed.items()}
    assert len(digests | {ours.digest}) == len(changed) + 1


def test_an_integer_in_the_file_is_the_same_contract(params_file, ours):
    values = parameters.read_file(params_file)
    values["observation.grid_extent_m"] = 4
    assert parameters.from_values(contract.Contract, values, contract.PREFIX).digest == ours.digest


def test_mismatch_names_both_digests_and_the_fields(ours):
    other = dataclasses.replace(ours, proprio_clip=5.0)
    with pytest.raises(ContractError) as caught:
        ours.require_same(other.digest, "sample x", other.canonical())
    for text in (ours.digest, other.digest, "proprio_clip: here 3.0, there 5.0", "sample x"):
        assert text in str(caught.value)


def test_all_problems_are_listed_at_once(tmp_path, params_file):
    document = yaml.safe_load(params_file.read_text())
    section = document["/**"]["ros__parameters"]["observation"]
    section["grid_cells"] = "many"
    section["proprio_std"] = [2.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    section["action_space"] = "wheels"
    section["grid_colour"] = "red"
    del section["proprio_clip"]
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(ParameterError) as caught:
        contract.load(path)
    message = str(caught.value)
    for text in ("grid_cells", "proprio_std", "action_space", "grid_colour", "proprio_clip"):
        assert text in message


def test_missing_and_broken_files_say_what_to_do(tmp_path):
    with pytest.raises(ParameterError, match=r"cannot be read.*config/sac_rover\.yaml"):
        contract.load(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(ParameterError, match="not valid YAML"):
        contract.load(broken)


@given(st.dictionaries(st.text(max_size=8), st.none() | st.floats() | st.text(max_size=5)))
def test_any_values_are_refused_with_a_parameter_error_only(values):
    with pytest.raises(ParameterError):
        parameters.from_values(contract.Contract, values, "")
