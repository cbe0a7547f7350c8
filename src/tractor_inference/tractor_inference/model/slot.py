"""The model that drives: opened, tried, rolled back, watched and opened anew. No ROS.

One model drives. A new one that takes over is on trial, and the one before stays open meanwhile, to
drive again when the new one misbehaves. One lock is held while a model answers or is replaced, so
that none is closed under a running inference.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from tractor_core.background import in_background
from tractor_core.contract import Contract
from tractor_core.errors import ContractError, ModelError
from tractor_core.observation import Observation
from tractor_core.robot import Robot

from .hung import HungNote
from .opener import ModelParameters, Opener
from .outages import Outages
from .policy import Decision, Policy
from .trial import TRIAL_FRAMES, Trial

T = TypeVar("T")

FAILURES_BEFORE_REOPEN = 3
REOPEN_DELAY_S, MAX_REOPEN_DELAY_S = 1.0, 10.0


class ModelSlot:
    """Holds the model that drives.

        slot = ModelSlot(contract, robot, parameters, HungNote(folder))
        slot.install(slot.open_first())
        decision = slot.infer(observation)
        slot.judge(observation, decision, took_s)

    `infer`, `on_trial`, `failed`, `judge` and `tidy` are for one thread, the others for any.

    Args:
        parameters: says which model, in which backend.
        hung: where it is noted that a model hung.
        log: has `info` and `error` of one text.

    Attributes:
        refusal: why the last model that was to take over does not drive, or None.
    """

    def __init__(
        self,
        contract: Contract,
        robot: Robot,
        parameters: ModelParameters,
        hung: HungNote,
        log: Any = None,
    ) -> None:
        self._own, self._hung = parameters, hung
        self._log = log or logging.getLogger(__name__)
        self._policy: Policy | None = None
        # Of the policy, while it is on trial.
        self._trial: Trial | None = None
        # Whose policy was asked last; while it is asked, what hangs is that one.
        self._asked: Trial | None = None
        self._asking = False
        # Counts the times at which it was filled or emptied from outside.
        self._filled = 0
        # Digests; only a reload that is asked for takes them again.
        self._rolled_back: set[str] = set()
        self._failures = 0
        # Since the last outage.
        self._answered = True
        self._outages = Outages(parameters.max_outages_a_minute)
        self._reopen_delay_s, self._reopen_after_s = REOPEN_DELAY_S, 0.0
        self._lock = threading.Lock()
        self._opener = Opener(contract, robot, parameters)
        self.refusal: str | None = None

    @property
    def policy(self) -> Policy | None:
        """The one that drives; None while there is none."""
        return self._policy

    @property
    def problem(self) -> str | None:
        """Why the model that drives must not go on, or None."""
        return self._outages.latched

    @property
    def on_trial(self) -> bool:
        """Whether the model that answered last is on trial."""
        return self._asked is not None

    # Filling and emptying

    def open_first(self) -> Policy:
        """Open and check the model that the parameter's path leads to.

        Raises:
            TractorError: it cannot be opened, was rolled back before, or hung on trial.
        """
        if digest := self._hung.digest():
            self._rolled_back.add(digest)
        policy = self._opener.open()
        try:
            self._require_not_rolled_back(policy)
        except ModelError:
            policy.backend.close()
            raise
        return policy

    def install(self, policy: Policy) -> None:
        """Let an opened model drive, without a trial."""
        with self._lock:
            self._filled += 1
            self._outages.forget()
            self._replace(policy)
        self._say(policy)

    def empty(self) -> None:
        """Close what drives; what is being opened meanwhile does not drive."""
        with self._lock:
            self._filled += 1
            retired = self._replace(None)
        _close(retired)

    # Driving

    def infer(self, observation: Observation) -> Decision | None:
        """Return the answer of the model that drives, None where there is none.

        Raises whatever a vendor's library raises; tell `failed` about it.
        """
        with self._lock:
            if self._policy is None:
                return None
            self._asked, self._asking = self._trial, True
            try:
                decision = self._policy.step(observation)
            finally:
                self._asking = False
        self._failures, self._answered = 0, True
        return decision

    def failed(self, error: Exception, now_s: float) -> None:
        """Roll a model on trial back; after failures in a row open the model anew.

        One that fails too often a minute drives no more, see `problem`.
        """
        if isinstance(error, ContractError):
            return  # the observation was at fault, not the model
        if self._asked is not None:
            self._end_trial(self._asked, str(error))
            return
        if self._answered:
            self._answered = False
            with self._lock:
                self._outages.note(error, now_s)
        self._failures += 1
        self._reopen_when_due(now_s)

    def judge(self, observation: Observation, decision: Decision, took_s: float) -> None:
        """Roll a new model back when it misbehaves; close the one before when it does not.

        May take as long as an inference: the model before is asked about the same frames.
        """
        trial = self._asked
        if trial is None:
            return
        with self._lock:
            if self._trial is not trial:
                return
            refusal = trial.answered(observation, decision, took_s)
        if refusal is not None or trial.passed:
            self._end_trial(trial, refusal)

    def tidy(self) -> None:
        """Do what an inference leaves to be done, once its answer was sent."""
        if self._policy is not None:
            self._policy.backend.tidy()

    def note_hung(self) -> None:
        """Note for the next start that the model on trial hangs, if one does."""
        if self._asking and self._asked is not None:
            self._hung.write(self._asked.policy.backend.digest)

    # Another model

    def reload(self) -> Future[str]:
        """Start to open the model beside the one that drives; then a trial begins.

        Returns:
            What drives, in words, or the reason why the new model does not.

        Raises:
            ModelError: another is being opened.
        """
        return self._opener.in_turn(self._reload)

    def look(self) -> None:
        """Reload when the model's path leads to something new; call it every second or so.

        A model that drives already or was rolled back is left out.
        """
        if self._opener.changed():
            # When it is busy the next look says the same.
            with contextlib.suppress(ModelError):
                self._opener.in_turn(lambda: self._reload(watched=True))

    def describe(self) -> dict[str, str]:
        """Return model, trial and refusal for diagnostics."""
        values, policy, trial = {}, self._policy, self._trial
        if policy is not None:
            values["backend"] = policy.backend.name
            if policy.backend.chosen_because:
                values["backend auto"] = policy.backend.chosen_because
            values["model sha256"] = policy.backend.digest
            if trial is not None:
                values["model trial"] = f"{trial.frames} of {TRIAL_FRAMES} frames"
        if self.refusal is not None:
            values["model refused"] = self.refusal
        return values

    @contextlib.contextmanager
    def _opened(self, digest: str = "") -> Iterator[tuple[Policy, set[Policy]]]:
        """Open a model, then hold the lock; yields it and the set of those to close.

        What is yielded is closed unless it is taken out of the set.

        Raises:
            ModelError: it cannot be opened, or not in time: what comes late is closed; or the slot
                was emptied meanwhile.
        """
        filled = self._filled
        fresh = self._opener.open_in_time(digest)
        retired = {fresh}
        try:
            with self._lock:
                if self._policy is None or self._filled != filled:
                    raise ModelError("the node was cleaned up while the model was being opened")
                yield fresh, retired
        finally:
            in_background(lambda: _close(retired))

    def _reload(self, watched: bool = False) -> str:
        try:
            with self._opened() as (fresh, retired):
                digest = fresh.backend.digest
                if watched:
                    self._require_not_rolled_back(fresh)
                drives = self._policy is not None and digest == self._policy.backend.digest
                self.refusal = None
                if not (watched and drives):
                    self._rolled_back.discard(digest)
                    self._failures = 0
                    self._outages.forget()
                    before = self._trial.before if self._trial is not None else self._policy
                    retired |= self._replace(fresh, before)
                    retired.remove(fresh)
                answer = self._say(fresh)
            if not watched:
                self._hung.forget(digest)
            return answer
        except Exception as error:
            self.refusal = f"not taken: {error}"
            self._log.error(f"the new model is {self.refusal}")
            raise

    def _reopen_when_due(self, now_s: float) -> None:
        """Open the model anew after failures in a row, in the background, with growing delays."""
        if self._failures < FAILURES_BEFORE_REOPEN or now_s < self._reopen_after_s:
            return
        with contextlib.suppress(ModelError):
            self._opener.in_turn(self._reopen)
            self._reopen_after_s = now_s + self._reopen_delay_s
            self._reopen_delay_s = min(2.0 * self._reopen_delay_s, MAX_REOPEN_DELAY_S)

    def _reopen(self) -> None:
        """Open the model that drives, from the file that it came from, and no other."""
        failing = self._policy
        if failing is None:
            return
        self._log.error(f"{self._failures} failures in a row, opening the model anew")
        digest = failing.backend.digest
        try:
            with self._opened(digest) as (fresh, retired):
                if self._policy is failing:
                    self._failures = 0
                    retired |= self._replace(fresh)
                    retired.remove(fresh)
        except Exception as error:  # whatever a vendor raises; it is tried again
            self._log.error(f"cannot open the model anew: {error}")

    def _replace(self, policy: Policy | None, before: Policy | None = None) -> set[Policy]:
        """Let a policy drive, on trial if there is one before; needs the lock.

        Returns:
            Those that are not needed any more and are to be closed.
        """
        held = {self._policy, self._trial.before if self._trial is not None else None}
        budget_s = self._own.inference_budget_s
        self._trial = Trial(policy, before, budget_s) if policy and before else None
        self._policy = policy
        return {old for old in held - {policy, before} if old is not None}

    def _end_trial(self, trial: Trial, refusal: str | None) -> None:
        """Close the model before, or roll back to it where the new one is refused; say so."""
        with self._lock:
            if self._trial is not trial:
                return
            retired = self._replace(trial.policy if refusal is None else trial.before)
            if refusal is not None:
                refused, kept = trial.policy.backend.digest, trial.before.backend.digest
                self._failures = 0
                self._rolled_back.add(refused)
                self.refusal = f"rolled back: sha256 {refused} to {kept}: {refusal}"
                self._log.error(f"the new model is {self.refusal}")
        if refusal is None:
            self._log.info(f"the new model passed its trial of {TRIAL_FRAMES} frames")
        in_background(lambda: _close(retired))

    def _require_not_rolled_back(self, policy: Policy) -> None:
        digest = policy.backend.digest
        if digest and digest in self._rolled_back:
            raise ModelError(
                f"sha256 {digest} was rolled back before, or hung on trial: let the model before "
                "drive (models rollback); ~/reload_model then takes this one, on trial again"
            )

    def _say(self, policy: Policy) -> str:
        backend = policy.backend
        text = f"driving with {backend.name}: {self._own.model}"
        if backend.digest:
            text += f", sha256 {backend.digest}"
        self._log.info(text)
        return text


def _close(policies: Iterable[Policy]) -> None:
    for policy in policies:
        policy.backend.close()
