"""Full speed ahead, whatever there is: only the guard is between that and the base."""

import math

import numpy as np
import pytest
from test_guard_node import wall_ahead
from test_nodes import frozen

from faults.report import chosen
from faults.rig import Fault, Rig

pytestmark = [pytest.mark.ros, pytest.mark.slow]

KIND = "What is in the way"


def low_obstacle(rig):
    """Show 0.26 m ahead, below the LiDAR, what only the depth camera sees."""
    rig.sensors.depth.data = np.full((48, 64), 80, np.uint16).tobytes()


def hole_ahead(rig):
    ranges = [*rig.sensors.scan.ranges]
    ranges[150:210] = [math.nan] * 60
    rig.sensors.scan.ranges = ranges


FAULTS = [
    Fault("a wall 0.26 m ahead, blind full-speed commands", "zero, named",
          lambda rig: wall_ahead(rig.sensors), says="obstacle in the way", short=True),
    Fault("an obstacle 0.26 m ahead that only the camera sees", "zero, named", low_obstacle,
          says="obstacle in the way"),
    Fault("the 60 beams ahead NaN", "zero, named", hole_ahead, says="the scan has a hole"),
    Fault("the scan ends", "zero, named", lambda rig: rig.sensors.muted.add("scan"), says="scan "),
    Fault("the scan is frozen", "zero, named", lambda rig: frozen(rig.sensors), says="the same"),
    Fault("the grid ends", "drives on by the scan alone, with a warning",
          lambda rig: rig.sensors.muted.add("depth"), stops=False,
          says="low obstacles do not stop it", watched_s=2.0),
]  # fmt: skip


@pytest.fixture(scope="module")
def rig(shared_ros_graph):
    rig = Rig(
        shared_ros_graph, ("bev_builder", "cmd_guard"), blind=True,
        bev_builder={"depth_min_m": 0.05},
    )  # fmt: skip
    yield rig
    rig.end()


@pytest.mark.parametrize("fault", chosen(FAULTS), ids=lambda fault: fault.name)
def test_row(rig, report, fault):
    report.measure(KIND, fault, rig.suffer)
