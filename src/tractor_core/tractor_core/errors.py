"""Errors of the rover suite.

TractorError
+-- ParameterError   a parameter file or value is missing, unknown or out of range
+-- ContractError    data or a model does not follow the observation contract
+-- SensorError      one sensor message cannot be used
+-- SampleError      one calibration sample cannot be used
+-- ModelError       a model cannot be opened, or does not answer as it must

Every message says what was expected, what was found and, where it is not obvious, what to do.
"""


class TractorError(Exception):
    """Base of all errors that the suite raises on purpose."""


class ParameterError(TractorError):
    """A parameter file or value is missing, unknown or out of range."""


class ContractError(TractorError):
    """Data or a model does not follow the observation contract."""


class SensorError(TractorError):
    """One sensor message cannot be used."""


class SampleError(TractorError):
    """One calibration sample cannot be used."""


class ModelError(TractorError):
    """A model cannot be opened, or does not answer as it must."""


def raise_all(error: type[TractorError], heading: str, problems: list[str]) -> None:
    """Raise one error that lists every problem, or return when there is none."""
    if problems:
        raise error("\n  - ".join([heading, *problems]))
