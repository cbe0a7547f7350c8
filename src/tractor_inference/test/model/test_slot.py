"""Which model drives, and what becomes of the others: no ROS, no clock."""

import dataclasses
import hashlib
import threading

import numpy as np
import pytest

from tractor_core import robot as robot_module
from tractor_core.errors import ContractError, ModelError
from tractor_core.observation import Observation
from tractor_core.paths import default_params_file
from tractor_inference.actor_parameters import ActorParameters
from tractor_inference.model import opener
from tractor_inference.model.backends.fake import FakeBackend
from tractor_inference.model.hung import HungNote
from tractor_inference.model.slot import FAILURES_BEFORE_REOPEN, ModelSlot
from tractor_inference.model.trial import TRIAL_FRAMES

WAIT_S = 20.0


class Word(FakeBackend):
    """A model that is a word: how it opens and answers."""

    def _release(self):
        self.closed.append(self.text)


class Rig:
    """A slot whose models are files that hold a word, and what it is driven with."""

    def __init__(self, folder, contract, monkeypatch):
        self.contract, self.model, self.folder = contract, folder / "model", folder
        self.closed: list[str] = []
        self.loosened = threading.Event()
        monkeypatch.setattr(opener, "open_backend", self.open)
        self.parameters = ActorParameters(model=str(self.model))
        self.hung = HungNote(folder / "samples")
        self.slot = self.make()

    def make(self):
        robot = robot_module.load(default_params_file())
        return ModelSlot(self.contract, robot, self.parameters, self.hung)

    def open(self, kind, path, contract, core_mask):
        text = path.read_text()
        if text == "broken":
            raise ModelError("broken file")
        if text == "stuck":
            self.loosened.wait(WAIT_S)

        def script(frame):
            flaky = text == "flaky" and frame % 4 != 3
            if frame == 0 or flaky or text.startswith("weave"):  # the first proves it
                return np.array([[0.5, 0.3 * (frame % 2)]], np.float32)
            if text == "nan":
                return np.full((1, 2), np.nan, np.float32)
            if text == "blind":
                raise ContractError("cur_lin: expected a finite value")
            if text == "hang":
                self.loosened.wait(WAIT_S)
            raise RuntimeError("the runtime returned nothing")

        backend = Word(contract, script)
        backend.text, backend.closed = text, self.closed
        backend.digest = self.digest(text)
        return backend

    @staticmethod
    def digest(text):
        return hashlib.sha256(text.encode()).hexdigest()

    def fill(self, text="weave"):
        self.model.write_text(text)
        self.slot.install(self.slot.open_first())

    def reload(self, text):
        self.model.write_text(text)
        return self.slot.reload().result(WAIT_S)

    @property
    def observation(self):
        bev = np.zeros(self.contract.bev_shape, np.float32)
        return Observation(bev, np.array([2.0, 0, 0, 0, 0, 0], np.float32), 7)

    def drive(self, frames=1, now_s=0.0):
        """Drive frames as the node does; return the last decision, None after a failure."""
        decision = None
        for _ in range(frames):
            try:
                decision = self.slot.infer(self.observation)
            except Exception as error:
                self.slot.failed(error, now_s)
                decision = None
                continue
            if decision is not None:
                self.slot.judge(self.observation, decision, 0.002)
        return decision

    def await_opening(self):
        """Wait until no model is being opened."""
        assert self.slot._opener._turn.acquire(timeout=WAIT_S)
        self.slot._opener._turn.release()

    def await_closed(self, *texts):
        for _ in range(2000):
            if self.closed == [*texts]:
                return
            threading.Event().wait(0.005)
        raise AssertionError(self.closed)

    @property
    def drives(self):
        return self.slot.policy.backend.text


@pytest.fixture
def rig(tmp_path, contract, monkeypatch):
    rig = Rig(tmp_path, contract, monkeypatch)
    yield rig
    rig.loosened.set()


def test_an_empty_slot_answers_nothing(rig):
    assert rig.drive() is None and rig.slot.describe() == {}
    rig.fill()
    assert rig.drive().action.tolist() == pytest.approx([0.5, 0.3])
    assert rig.slot.describe() == {"backend": "fake", "model sha256": rig.digest("weave")}
    rig.slot.empty()
    assert rig.drive() is None and rig.closed == ["weave"]


def test_a_new_model_is_on_trial_and_frees_the_one_before_when_it_passes(rig):
    rig.fill()
    assert rig.digest("weave better") in rig.reload("weave better")
    rig.drive(TRIAL_FRAMES - 1)
    frames = f"{TRIAL_FRAMES - 1} of {TRIAL_FRAMES} frames"
    assert rig.slot.describe()["model trial"] == frames and not rig.closed
    rig.drive()
    rig.await_closed("weave")
    assert rig.drives == "weave better" and "model trial" not in rig.slot.describe()


def test_the_answers_of_a_trial_are_known_by_their_model(rig):
    rig.fill()
    drives = rig.drive().backend
    assert not rig.slot.on_trial
    rig.reload("weave better")
    better = rig.drive().backend
    assert rig.slot.on_trial and better is rig.slot.policy.backend is not drives
    rig.drive(TRIAL_FRAMES)
    assert not rig.slot.on_trial


@pytest.mark.parametrize("text", ["nan", "raise"])
def test_a_model_that_misbehaves_is_rolled_back_and_only_taken_when_asked_for(rig, text):
    rig.fill()
    rig.reload(text)
    assert rig.drive() is None
    refusal = f"rolled back: sha256 {rig.digest(text)} to {rig.digest('weave')}: "
    assert rig.slot.refusal.startswith(refusal)
    assert rig.drives == "weave" and rig.drive() is not None
    rig.await_closed(text)
    # The watch sees the file once it has settled, and leaves it out.
    rig.model.write_text("weave again")
    rig.model.write_text(text)
    for _ in range(3):
        rig.slot.look()
        rig.await_opening()
    assert rig.drives == "weave"
    rig.reload(text)
    assert rig.drives == text


def test_an_observation_at_fault_refuses_no_model(rig):
    rig.fill()
    rig.reload("blind")
    rig.drive(10)
    assert rig.drives == "blind" and rig.slot.refusal is None


def test_what_cannot_be_opened_leaves_the_one_that_drives(rig):
    rig.fill()
    with pytest.raises(ModelError, match="broken file"):
        rig.reload("broken")
    assert rig.slot.describe()["model refused"] == "not taken: broken file"
    assert rig.drives == "weave" and rig.drive() is not None
    rig.reload("weave better")
    assert rig.slot.refusal is None


def test_failures_in_a_row_open_the_same_model_anew_with_growing_delays(rig, caplog):
    rig.fill("raise")
    rig.model.write_text("weave")  # what the path leads to meanwhile is not what drove
    for now_s, opened in ((0.0, 1), (0.5, 1), (1.5, 2), (2.5, 2), (4.0, 3)):
        rig.drive(FAILURES_BEFORE_REOPEN, now_s)
        rig.await_opening()
        assert caplog.text.count("opening the model anew") == opened
    assert "cannot open the model anew" in caplog.text and rig.drives == "raise"
    rig.model.write_text("raise")
    rig.drive(FAILURES_BEFORE_REOPEN, 10.0)
    rig.await_opening()
    rig.await_closed("weave", "weave", "weave", "raise")


def test_a_model_that_fails_too_often_a_minute_is_stopped_until_a_reload(rig):
    rig.fill("flaky")
    borne = rig.parameters.max_outages_a_minute
    # Never three in a row: it would drive between its stops for ever.
    rig.drive(4 * borne, now_s=10.0)
    assert rig.slot.problem is None
    rig.drive(4, now_s=69.0)
    assert rig.slot.problem == (
        "the model failed 6 times within 60 s, at last: the runtime returned nothing; call "
        "~/reload_model, with a better model or to try this one again"
    )
    rig.drive(1, now_s=1000.0)
    assert rig.slot.problem is not None
    rig.reload("weave")
    assert rig.slot.problem is None and rig.drive() is not None


def test_one_long_outage_is_one_however_often_the_model_is_opened_anew(rig):
    rig.fill("raise")
    for second in range(120):
        rig.drive(FAILURES_BEFORE_REOPEN, now_s=float(second))
        rig.await_opening()
    assert rig.slot.problem is None


def test_outages_a_minute_apart_are_borne(rig):
    rig.fill("flaky")
    for minute in range(20):
        rig.drive(4, now_s=20.0 * minute)
    assert rig.slot.problem is None


def test_one_model_is_opened_at_a_time_and_what_comes_late_is_closed(rig, monkeypatch):
    monkeypatch.setattr(opener, "OPEN_LIMIT_S", 0.05)
    rig.fill()
    rig.model.write_text("stuck")
    opening = rig.slot.reload()
    with pytest.raises(ModelError, match="busy: a model is being opened"):
        rig.slot.reload()
    with pytest.raises(ModelError, match=r"expected the model open within 0\.05 s"):
        opening.result(WAIT_S)
    rig.loosened.set()
    rig.await_closed("stuck")
    assert rig.drives == "weave"


def test_what_opens_after_the_slot_was_emptied_does_not_drive(rig):
    rig.fill()
    rig.model.write_text("stuck")
    opening = rig.slot.reload()
    rig.slot.empty()
    rig.loosened.set()
    with pytest.raises(ModelError, match="cleaned up while the model was being opened"):
        opening.result(WAIT_S)
    rig.await_closed("weave", "stuck")
    assert rig.slot.policy is None


def test_a_model_that_hangs_on_trial_is_refused_by_the_next_start(rig):
    rig.fill()
    rig.slot.note_hung()
    assert rig.hung.digest() == ""
    rig.reload("hang")
    asking = threading.Thread(target=rig.drive, daemon=True)
    asking.start()
    for _ in range(2000):
        if rig.slot._asking:
            break
        threading.Event().wait(0.005)
    rig.slot.note_hung()
    assert rig.hung.digest() == rig.digest("hang")
    after = rig.make()
    with pytest.raises(ModelError, match="or hung on trial: let the model before drive"):
        after.open_first()
    # Asked for, it is tried again, and the note is gone.
    rig.model.write_text("weave")
    after.install(after.open_first())
    rig.model.write_text("hang")
    after.reload().result(WAIT_S)
    assert rig.hung.digest() == ""
    rig.loosened.set()
    asking.join(WAIT_S)


def test_the_budget_of_the_parameters_judges_late_answers(rig):
    rig.parameters = dataclasses.replace(rig.parameters, inference_budget_s=0.001)
    rig.slot = rig.make()
    rig.fill()
    rig.reload("weave better")
    rig.drive(20)
    assert "expected answers within 1 ms" in rig.slot.refusal and rig.drives == "weave"
