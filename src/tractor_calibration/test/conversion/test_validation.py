"""Agreement figures against hand-computed numbers, and what the gates refuse."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tractor_calibration.conversion import validation
from tractor_calibration.parameters import ConvertParameters
from tractor_calibration.samples.reference import reference_actions
from tractor_calibration.samples.split import synthetic_frames
from tractor_core.errors import ModelError

PARAMETERS = ConvertParameters()

REFERENCE = np.array([[0.5, -0.5], [1.0, 0.0], [-1.0, 0.5], [0.25, 1.0]], np.float32)


def test_agreement_by_hand():
    outputs = REFERENCE + np.array([[0.01, 0.0], [-0.03, 0.0], [0.0, 0.1], [0.0, 0.06]], np.float32)
    found = validation.agreement(REFERENCE, outputs)
    assert found.mae == pytest.approx(0.2 / 8, abs=1e-6)
    assert found.max == pytest.approx(0.1, abs=1e-6)
    assert found.within_0_05 == 6 / 8
    signal = 0.25 + 0.25 + 1 + 0 + 1 + 0.25 + 0.0625 + 1
    noise = 0.01**2 + 0.03**2 + 0.1**2 + 0.06**2
    assert found.sqnr_db == pytest.approx(10 * math.log10(signal / noise), abs=1e-3)
    # Of few values the second largest: one frame never decides.
    assert found.p99 == pytest.approx(0.06, abs=1e-6)
    variation = np.sum((REFERENCE - REFERENCE.mean()) ** 2)
    assert found.r2 == pytest.approx(1 - noise / variation, abs=1e-5)
    assert found.spread == pytest.approx(REFERENCE.std(), abs=1e-6)
    assert found.sign_agreement == 1.0


def test_signs_count_where_the_onnx_has_one():
    reference = np.array([0.5, -0.5, 0.04, -0.04, 0.06], np.float32)
    outputs = np.array([0.5, 0.1, -0.04, 0.04, -0.01], np.float32)
    assert validation.agreement(reference, outputs).sign_agreement == pytest.approx(1 / 3)
    assert validation.agreement(reference * 0, outputs).sign_agreement == 1.0


def test_answers_that_are_no_numbers_are_errors_of_the_whole_range():
    outputs = np.where(REFERENCE == 1.0, np.nan, REFERENCE)
    metrics = validation.compare(REFERENCE, outputs, outputs)
    assert metrics.overall.max == 2.0
    json.dumps(metrics.as_json(), allow_nan=False)


def test_actions_are_judged_one_by_one():
    outputs = REFERENCE + np.array([0.0, 0.2], np.float32)
    first, second = validation.compare(REFERENCE, outputs, outputs).actions
    assert (first.mae, first.within_0_05) == (0.0, 1.0)
    assert second.mae == pytest.approx(0.2, abs=1e-6)
    assert second.within_0_05 == 0.0


def judged(reference, outputs, params=PARAMETERS, quantised=True):
    metrics = validation.compare(reference, outputs, outputs.copy())
    return validation.judge_both(metrics, None, ("left", "right"), params, quantised)


@given(hnp.arrays(np.float32, (5, 2), elements=st.floats(-1, 1, width=32)))
def test_an_exact_model_never_fails_and_its_figures_are_plain_json(actions):
    verdict = judged(actions, actions)
    assert not verdict.failures
    assert all("inconclusive" in warning for warning in verdict.warnings)
    metrics = validation.compare(actions, actions, actions.copy())
    text = json.dumps(metrics.as_json(), allow_nan=False)
    assert json.loads(text)["mae"] == 0.0


# 400 frames that turn evenly from one side to the other.
MANY = np.stack([np.linspace(-0.9, 0.9, 400), np.linspace(0.9, -0.9, 400)], axis=1)
MANY = MANY.astype(np.float32)


def wrong_frames(count, error):
    """Return MANY with the action `left` of every so many-th frame wrong."""
    outputs = MANY.copy()
    outputs[:: len(MANY) // count, 0][:count] += np.float32(error)
    return outputs


FAILURES = {
    "NaN or Inf": lambda out: np.where(out > 0.89, np.nan, out),
    "outside": lambda out: out * 1.2,
    "constant": lambda out: np.full_like(out, 0.1),
    "left: mean absolute error": lambda out: out + np.array([0.04, 0.0]),
    "right: mean absolute error": lambda out: out + np.array([0.0, 0.04]),
    "left: share within 0.05": lambda out: wrong_frames(16, 0.06),
    "left: SQNR in dB": lambda out: out * np.array([1.1, 1.0]) * 0.995,
}
WARNINGS = {
    "left: mean absolute error": lambda out: out + np.array([0.02, 0.0]),
    "right: p99": lambda out: MANY + (wrong_frames(8, 0.06) - MANY)[:, ::-1],
    "left: largest error": lambda out: wrong_frames(1, 0.2),
    "left: share within 0.05": lambda out: wrong_frames(8, 0.06),
    "left: SQNR in dB": lambda out: out * np.array([1.05, 1.0]),
    "right: share of equal signs": lambda out: np.where(
        np.abs(np.abs(out) - 0.056) < 0.006, -np.sign(out) * np.array([0, 1]) * 1e-3, out
    ),
}


def test_a_good_model_passes():
    verdict = judged(MANY, MANY + np.float32(0.004))
    assert (verdict.word, verdict.failures, verdict.warnings) == ("pass", (), ())


@pytest.mark.parametrize("sentence", FAILURES)
def test_a_failure_is_named_with_its_action(sentence):
    verdict = judged(MANY, FAILURES[sentence](MANY).astype(np.float32))
    assert verdict.word == "fail"
    assert any(sentence in problem for problem in verdict.failures)


@pytest.mark.parametrize("sentence", WARNINGS)
def test_between_pass_and_fail_there_are_warnings(sentence):
    verdict = judged(MANY, WARNINGS[sentence](MANY).astype(np.float32))
    assert verdict.word == "warn", verdict.failures
    assert any(sentence in problem for problem in verdict.warnings), verdict.warnings


def test_r2_is_a_gate_of_its_own():
    # Far from zero and moving little: the error is small against the action, not against its
    # movement.
    reference = np.stack([0.8 + 0.09 * np.sin(np.arange(400)), MANY[:, 1]], axis=1)
    wrong = reference + np.array([0.008, 0.0]) * np.sign(np.sin(3 * np.arange(400)))[:, None]
    verdict = judged(reference.astype(np.float32), wrong.astype(np.float32))
    assert [warning.split(":")[1].strip() for warning in verdict.warnings] == ["R2"]


def test_an_actor_that_hardly_moves_is_said_to_prove_little():
    reference = np.stack([np.full(400, 0.5), MANY[:, 1]], axis=1).astype(np.float32)
    verdict = judged(reference, reference + np.float32(0.004))
    assert verdict.word == "warn"
    assert [warning.split(",")[0] for warning in verdict.warnings] == ["left: inconclusive"]
    # What does not hang on how much it moves is judged as ever.
    assert judged(reference, reference + np.array([0.04, 0.0], np.float32)).word == "fail"
    assert judged(reference, reference + np.array([0.02, 0.0], np.float32)).word == "warn"


def on_both(reference, on_drives, beyond):
    """Judge a model that errs so much on drives on which the left action hardly moves, and so much
    beyond them, where it does.
    """
    metrics = [
        validation.compare(where, where + np.float32(error), where[:0])
        for where, error in ((reference, on_drives), (MANY, beyond))
    ]
    return validation.judge_both(*metrics, ("left", "right"), PARAMETERS, True)


def test_a_pass_needs_the_drives_and_what_is_beyond_them():
    still = np.stack([np.full(400, 0.5), MANY[:, 1]], axis=1).astype(np.float32)
    good = on_both(still, 0.004, 0.004)
    # What the drives leave open is answered beyond them.
    assert good.word == "pass"
    assert [remark.split(",")[0] for remark in good.remarks] == ["left: inconclusive"]
    assert on_both(MANY, 0.004, 0.02).word == "warn"
    failed = on_both(MANY, 0.004, 0.4)
    assert failed.word == "fail"
    assert all(reason.startswith("beyond your drives: ") for reason in failed.failures)
    assert on_both(MANY, 0.4, 0.004).word == "fail"


def test_an_action_that_moves_on_either_set_is_not_inconclusive():
    still = np.stack([np.full(400, 0.5), MANY[:, 1]], axis=1).astype(np.float32)
    metrics = [validation.compare(where, where + np.float32(0.004), where[:0])
               for where in (MANY, still)]  # fmt: skip
    names = ("left", "right")
    assert validation.judge_both(*metrics, names, PARAMETERS, True).word == "pass"
    both = validation.judge_both(metrics[1], metrics[1], names, PARAMETERS, True)
    assert [warning.split(",")[0] for warning in both.warnings] == ["left: inconclusive"]


def test_beyond_the_drives_one_wrong_sign_is_a_warning():
    wrong = MANY.copy()
    # 0.05 is where signs begin to count.
    at = np.flatnonzero(MANY[:, 0] > 0.05)[0]
    wrong[at, 0] = -0.01
    metrics = [validation.compare(MANY, answers, MANY[:0]) for answers in (MANY, wrong)]
    verdict = validation.judge_both(*metrics, ("left", "right"), PARAMETERS, True)
    (warning,) = [x for x in verdict.warnings if "sign" in x]
    signed = metrics[1].actions[0].signed
    assert warning == f"beyond your drives: left: expected no wrong sign, found 1 of {signed}"


def test_one_sign_alone_never_decides():
    reference = np.stack([np.full(200, 0.01), np.full(200, 0.01)], axis=1).astype(np.float32)
    reference[:11, 0] = 0.051
    reference[100:, 1] = 0.6
    outputs = reference.copy()
    outputs[0, 0] = -0.001
    verdict = judged(reference, outputs)
    assert not any("signs" in warning for warning in verdict.warnings)


@pytest.mark.parametrize(("error", "word"), [(0.0009, "pass"), (0.0011, "fail")])
def test_fp16_has_one_gate(error, word):
    assert judged(MANY, MANY + np.float32(error), quantised=False).word == word


@pytest.mark.parametrize(
    ("frames", "outside", "word"),
    [(4, 1, "pass"), (4, 2, "fail"), (99, 1, "pass"), (99, 2, "warn"), (200, 2, "pass"),
     (200, 3, "warn"), (200, 6, "warn"), (200, 7, "fail")],
)  # fmt: skip
def test_no_single_frame_decides_a_share(frames, outside, word):
    line = np.linspace(-0.9, 0.9, frames, dtype=np.float32)
    reference = np.stack([line, line], axis=1)
    outputs = reference.copy()
    outputs[:outside, 0] += np.float32(0.055)
    open_gates = dataclasses.replace(
        PARAMETERS, pass_max_mae=2.0, fail_max_mae=2.0, pass_max_p99=2.0, pass_min_sqnr_db=-200.0,
        fail_min_sqnr_db=-200.0, pass_min_r2=0.0,
    )  # fmt: skip
    assert judged(reference, outputs, open_gates).word == word


def test_other_actions_for_the_same_frames_are_refused():
    metrics = validation.compare(MANY, MANY, MANY + np.float32(1e-6))
    verdict = validation.judge(metrics, ("left", "right"), PARAMETERS, True)
    assert "same actions twice" in verdict.failures[0]


def test_a_constant_original_does_not_accuse_the_model():
    still = np.full((4, 2), 0.3, np.float32)
    assert not validation.compare(still, still, still).constant


def test_synthetic_frames_follow_the_contract(contract):
    from tractor_core.samples import sample_problems

    frames = list(synthetic_frames(contract, 20))
    assert all(not sample_problems(f.bev, f.proprio, contract) for f in frames)
    again = list(synthetic_frames(contract, 20))
    assert all(np.array_equal(a.proprio, b.proprio) for a, b in zip(frames, again))


def test_an_onnx_that_answers_nan_is_refused(tmp_path, contract, actor_writer, frame_maker):
    pytest.importorskip("onnxruntime")
    data = actor_writer(tmp_path / "actor.onnx", scale=float("nan")).read_bytes()
    with pytest.raises(ModelError, match="answers NaN or Inf on 1 of 1"):
        reference_actions(data, contract, [frame_maker(np.random.default_rng(0))])
