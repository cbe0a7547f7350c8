import numpy as np
import pytest

from tractor_inference import contract as contract_module
from tractor_inference import robot as robot_module
from tractor_inference.backends.fake import FakeBackend
from tractor_inference.errors import ContractError, ModelError
from tractor_inference.paths import default_params_file
from tractor_inference.policy import Policy, checked_action

CONTRACT = contract_module.load(default_params_file())
ROBOT = robot_module.load(default_params_file())
EMPTY = np.zeros(CONTRACT.bev_shape, np.float32)


def policy(answer=(0.5, -0.5)):
    backend = FakeBackend(CONTRACT, lambda frame: np.array([answer], np.float32))
    return Policy(CONTRACT, ROBOT, backend)


def test_the_last_action_is_the_one_that_was_sent():
    ours = policy()
    first = ours.step(EMPTY, 2.0, 0.0, 0.0, 0.0)
    unsent = ours.step(EMPTY, 2.0, 0.0, 0.0, 0.0)
    assert unsent.proprio[1:3].tolist() == [0.0, 0.0]
    ours.sent(first)
    assert ours.step(EMPTY, 2.0, 0.0, 0.0, 0.0).proprio[1:3].tolist() == [0.5, -0.5]
    ours.stop()
    assert ours.step(EMPTY, 2.0, 0.0, 0.0, 0.0).proprio[1:3].tolist() == [0.0, 0.0]


def test_a_model_that_takes_over_knows_the_last_action_that_was_sent():
    old, new = policy((0.5, -0.5)), policy((0.1, 0.1))
    old.sent(old.step(EMPTY, 2.0, 0.0, 0.0, 0.0))
    new.take_over(old)
    assert new.step(EMPTY, 2.0, 0.0, 0.0, 0.0).proprio[1:3].tolist() == [0.5, -0.5]


def test_velocity_follows_the_tracks():
    decision = policy((1.0, 0.0)).step(EMPTY, 2.0, 0.0, 0.0, 0.0)
    assert decision.velocity == pytest.approx((0.09, -0.5))


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
        policy().step(EMPTY, 2.0, 0.0, float("nan"), 0.0)


def test_features_beyond_the_contracts_range_are_counted():
    ours = policy()
    ours.step(EMPTY, 2.0, 0.0, 5.0, 0.0)
    assert ours.clipped["cur_lin"] == 1 and ours.clipped["lidar_min"] == 0
    ours.warm_up()
    assert sum(ours.clipped.values()) == 0
