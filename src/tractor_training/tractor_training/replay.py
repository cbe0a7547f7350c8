"""What was experienced, as a learner draws from it: little memory a step, and what it led to."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import Contract, normalize
from tractor_core.experience import DRIVERS, Chunk, unpack_grids

from .reward import DECISION_S, Rewards

# A grid as critics see it beside the features: occupied anywhere in a square, channels together.
COARSE_CELLS = 32
FEATURE_STEPS = 255
# Faster ticks would make a transition shorter; stamps are rounded.
MAX_TICK_HZ, STAMP_TOLERANCE_S = 30.0, 5e-4

Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclasses.dataclass(frozen=True)
class Transitions:
    """Drawn transitions, (b, ...) float32.

    Attributes:
        features, coarse, proprio: of what was seen: 0..1; 0 or 1; normalised.
        action: executed, the mean of a tenth of a second.
        reward: of all steps until `then`, discounted.
        next_features, next_coarse, next_proprio: what was seen at the end.
        discount: what the value of that counts; 0 behind a contact or where it got stuck.
    """

    features: NDArray[np.float32]
    coarse: NDArray[np.float32]
    proprio: NDArray[np.float32]
    action: NDArray[np.float32]
    reward: NDArray[np.float32]
    next_features: NDArray[np.float32]
    next_coarse: NDArray[np.float32]
    next_proprio: NDArray[np.float32]
    discount: NDArray[np.float32]


class Replay:
    """The newest steps in a ring, half a kilobyte each.

    Chunks of an episode that follow on each other are joined. A transition goes over `n_steps`
    tenths of a second; where the episode ends before, over less. Times of day do not count.

        replay = Replay(1_000_000, contract, encode, 256)
        replay.add(chunk, rewards)
        drawn = replay.sample(128, gamma=0.97, rng=rng)

    Args:
        capacity: observations that are kept.
        encode: grids (n, 2, cells, cells) uint8 -> features (n, f) in 0..1.
        features: how many.
        n_steps: tenths of a second that a transition goes over (n-step returns).
    """

    def __init__(
        self, capacity: int, contract: Contract, encode: Encode, features: int, n_steps: int = 3
    ) -> None:
        self._contract, self._encode, self._n_steps = contract, encode, n_steps
        self._capacity = capacity
        self._features = np.zeros((capacity, features), np.uint8)
        self._coarse = np.zeros((capacity, COARSE_CELLS**2 // 8), np.uint8)
        self._proprio = np.zeros((capacity, contract.proprio_size), np.float32)
        self._action = np.zeros((capacity, 2), np.float32)
        self._reward = np.zeros(capacity, np.float32)
        self._stamp_ns = np.zeros(capacity, np.int64)
        # Of the step that begins at an observation: whether there is none, and an outcome.
        self._last = np.ones(capacity, bool)
        self._outcome = np.zeros(capacity, bool)
        self._end = 0
        self._follows: tuple[str, int, int] | None = None
        self.steps = 0

    def __len__(self) -> int:
        return min(self._end, self._capacity)

    @property
    def nbytes(self) -> int:
        """What it takes, in all."""
        arrays = (v for v in vars(self).values() if isinstance(v, np.ndarray))
        return sum(array.nbytes for array in arrays)

    def add(self, chunk: Chunk, rewards: Rewards) -> None:
        """Add a chunk's steps; those after a contact begin anew."""
        n = len(chunk)
        if (chunk.session, chunk.episode, chunk.first) == self._follows:
            self._end -= 1  # its first observation is the last one's last
        self._follows = (
            None if chunk.end else (chunk.session, chunk.episode, chunk.first + n)
        )  # fmt: skip
        at = (self._end + np.arange(n + 1)) % self._capacity
        grids = unpack_grids(chunk.grids, self._contract)
        self._features[at] = np.rint(self._encode(grids) * FEATURE_STEPS).astype(np.uint8)
        self._coarse[at] = coarse(grids)
        self._proprio[at] = normalize(self._contract, chunk.rows["proprio"])
        self._action[at[:-1]] = chunk.executed
        self._reward[at[:-1]] = rewards.total
        self._stamp_ns[at] = chunk.rows["stamp_ns"]
        self._last[at[:-1]], self._last[at[-1]] = False, True
        self._outcome[at[:-1]] = rewards.contact
        self._outcome[at[-2]] |= chunk.terminated
        self._end += n + 1
        self.steps += n

    def sample(self, count: int, gamma: float, rng: np.random.Generator) -> Transitions:
        """Draw transitions, each step with the same probability.

        Args:
            gamma: the discount of a tenth of a second.

        Raises:
            ValueError: there is no step yet.
        """
        return self.transitions(self._begins(count, rng), gamma)

    def _begins(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        if not self.steps:
            raise ValueError("no step to draw yet")
        oldest, found = self._end - len(self), np.empty(0, np.int64)
        while len(found) < count:
            drawn = rng.integers(oldest, self._end, 2 * count)
            found = np.concatenate([found, drawn[~self._last[drawn % self._capacity]]])
        return found[:count]

    def transitions(self, begins: NDArray[np.int64], gamma: float) -> Transitions:
        """Return the transitions that begin at these observations, counted from the first ever."""
        most = math.ceil(self._n_steps * DECISION_S * MAX_TICK_HZ) + 2
        at = (begins[:, None] + np.arange(most + 1)) % self._capacity
        seconds = (self._stamp_ns[at] - self._stamp_ns[at[:, :1]]) * 1e-9
        # A step counts while none before it was the last or an outcome, and it begins in time.
        ended = self._last[at[:, :-1]]
        over = np.zeros_like(ended)
        over[:, 1:] = np.logical_or.accumulate(self._outcome[at[:, :-2]], axis=1)
        over |= np.logical_or.accumulate(ended, axis=1)
        over |= seconds[:, :-1] >= self._n_steps * DECISION_S - STAMP_TOLERANCE_S
        counts = ~over
        steps = counts.sum(axis=1)
        discounts = gamma ** (np.maximum(seconds[:, :-1], 0.0) / DECISION_S)
        reward = (np.where(counts, self._reward[at[:, :-1]] * discounts, 0.0)).sum(axis=1)
        held = counts & (seconds[:, :-1] < DECISION_S - STAMP_TOLERANCE_S)
        action = (self._action[at[:, :-1]] * held[..., None]).sum(axis=1) / held.sum(axis=1)[
            :, None
        ]
        rows = np.arange(len(begins))
        then = at[rows, steps]
        outcome = (self._outcome[at[:, :-1]] & counts).any(axis=1)
        discount = np.where(outcome, 0.0, gamma ** (seconds[rows, steps] / DECISION_S))
        return Transitions(
            *self._seen(at[:, 0]), action.astype(np.float32), reward.astype(np.float32),
            *self._seen(then), discount.astype(np.float32),
        )  # fmt: skip

    def _seen(self, at: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        features = self._features[at].astype(np.float32) / FEATURE_STEPS
        bits = np.unpackbits(self._coarse[at], axis=1).astype(np.float32)
        return features, bits, self._proprio[at]


def coarse(grids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return grids (n, 2, cells, cells) as COARSE_CELLS a side, channels together, as bits."""
    n, channels, cells, _ = grids.shape
    size = math.ceil(cells / COARSE_CELLS)
    padded = np.zeros((n, channels, COARSE_CELLS * size, COARSE_CELLS * size), np.uint8)
    padded[:, :, :cells, :cells] = grids
    squares = padded.reshape(n, channels, COARSE_CELLS, size, COARSE_CELLS, size)
    return np.packbits(squares.max(axis=(1, 3, 5)).reshape(n, -1), axis=1)


def by_policy(chunk: Chunk) -> NDArray[np.bool_]:
    """Return which steps the policy gave without exploring, (n,): those that evaluate it."""
    return chunk.rows["driver"][:-1] == DRIVERS.index("policy")
