"""A new model's first seconds, frame by frame, without a clock."""

import numpy as np
import pytest

from tractor_core import contract as contract_module
from tractor_core import robot as robot_module
from tractor_core.observation import Observation
from tractor_core.paths import default_params_file
from tractor_inference.model.backends.fake import FakeBackend
from tractor_inference.model.policy import Policy
from tractor_inference.model.trial import STILL_FRAMES, TRIAL_FRAMES, Trial
from tractor_inference.model.watch import ModelWatch

CONTRACT = contract_module.load(default_params_file())
ROBOT = robot_module.load(default_params_file())
BUDGET_S = 0.033


def policy(answer):
    """A policy that answers frame i with the action answer(i)."""
    backend = FakeBackend(CONTRACT, lambda frame: np.array([answer(frame)], np.float32))
    return Policy(CONTRACT, ROBOT, backend)


def weaving(size):
    return lambda frame: (size * (frame % 2), 0.1)


def constant(frame):
    return (0.5, 0.5)


def run(new, before, took_s=lambda frame: 0.002, frames=TRIAL_FRAMES):
    """Drive a trial; return (refusal or None, frames that were driven)."""
    trial = Trial(policy(new), policy(before), BUDGET_S)
    seen = Observation(
        np.zeros(CONTRACT.bev_shape, np.float32),
        np.array([2.0, 0, 0, 0, 0, 0], np.float32),
        stamp_ns=7,
    )
    for frame in range(frames):
        assert not trial.passed
        decision = trial.policy.step(seen)
        refusal = trial.answered(seen, decision, took_s(frame))
        if refusal is not None:
            return refusal, frame + 1
    assert trial.passed
    return None, frames


def test_a_model_that_answers_in_time_and_follows_the_frames_passes():
    assert run(weaving(0.3), weaving(0.3)) == (None, TRIAL_FRAMES)


def test_a_constant_answer_is_refused_where_the_model_before_moves():
    refusal, frames = run(constant, weaving(0.3))
    assert frames == STILL_FRAMES
    assert "[0.5, 0.5] to all of 30 to which the model before answered up to 0.30 apart" in refusal


STEP = np.float32(2 / 255)


@pytest.mark.parametrize("level", [-0.5, 0.0, 0.1, 0.3, 0.7])
def test_jitter_of_one_step_of_int8_is_constant_and_of_two_is_not(level):
    def jitter(steps):
        return lambda frame: (np.float32(level) + steps * STEP * (frame % 2), 0.1)

    assert run(jitter(1), weaving(0.3))[0] is not None
    assert run(jitter(2), weaving(0.3))[0] is None


@pytest.mark.parametrize("before", [constant, weaving(0.1)])
def test_a_constant_answer_passes_where_nothing_moves(before):
    assert run(constant, before)[0] is None


def test_the_model_before_is_asked_only_until_the_new_one_moves():
    asked = []
    run(weaving(0.3), lambda frame: (asked.append(frame), 0.1)[1:] * 2)
    assert len(asked) == 1


def test_a_model_before_that_fails_meanwhile_refuses_nothing(caplog):
    def fail(frame):
        raise RuntimeError("the NPU is gone")

    assert run(constant, fail)[0] is None
    assert "cannot be compared with: the NPU is gone" in caplog.text


@pytest.mark.parametrize(
    ("took_s", "late", "frames"),
    [
        # Steadily a little late; so late that the rover stands still for each.
        ((0.040,), 16, 16),
        ((1.5,), 3, 3),
        # An answer in time in between changes nothing.
        ((0.250, 0.250, 0.002), 3, 4),
        ((0.002, 0.250), 3, 6),
        ((0.040, 0.040, 0.002), 16, 23),
    ],
)
def test_answers_that_keep_being_late_are_refused(took_s, late, frames):
    refusal, driven = run(weaving(0.3), weaving(0.3), lambda frame: took_s[frame % len(took_s)])
    assert driven == frames
    assert f"within 33 ms, found {late} of the last {frames} later, by " in refusal


def test_a_stall_of_the_machine_is_not_the_models_fault():
    late = {10: 0.5, 50: 0.1, 51: 0.1, 90: 2.0} | dict.fromkeys(range(120, 130), 0.040)
    assert run(weaving(0.3), weaving(0.3), lambda frame: late.get(frame, 0.002))[0] is None


def test_the_watch_waits_until_a_change_has_settled_and_says_it_until_it_is_opened():
    watch = ModelWatch()
    watch.opening(("a", 1))
    assert not watch.changed(("a", 1))
    assert not watch.changed(("b", 1))
    assert not watch.changed(("b", 2))
    assert watch.changed(("b", 2)) and watch.changed(("b", 2))
    watch.opening(("b", 2))
    assert not watch.changed(("b", 2))
    # There and back again within one look is no change.
    assert not watch.changed(("c", 1))
    assert not watch.changed(("b", 2))
    assert not watch.changed(("b", 2))
