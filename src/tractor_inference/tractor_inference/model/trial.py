"""The first seconds of a new model: is it trusted, or does the one before it take over again?

It is fed from outside and holds no clock, thread or file.
"""

from __future__ import annotations

import logging
from collections import deque

import numpy as np
from numpy.typing import NDArray

from tractor_core.observation import Observation

from .policy import Decision, Policy

log = logging.getLogger(__name__)

# Five seconds at 30 Hz.
TRIAL_FRAMES = 150
# One late answer, or two, are the machine's. The model's are more than half of a second, and three
# that are late by as much in all as stops the rover when an input is, see config/sac_rover.yaml.
LATE_WINDOW, LATE_FRAMES, LATE_S = 30, 3, 0.30
# One second in which the model before turns by a tenth of its range while the new one does not move
# by more than one step of INT8, over [-1, 1]: it does not see. Where nothing moves, nothing is
# said. Half a step more than one: rounding makes a step a little wider or narrower.
STILL_FRAMES = 30
MOVING, STILL = 0.2, 1.5 * 2.0 / 255.0


class _Spread:
    """The widest change of an action (2,) so far."""

    def __init__(self) -> None:
        self._low = np.full(2, np.inf, np.float32)
        self._high = -self._low

    def add(self, action: NDArray[np.float32]) -> float:
        self._low = np.minimum(self._low, action)
        self._high = np.maximum(self._high, action)
        return float((self._high - self._low).max())


class Trial:
    """Judges a model that took over, frame by frame; the one before stays open meanwhile.

    Args:
        policy: the model on trial.
        before: the model that drove, and that drives again when the new one is refused.
        budget_s: an answer that takes longer is late.
    """

    def __init__(self, policy: Policy, before: Policy, budget_s: float) -> None:
        self.policy, self.before = policy, before
        self.frames = 0
        self._budget_s = budget_s
        self._took_s: deque[float] = deque(maxlen=LATE_WINDOW)
        self._spread, self._spread_before = _Spread(), _Spread()
        self._compared = True

    @property
    def passed(self) -> bool:
        """Whether the model is trusted from now on."""
        return self.frames >= TRIAL_FRAMES

    def answered(self, observation: Observation, decision: Decision, took_s: float) -> str | None:
        """Return why an answered frame refuses the model, or None.

        As long as the new model's answers are all alike, the one before is asked about the same
        frames, so this may take as long as an inference.

        Args:
            observation: the frame.
            decision: the answer to it.
            took_s: how long the answer took, s.
        """
        self.frames += 1
        self._took_s.append(took_s)
        late_s = [took - self._budget_s for took in self._took_s if took > self._budget_s]
        if len(late_s) > LATE_WINDOW / 2 or (len(late_s) >= LATE_FRAMES and sum(late_s) >= LATE_S):
            return (
                f"expected answers within {1e3 * self._budget_s:.0f} ms, found {len(late_s)} of "
                f"the last {len(self._took_s)} later, by {1e3 * sum(late_s):.0f} ms in all"
            )
        if not self._compared:
            return None
        if self._spread.add(decision.action) >= STILL:
            self._compared = False
            return None
        try:
            moved = self._spread_before.add(
                self.before.answer(observation.bev, observation.proprio)
            )
        except Exception as error:  # a vendor library may raise anything
            log.warning("the model before cannot be compared with: %s", error)
            self._compared = False
            return None
        if self.frames >= STILL_FRAMES and moved >= MOVING:
            return (
                f"expected answers that follow the frames, found {decision.action.tolist()} to all "
                f"of {self.frames} to which the model before answered up to {moved:.2f} apart"
            )
        return None
