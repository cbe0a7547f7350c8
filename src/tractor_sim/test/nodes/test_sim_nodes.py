"""sim_node and replay_node as processes, over real topics."""

import importlib.util
import json
import signal

import numpy as np
import pytest

from tractor_core import camera_info, messages

pytestmark = pytest.mark.ros

SIM = "tractor_sim.nodes.sim_node"
REPLAY = "tractor_sim.nodes.replay_node"


@pytest.fixture
def listen(ros_graph):
    """Return a function that collects all sensor topics."""
    from nav_msgs.msg import Odometry
    from rclpy.qos import qos_profile_sensor_data as qos
    from sensor_msgs.msg import CameraInfo, Image, LaserScan

    kinds = {"scan": LaserScan, "depth": Image, "camera_info": CameraInfo, "odom": Odometry}
    return lambda: {name: ros_graph.collect(kind, name, qos) for name, kind in kinds.items()}


def drive(graph, received, linear, angular):
    """Return a function that answers each new depth image with a stamped command."""
    from geometry_msgs.msg import TwistStamped

    publisher = graph.node.create_publisher(TwistStamped, "cmd_vel", 10)
    answered = 0

    def answer():
        nonlocal answered
        if len(received["depth"]) > answered:
            answered = len(received["depth"])
            command = TwistStamped()
            command.header = received["depth"][-1].header
            command.twist.linear.x, command.twist.angular.z = linear, angular
            publisher.publish(command)

    return answer


def test_publishes_usable_sensors_at_their_rates(ros_graph, listen):
    received = listen()
    process = ros_graph.start(SIM, world_seed=3)
    ros_graph.until(lambda: len(received["depth"]) >= 45)
    assert 10 <= len(received["scan"]) <= 18
    scan = messages.scan_from_message(received["scan"][-1])
    assert len(scan.ranges_m) == 450
    assert scan.measured.sum() > 300
    message = received["scan"][-1]
    assert message.header.frame_id == "laser"
    last = message.angle_min + 449 * message.angle_increment
    assert message.angle_max == pytest.approx(last, abs=1e-5)
    assert (message.scan_time, message.time_increment) == (pytest.approx(0.1), 0.0)
    image = received["depth"][-1]
    pixels = messages.depth_from_message(image)
    assert (image.encoding, pixels.shape) == ("16UC1", (100, 848))
    assert image.header.frame_id == "camera_depth_optical_frame"
    assert (pixels > 0).mean() > 0.3
    info = received["camera_info"][-1]
    assert (info.width, info.height) == (848, 100)
    assert info.header.frame_id == image.header.frame_id
    assert info.p[[0, 2, 5, 6]].tolist() == info.k[[0, 2, 4, 5]].tolist()
    assert info.p[[3, 7, 10]].tolist() == [0.0, 0.0, 1.0] and not any(info.d)
    intrinsics = camera_info.intrinsics_from_message(received["camera_info"][-1])
    assert (intrinsics.fx, intrinsics.cx, intrinsics.cy) == (425.0, 424.0, 50.0)
    stamps = [messages.stamp_ns(message.header.stamp) for message in received["depth"]]
    assert (np.diff(stamps) > 0).all()
    # Never faster than 30 Hz; a busy machine may be slower.
    assert 1e9 / 30 * 0.8 < np.median(np.diff(stamps)) < 1e8
    assert process.stop(signal.SIGTERM) == 0


def test_drives_ends_by_itself_and_writes_the_result(ros_graph, listen, tmp_path):
    received = listen()
    result_file = tmp_path / "out" / "run.json"
    process = ros_graph.start(
        SIM, world_seed=3, duration_s=2.0, result_file=str(result_file),
        enable_stamped_cmd_vel=True,
    )  # fmt: skip
    answer = drive(ros_graph, received, 0.1, 0.5)
    ros_graph.until(lambda: process.process.poll() is not None, 30.0, answer)
    assert process.process.returncode == 0
    result = json.loads(result_file.read_text())
    assert result["world_seed"] == 3
    assert 0.1 < result["distance_m"] < 0.25
    assert result["collisions"] == 0
    assert result["commands"] > 30
    trajectory = np.array(result["trajectory"])
    assert trajectory.shape[1] == 4
    assert np.diff(trajectory[:, 3]) == pytest.approx(1 / 30, abs=2e-4)
    assert np.hypot(*(trajectory[-1, :2] - trajectory[0, :2])) > 0.1
    assert received["odom"][-1].twist.twist.linear.x == pytest.approx(0.1, rel=0.1)


def test_stops_without_commands_and_ends_on_a_signal(ros_graph, listen, tmp_path):
    received = listen()
    result_file = tmp_path / "run.json"
    process = ros_graph.start(
        SIM, result_file=str(result_file), enable_stamped_cmd_vel=True, publish_clock=True
    )
    answer = drive(ros_graph, received, 0.1, 0.0)

    def speed():
        return received["odom"][-1].twist.twist.linear.x if received["odom"] else 0.0

    ros_graph.until(lambda: speed() > 0.08, 20.0, answer)
    ros_graph.until(lambda: speed() == 0.0, 5.0)
    # Simulated time starts at zero.
    assert received["depth"][-1].header.stamp.sec < 60
    assert process.stop(signal.SIGINT) == 0
    assert json.loads(result_file.read_text())["distance_m"] > 0.01


@pytest.mark.skipif(importlib.util.find_spec("tf2_msgs") is not None, reason="tf2_msgs is there")
def test_without_tf2_msgs_the_simulator_says_so_once_and_drives(ros_graph):
    from diagnostic_msgs.msg import DiagnosticArray

    received = ros_graph.collect(DiagnosticArray, "/diagnostics")
    process = ros_graph.start(SIM, world_seed=3)
    status = ros_graph.until(lambda: [s for m in received for s in m.status if s.name == "sim"])[0]
    values = {value.key: value.value for value in status.values}
    assert values["transforms"].startswith("not published: expected the package tf2_msgs")
    assert (status.level, status.message) == (b"\0", "ok")
    assert process.output().count("tf2_msgs") == 1


def test_replay_publishes_each_scan_once(ros_graph, listen, tmp_path):
    cv2 = pytest.importorskip("cv2", reason="needs opencv-python-headless")
    folder = tmp_path / "recording"
    folder.mkdir()
    ranges = np.full((8, 90), 2.0, np.float32) + np.arange(8, dtype=np.float32)[:, None]
    np.savez(
        folder / "scans.npz", stamps=0.1 * np.arange(8), ranges=ranges,
        angle_min=-1.5, angle_increment=0.03, range_min=0.05, range_max=12.0,
    )  # fmt: skip
    cv2.imwrite(str(folder / "0.png"), np.arange(48, dtype=np.uint16).reshape(6, 8))
    k = [5.0, 0, 0, 0, 6.0, 0, 3.5, 2.5, 1]
    (folder / "camera.json").write_text(json.dumps({"intrinsic_matrix": k}))
    received = listen()
    process = ros_graph.start(REPLAY, folder=str(folder))
    ros_graph.until(lambda: process.process.poll() is not None)
    assert process.process.returncode == 0
    assert [message.ranges[0] for message in received["scan"]] == ranges[:, 0].tolist()
    assert len(received["depth"]) == len(received["odom"]) == 24
    pixels = messages.depth_from_message(received["depth"][0])
    assert (pixels.reshape(-1) == np.arange(48)).all()
    assert all(message.twist.twist.linear.x == 0.0 for message in received["odom"])


def test_replay_refuses_a_missing_folder(ros_graph, tmp_path):
    process = ros_graph.start(REPLAY, folder=str(tmp_path / "nowhere"))
    ros_graph.until(lambda: process.process.poll() is not None)
    assert process.process.returncode == 2
    assert "expected a folder" in process.output()
