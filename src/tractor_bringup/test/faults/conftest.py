"""What the rows share: the nodes that they run on, and the report of a run."""

import pytest

from faults.report import Report
from faults.rig import Rig


@pytest.fixture(scope="session")
def report(repository):
    report = Report(repository)
    yield report
    report.write()


@pytest.fixture(scope="module")
def rig(shared_ros_graph):
    """All nodes as the parameter file has them; modules that need others have their own."""
    rig = Rig(shared_ros_graph)
    yield rig
    rig.end()
