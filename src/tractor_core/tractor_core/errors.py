"""Errors of the rover suite.

TractorError
+-- ParameterError   a parameter file or value is missing, unknown or out of range
+-- ContractError    data or a model does not follow the observation contract
+-- SensorError      one sensor message cannot be used
+-- SampleError      one calibration sample cannot be used
+-- ExperienceError  one chunk of experience cannot be used
+-- LinkError        the training server, or what comes from it, cannot be used
+-- ModelError       a model cannot be opened, or does not answer as it must

Every message says what was expected, what was found and, where it is not obvious, what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Problem(NamedTuple):
    """What was expected, and what was found in its place, with what to do about it."""

    expected: str
    found: str = ""

    def __str__(self) -> str:
        return f"{self.expected}, found {self.found}" if self.found else self.expected


class TractorError(Exception):
    """Base of all errors that the suite raises on purpose.

    Args:
        reason: what was expected, what was found, what to do.
        place: what it is about, a file for instance; said before the reason.

    Attributes:
        reason: without the place, for who names that already.
    """

    def __init__(self, reason: str = "", place: object = None) -> None:
        super().__init__(reason if place is None else f"{place}: {reason}")
        self.reason = reason


class ParameterError(TractorError):
    """A parameter file or value is missing, unknown or out of range."""


class ContractError(TractorError):
    """Data or a model does not follow the observation contract."""


class SensorError(TractorError):
    """One sensor message cannot be used.

    Args:
        expected: with the input's name before it: "scan: expected at least one beam".
        found: what was found, and what to do about it.
        text: the whole message, where it says more than these two.

    Attributes:
        expected: the same for equal faults, whatever the figures, to count them by.
    """

    def __init__(self, expected: str, found: str = "", text: str = "") -> None:
        super().__init__(text or str(Problem(expected, found)))
        self.expected = expected

    @classmethod
    def of_all(cls, name: str, problems: Sequence[Problem]) -> SensorError:
        """Return one error of an input that lists every problem, and is counted by the first."""
        text = "\n  - ".join([f"{name}:", *map(str, problems)])
        return cls(f"{name}: {problems[0].expected}", text=text)


class SampleError(TractorError):
    """One calibration sample cannot be used."""


class ExperienceError(TractorError):
    """One chunk of experience cannot be used."""


class LinkError(TractorError):
    """The training server, or what comes from it, cannot be used."""


class ModelError(TractorError):
    """A model cannot be opened, or does not answer as it must."""


def raise_all(error: type[TractorError], heading: str, problems: list[str]) -> None:
    """Raise one error that lists every problem, or return when there is none."""
    if problems:
        raise error("\n  - ".join([heading, *problems]))
