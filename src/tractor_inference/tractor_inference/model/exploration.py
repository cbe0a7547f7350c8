"""Trying other actions than the model's: correlated noise, less where it is narrow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Pink noise of so many ticks is drawn at once, a minute at 30 Hz.
DRAWN = 1800
# Nearer to the next obstacle of the scan than this there is less noise, and none at the first.
NONE_M, WHOLE_M = 0.35, 0.9


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
