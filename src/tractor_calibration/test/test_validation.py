"""Agreement figures against hand-computed numbers, and what the gates refuse."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tractor_calibration import report, validation
from tractor_calibration.validation import Gate
from tractor_inference.errors import ModelError

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
    # Between the two largest errors, 0.06 and 0.1, at 0.99 * 7 of 0..7.
    assert found.p99 == pytest.approx(0.06 + 0.93 * 0.04, abs=1e-5)


def test_actions_are_judged_one_by_one():
    outputs = REFERENCE + np.array([0.0, 0.2], np.float32)
    first, second = validation.compare(REFERENCE, outputs, outputs).actions
    assert (first.mae, first.within_0_05) == (0.0, 1.0)
    assert second.mae == pytest.approx(0.2, abs=1e-6)
    assert second.within_0_05 == 0.0


@given(hnp.arrays(np.float32, (5, 2), elements=st.floats(-1, 1, width=32)))
def test_an_exact_model_passes_and_its_figures_are_plain_json(actions):
    metrics = validation.compare(actions, actions, actions.copy())
    assert validation.gate_problems(metrics, Gate(0.0, 1.0)) == []
    text = json.dumps(metrics.as_json(), allow_nan=False)
    assert json.loads(text)["mae"] == 0.0


CASES = {
    "NaN or Inf": lambda out: np.where(out == 1.0, np.nan, out),
    "outside": lambda out: out * 1.2,
    "constant": lambda out: np.full_like(out, 0.1),
    "mean absolute error": lambda out: np.clip(out + 0.04, -1, 1),
    "within 0.05": lambda out: np.where(np.abs(out) == 0.5, out + 0.06, out),
}


@pytest.mark.parametrize("sentence", CASES)
def test_gates_name_what_is_wrong(sentence):
    outputs = CASES[sentence](REFERENCE).astype(np.float32)
    metrics = validation.compare(REFERENCE, outputs, outputs.copy())
    problems = validation.gate_problems(metrics, Gate(0.03, 0.97))
    assert any(sentence in problem for problem in problems)


@pytest.mark.parametrize(
    ("frames", "outside", "least", "passes"),
    [
        (4, 2, 0.97, True),  # one frame never decides
        (4, 3, 0.97, False),
        (25, 2, 0.97, True),
        (25, 3, 0.97, False),
        (49, 2, 1.0, True),
        (50, 2, 1.0, False),  # from 100 values on, the share alone
        (50, 3, 0.97, True),
        (50, 4, 0.97, False),
        (200, 12, 0.97, True),
        (200, 13, 0.97, False),
        (4, 8, 0.0, True),
        (1, 2, 0.97, True),
    ],
)
def test_the_share_is_judged_by_no_single_frame(frames, outside, least, passes):
    reference = np.linspace(-0.9, 0.9, 2 * frames, dtype=np.float32).reshape(frames, 2)
    outputs = reference.copy()
    outputs.ravel()[:outside] += 0.06
    metrics = validation.compare(reference, outputs, outputs)
    problems = validation.gate_problems(metrics, Gate(0.1, least))
    assert (problems == []) == passes


def test_other_actions_for_the_same_frames_are_refused():
    metrics = validation.compare(REFERENCE, REFERENCE, REFERENCE + np.float32(1e-6))
    assert "same actions twice" in validation.gate_problems(metrics, Gate(0.03))[0]


def test_a_constant_original_does_not_accuse_the_model():
    still = np.full((4, 2), 0.3, np.float32)
    assert not validation.compare(still, still, still).constant


def test_synthetic_frames_follow_the_contract(contract):
    from tractor_inference.samples import sample_problems

    frames = validation.synthetic_frames(contract, 20)
    assert all(not sample_problems(f.bev, f.proprio, contract) for f in frames)
    again = validation.synthetic_frames(contract, 20)
    assert all(np.array_equal(a.proprio, b.proprio) for a, b in zip(frames, again))


def test_an_onnx_that_answers_nan_is_refused(tmp_path, contract, actor_writer, frame_maker):
    pytest.importorskip("onnxruntime")
    data = actor_writer(tmp_path / "actor.onnx", scale=float("nan")).read_bytes()
    with pytest.raises(ModelError, match="answers NaN or Inf on 1 of 1"):
        validation.reference_actions(data, contract, [frame_maker(np.random.default_rng(0))])


def test_the_report_escapes_names_and_draws_every_action():
    figures = validation.compare(REFERENCE, REFERENCE, REFERENCE).as_json()
    result = {
        "model": "m.rknn",
        "precision": "fp16",
        "target": "rk3588",
        "onnx": "<b>.onnx",
        "onnx_bytes": 10,
        "actions": ["left", "right"],
        "toolkit": "2",
        "notes": ["a & b"],
        "samples": {"found": 1, "usable": 0, "calibration": 0, "rejected": ["bad<file>"]},
        "validation": {"frames": 4, "source": "samples", "fp16": {"bytes": 10, **figures}},
    }
    page = report.render(result, REFERENCE, {"fp16": REFERENCE})
    assert page.count("<circle") == REFERENCE.size
    assert "<b>.onnx" not in page
    assert "bad&lt;file&gt;" in page
    assert "a &amp; b" in page
    assert "http" not in page
