"""Real scans and depth images over real topics to the real nodes.

The depth camera's pose was not recorded: the rover's own mounting stands in for it.
"""

import functools
import math
from pathlib import Path

import numpy as np
import pytest
from bev_oracle import oracle, problem

from tractor_core import camera_info, messages
from tractor_core import contract as contract_module
from tractor_core import robot as robot_module
from tractor_core.bev.parameters import BevParameters
from tractor_core.motion import ScanMotion
from tractor_core.sensors import DepthImage, Scan
from tractor_sim.replay import read_recording

pytestmark = [pytest.mark.ros, pytest.mark.slow]

SHIPPED = Path(__file__).parents[1] / "recordings"
LAG_NS = 500_000_000
NO_SCAN = Scan(np.full(1, np.inf, np.float32), 0.0, 1.0, 0.05, 1.0)


class Recorder:
    """Everything that passed by, in the order of arrival."""

    def __init__(self, graph):
        from geometry_msgs.msg import Twist
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import CameraInfo, Image, LaserScan

        qos = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.scans = graph.collect(LaserScan, "scan", qos)
        self.depths = graph.collect(Image, "depth", qos)
        self.infos = graph.collect(CameraInfo, "camera_info", qos)
        self.grids = graph.collect(Image, "bev", qos)
        self.commands = graph.collect(Twist, "cmd_vel")


@pytest.fixture(params=["shipped", "shared"])
def folder(request):
    return SHIPPED if request.param == "shipped" else request.getfixturevalue("shared_data")


def test_grids_of_real_sensors_match_the_oracle_and_commands_are_sane(
    ros_graph, folder, params_file, actor_onnx
):
    contract = contract_module.load(params_file)
    robot = robot_module.load(params_file)
    recording = read_recording(folder)
    recorder = Recorder(ros_graph)
    ros_graph.start("tractor_inference.nodes.bev_builder_node")
    ros_graph.start("tractor_inference.nodes.sac_actor_node", model=str(actor_onnx), backend="onnx")
    # A recording does not do what it is told, and its surroundings do not yield.
    ros_graph.start("tractor_inference.nodes.cmd_guard_node", obstacle_stop=False, stuck_stop_s=0.0)
    # Looped, because the first frames pass before everybody is listening.
    ros_graph.start("tractor_sim.nodes.replay_node", folder=str(folder), loop=True)
    wanted = {scan.ranges_m.tobytes() for scan in recording.scans}

    def all_drawn() -> bool:
        """Whether for every recorded scan a grid with its stamp has arrived."""
        drawn = {messages.stamp_ns(m.header.stamp) for m in recorder.grids}
        seen = {
            np.asarray(m.ranges, np.float32).tobytes()
            for m in recorder.scans
            if messages.stamp_ns(m.header.stamp) in drawn
        }
        return seen == wanted

    ros_graph.until(lambda: len(recorder.grids) >= 3 * len(recording.scans), 120.0)
    ros_graph.until(all_drawn, 60.0)

    limits = BevParameters()
    intrinsics = camera_info.intrinsics_from_message(recorder.infos[0])
    nothing = DepthImage(np.zeros((1, 1), np.uint16), intrinsics)
    scans = {messages.stamp_ns(m.header.stamp): m for m in recorder.scans}

    @functools.cache
    def drawn_scan(stamp_ns):
        scan = messages.scan_from_message(scans[stamp_ns])
        return oracle(scan, nothing, robot, limits, contract, ScanMotion())

    images = {}
    for message in recorder.depths:
        pixels = messages.depth_from_message(message)
        if pixels.tobytes() not in images:
            depth = DepthImage(pixels, intrinsics)
            images[pixels.tobytes()] = oracle(NO_SCAN, depth, robot, limits, contract, ScanMotion())
    assert len(images) == len({d.pixels.tobytes() for d in recording.depths})

    checked = 0
    for message in recorder.grids:
        grid = messages.bev_from_message(message, contract)
        stamp_ns = messages.stamp_ns(message.header.stamp)
        # A grid carries the stamp of its newest part; on a busy machine the scan lags behind.
        recent = [s for s in scans if stamp_ns - LAG_NS <= s <= stamp_ns]
        if len(recent) < 2:
            continue
        for channel, drawn in ((0, map(drawn_scan, recent)), (1, images.values())):
            found = [problem(grid[channel], sure[channel], may[channel]) for sure, may in drawn]
            assert None in found, f"channel {channel} of grid {stamp_ns}: {found}"
        checked += 1
    assert checked >= len(recording.scans)

    moving = [c for c in recorder.commands if c.linear.x or c.angular.z]
    assert len(moving) > 0.5 * len(recorder.grids)
    for command in moving:
        assert math.isfinite(command.linear.x) and math.isfinite(command.angular.z)
        assert abs(command.linear.x) <= robot.max_linear_speed
        assert abs(command.angular.z) <= robot.max_angular_speed
