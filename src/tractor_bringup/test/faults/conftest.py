"""The report of all rows of a run."""

import pytest

from faults.report import Report


@pytest.fixture(scope="session")
def report(repository):
    report = Report(repository)
    yield report
    report.write()
