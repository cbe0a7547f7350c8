import numpy as np
import pytest

from tractor_core import contract as contract_module
from tractor_core import robot as robot_module
from tractor_core.errors import ContractError, ModelError
from tractor_core.observation import Observation
from tractor_core.paths import default_params_file
from tractor_inference.model.backends.fake import FakeBackend
from tractor_inference.model.policy import Policy, checked_action

CONTRACT = contract_module.load(default_params_file())
ROBOT = robot_module.load(default_params_file())


def seen(**features):
    """An empty grid; features by name."""
    values = {"lidar_min": 2.0} | features
    raw = [values.get(name, 0.0) for name in CONTRACT.proprio_names]
    return Observation(
        np.zeros(CONTRACT.bev_shape, np.float32), np.array(raw, np.float32), stamp_ns=7
    )


def policy(answer=(0.5, -0.5)):
    backend = FakeBackend(CONTRACT, lambda frame: np.array([answer], np.float32))
    return Policy(CONTRACT, ROBOT, backend)


def test_velocity_follows_the_tracks():
    decision = policy((1.0, 0.0)).step(seen())
    assert decision.velocity == pytest.approx((0.09, -0.5))
    assert decision.action.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    "output",
    [None, np.zeros(2, np.float32), np.full((1, 2), np.nan), np.full((1, 2), np.inf),
     np.array([[1.1, 0.0]])],
)  # fmt: skip
def test_answers_that_are_no_actions_are_refused(output):
    with pytest.raises(ModelError, match="action: expected"):
        checked_action(output)


def test_rounding_beyond_one_is_clipped():
    assert checked_action(np.array([[1.005, -1.005]], np.float32)).tolist() == [1.0, -1.0]


def test_observations_that_are_not_finite_are_refused():
    with pytest.raises(ContractError, match="cur_lin"):
        policy().step(seen(cur_lin=float("nan")))


def test_features_beyond_the_contracts_range_are_named():
    assert policy().step(seen()).clipped == ()
    assert policy().step(seen(cur_lin=5.0)).clipped == ("cur_lin",)
