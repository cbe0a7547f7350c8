"""Trying other actions than the model's: correlated noise, less where it is narrow."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import PROPRIO_NAMES
from tractor_core.observation import Observation
from tractor_core.parameters import param

from .backends.base import Backend

log = logging.getLogger(__name__)

LIDAR_MIN = PROPRIO_NAMES.index("lidar_min")
# Pink noise of so many ticks is drawn at once, a minute at 30 Hz.
DRAWN = 1800
# Nearer to the next obstacle of the scan than this there is less noise, and none at the first.
NONE_M, WHOLE_M = 0.35, 0.9
# So long it is either with noise or without, to be told apart when it is evaluated.
STRETCH_NS = 20 * 10**9


@dataclasses.dataclass(frozen=True)
class ExplorationParameters:
    """Whether and how much it explores; see the sac_actor section of config/sac_rover.yaml."""

    explore: bool = param(
        "Add noise to the actions, as much as the model's manifest asks for.", False,
        live=True, driving=False,
    )  # fmt: skip
    explore_max_scale: float = param(
        "The most noise that a model gets, standard deviation of an action.", 0.3,
        minimum=0.0, maximum=1.0, live=True, driving=False,
    )  # fmt: skip
    explore_share: float = param(
        "Share of the time with noise; the rest is for evaluation.", 0.8,
        minimum=0.0, maximum=1.0, live=True, driving=False,
    )  # fmt: skip


class Explorer:
    """Says what to do in place of a model's answers: when there is noise on them, and how much.

    Time is cut into stretches by the stamps of the observations. Whether one is with noise, and
    with which, follows from the seed and its number alone: no stop and no new model begins anew.

        explorer = Explorer(parameters, seed=0)
        requested = explorer.requested(observation, answer, backend)

    Args:
        seed: 0 or more.
    """

    def __init__(self, parameters: ExplorationParameters, seed: int) -> None:
        self._own, self._seed = parameters, seed
        self._stretch: int | None = None
        # Less than the share: this stretch is with noise.
        self._drawn = 0.0
        self._noise: Exploration
        # Models that were said to ask for no noise.
        self._said: set[str] = set()
        # The scale, and what is done with it now; in words.
        self._state, self._now = "on, no frame yet", ""

    def adjust(self, parameters: ExplorationParameters) -> None:
        """Explore as changed parameters say from the next frame on."""
        self._own = parameters

    def requested(
        self,
        observation: Observation,
        answer: NDArray[np.float32],
        backend: Backend,
        on_trial: bool = False,
        operated: bool = False,
    ) -> NDArray[np.float32]:
        """Return what to do in place of an answer, (2,) float32 in -1..1; without noise the answer.

        Args:
            backend: it answered; it says how much noise the model asks for.
            on_trial: noise waits until the model has passed its trial.
            operated: noise waits while an operator drives.
        """
        if not self._own.explore:
            return answer
        asked = backend.exploration_scale
        if asked is None:
            self._say_once(backend.digest)
            return answer
        self._begin(observation.stamp_ns // STRETCH_NS)
        self._noise.scale = min(asked, self._own.explore_max_scale)
        self._state = f"scale {self._noise.scale:.3g}, the model asks for {asked:.3g}"
        if on_trial:
            self._now = "without noise: the model is on trial"
        elif operated:
            self._now = "without noise: the operator drives"
        elif self._drawn >= self._own.explore_share:
            self._now = "without noise, for evaluation"
        else:
            self._now = "with noise"
            return self._noise.requested(answer, float(observation.proprio[LIDAR_MIN]))
        return answer

    def describe(self, driving: bool) -> str:
        """Return the scale, and whether there is noise now, in words.

        Args:
            driving: whether the rover drives now.
        """
        if not self._own.explore:
            return "off"
        if not self._now:
            return self._state
        return f"{self._state}; now {self._now if driving else 'without noise: it stands'}"

    def _begin(self, stretch: int) -> None:
        if stretch == self._stretch:
            return
        # A stamp of simulated time may lie a little before its zero.
        rng = np.random.default_rng([self._seed, abs(stretch)])
        self._stretch, self._drawn = stretch, rng.random()
        self._noise = Exploration(0.0, rng)

    def _say_once(self, digest: str) -> None:
        self._state, self._now = "none: the model names no exploration_scale", ""
        if digest not in self._said:
            self._said.add(digest)
            log.warning(
                "explore is true, but the model of sha256 %s names no exploration_scale: it drives "
                "without noise; export one that does (docs/export.md), or set explore to false",
                digest or "unknown",
            )


class Exploration:
    """Adds pink noise to actions.

    Actions beyond 0.9 are most of what an actor with tanh answers, so that noise before tanh moves
    nothing: it is added behind, and clipped. Pink noise, whose power falls with the frequency, goes
    somewhere and comes back (Eberhard et al., ICLR 2023, openreview.net/forum?id=hQ9V5QN27eS).

        exploration = Exploration(scale=0.3, rng=np.random.default_rng())
        requested = exploration.requested(answer, lidar_min_m)

    Args:
        scale: standard deviation of the noise of each action.
    """

    def __init__(self, scale: float, rng: np.random.Generator) -> None:
        self.scale, self._rng = scale, rng
        self._noise = np.empty((0, 2))
        self._at = 0

    def requested(self, answer: NDArray[np.float32], lidar_min_m: float) -> NDArray[np.float32]:
        """Return what to do in place of an answer, (2,) float32 in -1..1.

        Args:
            lidar_min_m: from base_link to the nearest obstacle of the scan, m.
        """
        if self._at == len(self._noise):
            self._noise, self._at = pink(DRAWN, 2, self._rng), 0
        noise = self._noise[self._at]
        self._at += 1
        free = float(np.clip((lidar_min_m - NONE_M) / (WHOLE_M - NONE_M), 0.0, 1.0))
        return np.clip(answer + self.scale * free * noise, -1.0, 1.0).astype(np.float32)


def pink(count: int, dimensions: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return noise (count, dimensions) of variance 1 on average, its power as 1/f.

    Timmer and Koenig, "On generating power law noise", 1995.
    """
    frequencies = np.fft.rfftfreq(count)
    size = np.zeros_like(frequencies)
    size[1:] = frequencies[1:] ** -0.5
    shape = (dimensions, len(frequencies))
    spectrum = size * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
    if count % 2 == 0:
        spectrum[:, -1] = np.sqrt(2.0) * spectrum[:, -1].real
    power = 2.0 * np.sqrt((size[1:-1] ** 2).sum() + (size[-1] ** 2) / 2.0) / count
    return np.fft.irfft(spectrum, n=count, axis=1).T / power
