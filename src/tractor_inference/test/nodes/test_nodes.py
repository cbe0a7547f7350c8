"""The nodes as processes, over real topics, with real faults."""

import importlib.util
import logging
import math
import os
import signal
import time

import numpy as np
import pytest
from sample_files import write_hostile_samples

from tractor_core import contract as contract_module
from tractor_core import messages, samples

pytestmark = pytest.mark.ros

BUILDER = "tractor_inference.nodes.bev_builder_node"
ACTOR = "tractor_inference.nodes.sac_actor_node"
GUARD = "tractor_inference.nodes.cmd_guard_node"


class Sensors:
    """Publishes scan, depth, camera_info and odom of a corner in front of the rover at 30 Hz."""

    def __init__(self, graph):
        from nav_msgs.msg import Odometry
        from rclpy.qos import qos_profile_sensor_data as qos
        from sensor_msgs.msg import CameraInfo, Image, LaserScan

        node = graph.node
        self.node = node
        self.topics = ("scan", "odom", "camera_info", "depth")
        self.publishers = {
            name: node.create_publisher(kind, name, qos)
            for name, kind in zip(self.topics, (LaserScan, Odometry, CameraInfo, Image))
        }
        self._next = 0.0
        self.heal()

    def heal(self):
        """Publish what is good, in time, from now on."""
        from nav_msgs.msg import Odometry
        from sensor_msgs.msg import CameraInfo, Image, LaserScan

        ranges = np.full(360, 3.0, np.float32)
        ranges[180] = 1.0
        self.scan = LaserScan(
            angle_min=-math.pi, angle_max=math.pi, angle_increment=2 * math.pi / 360,
            range_min=0.05, range_max=12.0, ranges=ranges.tolist(),
        )  # fmt: skip
        self.odom = Odometry()
        self.odom.twist.twist.linear.x = 0.1
        self.camera_info = CameraInfo(
            width=64, height=48, k=np.array([50.0, 0, 32, 0, 50, 24, 0, 0, 1])
        )
        pixels = np.full((48, 64), 1300, np.uint16)
        self.depth = Image(width=64, height=48, encoding="16UC1", step=128, data=pixels.tobytes())
        for name, frame_id in zip(self.topics, ("laser", "odom", "camera", "camera")):
            getattr(self, name).header.frame_id = frame_id
        self.muted: set[str] = set()
        self.offset_s = 0.0
        self.frozen = self.frozen_image = False
        self.held_ns = 0
        self.seldom: dict[str, float] = {}
        self.behind_s: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._noise_m = 0.001

    def __call__(self):
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + 1 / 30
        for name in self.topics:
            if name not in self.muted and now >= self._due.get(name, 0.0):
                self._due[name] = now + self.seldom.get(name, 0.0)
                self._add_noise(name)
                message = getattr(self, name)
                clock_ns = self.node.get_clock().now().nanoseconds
                offset_s = self.offset_s - self.behind_s.get(name, 0.0)
                stamp_ns = self.held_ns or clock_ns + int(offset_s * 1e9)
                message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
                self.publishers[name].publish(message)

    def send_at(self, name, due_s):
        """Let the next message of a sensor come then, on the steady clock."""
        self._due[name] = due_s

    def _add_noise(self, name):
        """Let no two messages of a sensor be alike, unless it is frozen."""
        if name == "scan" and not self.frozen:
            self._noise_m = -self._noise_m
            self.scan.ranges[90] += self._noise_m
        elif name == "depth" and not (self.frozen or self.frozen_image):
            self.depth.data[0] ^= 1


@pytest.fixture
def sensors(ros_graph):
    return Sensors(ros_graph)


@pytest.fixture
def contract(params_file):
    return contract_module.load(params_file)


def start_all(graph, module=ACTOR, **actor):
    from geometry_msgs.msg import Twist

    settings = {"backend": "fake", "calibration_dir": str(graph.folder / "samples")}
    graph.start(BUILDER)
    process = graph.start(module, node="sac_actor", **(settings | actor))
    graph.start(GUARD)
    return process, graph.collect(Twist, "cmd_vel")


def moving(commands):
    return [c for c in commands if c.linear.x or c.angular.z]


def assert_stops(graph, commands, every, timeout_s=5.0):
    """Wait until the last half second held zero commands only."""
    commands.clear()
    graph.until(lambda: commands and not moving(commands[-3:]), timeout_s, every)
    commands.clear()
    graph.until(lambda: len(commands) > 8, timeout_s, every)
    assert not moving(commands)


def diagnostics_of(graph):
    from diagnostic_msgs.msg import DiagnosticArray

    return graph.collect(DiagnosticArray, "/diagnostics")


def last_message(received, name):
    return next((s.message for m in reversed(received) for s in m.status if s.name == name), "")


def test_grid_is_that_of_the_sensors(ros_graph, sensors, contract):
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    ros_graph.start(BUILDER)
    grids = ros_graph.collect(Image, "bev", qos_profile_sensor_data)
    ros_graph.until(lambda: len(grids) > 3, every=sensors)
    grid = messages.bev_from_message(grids[-1], contract)
    assert grid[0, 32, 64] == 1.0 and grid[0].sum() == 1.0
    assert grid[1].any()
    assert grids[-1].header.frame_id == "base_link"
    assert messages.stamp_ns(grids[-1].header.stamp) > 0


def test_drives_while_all_is_fresh_and_samples(ros_graph, sensors, contract):
    _, commands = start_all(ros_graph, sample_probability=1.0, sample_keep=5)
    ros_graph.until(lambda: len(moving(commands)) > 10, every=sensors)
    folder = ros_graph.folder / "samples"
    ros_graph.until(lambda: len(samples.list_files(folder)) >= 5, every=sensors)
    sample = samples.read(samples.list_files(folder)[0], contract)
    assert sample.proprio[0] == pytest.approx(1.0, abs=1e-3)
    assert sample.proprio[3] == pytest.approx(0.1)
    assert sample.bev[0, 32, 64] == 1.0


@pytest.mark.parametrize("name", ["scan", "odom", "depth"])
def test_stops_within_bounds_and_names_what_is_missing_then_resumes(ros_graph, sensors, name):
    _, commands = start_all(ros_graph)
    diagnostics = diagnostics_of(ros_graph)
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)
    sensors.muted = {name}
    muted_at = time.monotonic()
    ros_graph.until(lambda: commands and not moving(commands[-1:]), every=sensors)
    # 0.30 s limit, a watchdog period, and room for a loaded machine.
    assert time.monotonic() - muted_at < 1.0
    assert_stops(ros_graph, commands, sensors)
    named = {"depth": "bev"}.get(name, name)
    ros_graph.until(lambda: f"{named} " in last_message(diagnostics, "sac_actor"), every=sensors)
    sensors.muted = set()
    commands.clear()
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)


@pytest.mark.parametrize(("offset_s", "word"), [(5.0, "ahead"), (-5.0, "old")])
def test_stamps_ahead_or_old_do_not_move_the_rover(ros_graph, sensors, offset_s, word):
    _, commands = start_all(ros_graph)
    diagnostics = diagnostics_of(ros_graph)
    sensors.offset_s = offset_s
    ros_graph.until(lambda: word in last_message(diagnostics, "sac_actor"), every=sensors)
    assert not moving(commands)


def corrupt_depth(sensors):
    sensors.depth.data = b"0123456789"


def empty_depth(sensors):
    sensors.depth.data = bytes(48 * 128)


def wrong_size(sensors):
    sensors.camera_info.width = 99


def dead_scan(sensors):
    sensors.scan.ranges = [math.nan] * 360


def covered_scan(sensors):
    # Within range_min..range_max, but nearer than any part of the world can be.
    sensors.scan.ranges = [0.1] * 360


def covered_camera(sensors):
    sensors.depth.data = np.full((48, 64), 90, np.uint16).tobytes()


def distorted_image(sensors):
    sensors.camera_info.d = [-0.36, 0.15, 0.0, 0.0, 0.0]


def other_frame(sensors):
    sensors.depth.header.frame_id = "rear_camera"


def frozen(sensors):
    sensors.frozen = True


def frozen_image(sensors):
    sensors.frozen_image = True


def one_stamp(sensors):
    sensors.held_ns = sensors.node.get_clock().now().nanoseconds


def seldom(sensors, period_s=0.7):
    """Not once a second, as /diagnostics: what it says just after a scan would stay hidden."""
    sensors.seldom = {"scan": period_s}


def too_fast(sensors):
    sensors.odom.twist.twist.linear.x = 100.0


def of_the_camera(sensors):
    sensors.odom.child_frame_id = "camera_pose_frame"


@pytest.mark.parametrize(
    ("fault", "node", "text"),
    [
        (frozen, "bev_builder", "expected content that changes"),
        (one_stamp, "sac_actor", "expected a stamp at most 0.3 s old"),
        (seldom, "sac_actor", "scan was away: 2 more messages must follow"),
        (too_fast, "sac_actor", "expected a twist of at most 0.64 m/s"),
        (of_the_camera, "sac_actor", "expected child_frame_id base_link"),
        (corrupt_depth, "bev_builder", "10 bytes of data"),
        (empty_depth, "bev_builder", "valid pixels"),
        (wrong_size, "bev_builder", "camera_info"),
        (dead_scan, "sac_actor", "found none in 360 beams"),
        (covered_scan, "sac_actor", "360 on the rover itself"),
        (covered_camera, "bev_builder", "100.0% nearer than depth_min_m"),
        (distorted_image, "bev_builder", "found distortion"),
        (other_frame, "bev_builder", "found 'rear_camera'"),
    ],
)
def test_bad_sensor_data_stops_the_rover_and_is_named(ros_graph, sensors, fault, node, text):
    _, commands = start_all(ros_graph)
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)
    diagnostics = diagnostics_of(ros_graph)
    fault(sensors)
    assert_stops(ros_graph, commands, sensors)
    ros_graph.until(lambda: text in last_message(diagnostics, node), every=sensors)


def test_a_scan_that_comes_once_a_second_does_not_drive_the_rover_in_jerks(ros_graph, sensors):
    _, commands = start_all(ros_graph)
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)
    seldom(sensors, 1.0)
    assert_stops(ros_graph, commands, sensors)
    commands.clear()
    ros_graph.until(lambda: len(commands) > 60, every=sensors)
    assert not moving(commands)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_zero_and_exit_0(ros_graph, sensors, number):
    from geometry_msgs.msg import Twist

    actor, _ = start_all(ros_graph)
    raw = ros_graph.collect(Twist, "cmd_vel_raw")
    ros_graph.until(lambda: len(moving(raw)) > 5, every=sensors)
    os.kill(actor.process.pid, number)
    ros_graph.until(lambda: actor.process.poll() is not None, 5.0, every=sensors)
    ros_graph.until(lambda: not moving(raw[-1:]), 2.0)
    assert actor.process.returncode == 0


def test_kill_9_of_the_actor_is_stopped_by_the_guard(ros_graph, sensors):
    actor, commands = start_all(ros_graph)
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)
    actor.process.kill()
    assert_stops(ros_graph, commands, sensors, timeout_s=2.0)


def test_snapshot_answers_with_the_path_or_says_why_not(ros_graph, sensors, contract):
    from std_srvs.srv import Trigger

    actor, commands = start_all(ros_graph)
    ros_graph.until(lambda: "driving with" in actor.output(), every=sensors)
    refused = ros_graph.call(Trigger, "calibration/snapshot")
    assert not refused.success and "no frame" in refused.message
    ros_graph.until(lambda: len(moving(commands)) > 2, every=sensors)
    answer = ros_graph.call(Trigger, "calibration/snapshot")
    assert answer.success
    assert samples.read(answer.message, contract).bev.any()
    sensors.muted = set(sensors.topics)
    assert_stops(ros_graph, commands, sensors)
    refused = ros_graph.call(Trigger, "calibration/snapshot")
    assert not refused.success and "no current frame" in refused.message


def test_a_flood_of_snapshots_is_answered(ros_graph, sensors):
    from rclpy.qos import QoSProfile
    from std_srvs.srv import Trigger

    _, commands = start_all(ros_graph)
    ros_graph.until(lambda: len(moving(commands)) > 2, every=sensors)
    qos = QoSProfile(depth=200)
    client = ros_graph.node.create_client(Trigger, "calibration/snapshot", qos_profile=qos)
    ros_graph.until(client.service_is_ready, every=sensors)
    futures = [client.call_async(Trigger.Request()) for _ in range(100)]
    ros_graph.until(lambda: all(f.done() for f in futures), 20.0, every=sensors)
    answers = [f.result() for f in futures]
    assert any(a.success for a in answers)
    assert all(a.success or "busy" in a.message for a in answers)
    commands.clear()
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)


@pytest.mark.parametrize(("content", "text"), [(None, "none.yaml"), ("a: [1", "none.yaml")])
def test_a_missing_or_broken_parameter_file_ends_with_2(ros_graph, tmp_path, content, text):
    ros_graph.params = tmp_path / "none.yaml"
    if content is not None:
        ros_graph.params.write_text(content)
    process = ros_graph.start(GUARD)
    assert process.process.wait(20) == 2
    assert "error: " in process.output() and text in process.output()
    assert "Traceback" not in process.output()


def test_unknown_and_wrong_parameters_end_with_2_and_are_all_named(ros_graph):
    process = ros_graph.start(GUARD, command_timeot_s=0.3, rate_hz=1.0)
    assert process.process.wait(20) == 2
    for text in ("command_timeot_s: unknown", "rate_hz: expected at least 5.0, found 1.0"):
        assert text in process.output()


def test_a_parameter_out_of_range_is_refused_with_the_reason(ros_graph):
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import GetParameters, SetParameters

    ros_graph.start(ACTOR, backend="fake")

    def set_probability(value):
        number = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
        request = SetParameters.Request(
            parameters=[Parameter(name="sample_probability", value=number)]
        )
        return ros_graph.call(SetParameters, "/sac_actor/set_parameters", request).results[0]

    for bad in (math.nan, -1.0, 100.0):
        result = set_probability(bad)
        assert not result.successful and result.reason
    assert set_probability(0.2).successful
    names = GetParameters.Request(names=["sample_probability"])
    answer = ros_graph.call(GetParameters, "/sac_actor/get_parameters", names)
    assert answer.values[0].double_value == 0.2


def change_state(graph, node, name):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    request = ChangeState.Request(
        transition=Transition(id=getattr(Transition, f"TRANSITION_{name}"))
    )
    return graph.call(ChangeState, f"/{node}/change_state", request).success


def test_life_cycle_can_be_driven_from_outside(ros_graph, sensors):
    _, commands = start_all(ros_graph)
    ros_graph.until(lambda: len(moving(commands)) > 2, every=sensors)
    assert not change_state(ros_graph, "sac_actor", "CONFIGURE")
    assert change_state(ros_graph, "sac_actor", "DEACTIVATE")
    assert_stops(ros_graph, commands, sensors)
    for name in ("CLEANUP", "CONFIGURE", "ACTIVATE"):
        assert change_state(ros_graph, "sac_actor", name)
    commands.clear()
    ros_graph.until(lambda: len(moving(commands)) > 2, every=sensors)


def test_configuring_from_outside_while_a_retry_is_due(ros_graph, sensors, actor_onnx):
    model = ros_graph.folder / "actor.onnx"
    actor, commands = start_all(ros_graph, backend="auto", model=str(model))
    # Found before, so that the connection stands when the four seconds begin.
    from lifecycle_msgs.srv import GetState

    ros_graph.call(GetState, "/sac_actor/get_state")
    ros_graph.until(lambda: "trying again in 4 s" in actor.output(), every=sensors)
    model.write_bytes(actor_onnx.read_bytes())
    assert change_state(ros_graph, "sac_actor", "CONFIGURE")
    assert change_state(ros_graph, "sac_actor", "ACTIVATE")
    diagnostics = diagnostics_of(ros_graph)
    ros_graph.until(lambda: len(diagnostics) > 12, every=sensors)
    assert actor.process.poll() is None
    assert moving(commands)


def test_two_publishers_of_one_command_topic_are_an_error(ros_graph):
    diagnostics = diagnostics_of(ros_graph)
    ros_graph.start(GUARD)
    rival = ("-r", "__node:=rival")
    ros_graph.start(GUARD, arguments=rival, node="rival", enable_stamped_cmd_vel=True)
    for text in ("2 publishers", "TwistStamped"):
        ros_graph.until(lambda text=text: text in last_message(diagnostics, "cmd_guard"))


@pytest.mark.parametrize("fault", ["nan", "shape", "range", "raise"])
def test_bad_answers_of_the_model_stop_and_open_it_anew(ros_graph, sensors, monkeypatch, fault):
    monkeypatch.setenv("FAULT", fault)
    actor, commands = start_all(ros_graph, "faulty_actor_node")
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)
    ros_graph.until(lambda: commands and not moving(commands[-1:]), every=sensors)
    ros_graph.until(lambda: "opened 2 times" in actor.output(), every=sensors)
    assert "stopped: inference failed: " in actor.output()
    commands.clear()
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)


def test_a_hanging_model_stops_the_rover_and_ends_the_actor(ros_graph, sensors, monkeypatch):
    monkeypatch.setenv("FAULT", "hang")
    actor, commands = start_all(ros_graph, "faulty_actor_node")
    ros_graph.until(lambda: len(moving(commands)) > 2, every=sensors)
    ros_graph.until(lambda: not moving(commands[-3:]), every=sensors)
    assert actor.process.poll() is None
    ros_graph.until(lambda: actor.process.poll() is not None, 10.0, every=sensors)
    assert actor.process.returncode == 70
    assert "inference has not answered" in actor.output()


def test_reload_keeps_the_old_model_when_the_new_one_cannot_be_used(ros_graph, sensors, actor_onnx):
    from std_srvs.srv import Trigger

    model = ros_graph.folder / "actor.onnx"
    model.write_bytes(actor_onnx.read_bytes())
    _, commands = start_all(ros_graph, backend="onnx", model=str(model))
    ros_graph.until(lambda: len(moving(commands)) > 2, every=sensors)
    model.write_bytes(actor_onnx.read_bytes()[:1000])
    answer = ros_graph.call(Trigger, "/sac_actor/reload_model")
    assert not answer.success and "actor.onnx" in answer.message
    commands.clear()
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)
    model.write_bytes(actor_onnx.read_bytes())
    assert ros_graph.call(Trigger, "/sac_actor/reload_model").success


def test_a_model_that_appears_later_is_driven_with(ros_graph, sensors, actor_onnx):
    model = ros_graph.folder / "actor.onnx"
    actor, commands = start_all(ros_graph, backend="auto", model=str(model))
    ros_graph.until(lambda: "actor.onnx" in actor.output() and "trying again" in actor.output())
    assert not moving(commands)
    model.write_bytes(actor_onnx.read_bytes())
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)


def test_a_full_disk_or_missing_folder_stops_sampling_but_not_driving(ros_graph, sensors):
    blocker = ros_graph.folder / "file"
    blocker.write_text("")
    _, commands = start_all(
        ros_graph, calibration_dir=str(blocker / "samples"), sample_probability=1.0
    )
    diagnostics = diagnostics_of(ros_graph)

    def sampling():
        return [
            v.value
            for m in diagnostics
            for s in m.status
            for v in s.values
            if s.name == "sac_actor" and v.key == "sampling"
        ]

    ros_graph.until(sampling, every=sensors)
    assert "sampling stopped" in sampling()[0]
    commands.clear()

    def concern():
        return [s for m in diagnostics[-5:] for s in m.status if s.name == "sac_actor"][-1]

    ros_graph.until(lambda: concern().level == b"\x01", every=sensors)
    assert concern().message.startswith("sampling stopped")
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)


def test_whatever_a_vendor_raises_at_configure_is_said(ros_graph, sensors, monkeypatch):
    monkeypatch.setenv("FAULT", "open")
    actor, commands = start_all(ros_graph, "faulty_actor_node")
    ros_graph.until(lambda: "trying again in 2 s" in actor.output(), every=sensors)
    assert actor.output().count("cannot be configured: 'vendor_enum'") == 1
    assert not moving(commands)


def test_whatever_a_vendor_raises_at_reload_the_old_model_drives_on(
    ros_graph, sensors, monkeypatch
):
    from std_srvs.srv import Trigger

    monkeypatch.setenv("FAULT", "open again")
    _, commands = start_all(ros_graph, "faulty_actor_node")
    ros_graph.until(lambda: len(moving(commands)) > 2, every=sensors)
    answer = ros_graph.call(Trigger, "/sac_actor/reload_model")
    assert not answer.success and "vendor_enum" in answer.message
    commands.clear()
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)


def test_a_command_that_is_not_finite_becomes_zero_at_the_guard(ros_graph):
    from geometry_msgs.msg import Twist

    ros_graph.start(GUARD)
    diagnostics = diagnostics_of(ros_graph)
    commands = ros_graph.collect(Twist, "cmd_vel")
    raw = ros_graph.node.create_publisher(Twist, "cmd_vel_raw", 1)
    bad = Twist()
    bad.linear.x = math.nan

    ros_graph.until(
        lambda: "not finite" in last_message(diagnostics, "cmd_guard"),
        every=lambda: raw.publish(bad),
    )
    assert commands and not moving(commands)


def test_one_process_drives_samples_stops_and_ends_like_two(ros_graph, sensors, contract):
    from geometry_msgs.msg import Twist
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    folder = ros_graph.folder / "samples"
    both = ros_graph.start(
        "tractor_inference.nodes.drive_node", node="sac_actor", backend="fake",
        calibration_dir=str(folder), sample_probability=1.0, sample_keep=5,
    )  # fmt: skip
    commands = ros_graph.collect(Twist, "cmd_vel_raw")
    ros_graph.until(lambda: len(moving(commands)) > 10, every=sensors)
    ros_graph.until(lambda: len(samples.list_files(folder)) >= 5, every=sensors)
    for file in samples.list_files(folder):
        sample = samples.read(file, contract)
        assert sample.bev[0, 32, 64] == 1.0 and sample.bev[0].sum() == 1.0 and sample.bev[1].any()
    # Nobody needed the topic so far; who asks for it gets it.
    assert ros_graph.node.count_subscribers("bev") == 0
    grids = ros_graph.collect(Image, "bev", qos_profile_sensor_data)
    ros_graph.until(lambda: len(grids) > 3, every=sensors)
    sensors.muted = {"depth"}
    assert_stops(ros_graph, commands, sensors)
    sensors.muted = set()
    ros_graph.until(lambda: moving(commands), every=sensors)
    assert both.stop() == 0
    ros_graph.until(lambda: not moving(commands[-1:]))


def test_hostile_samples_in_its_folder_do_not_end_the_sampling(ros_graph, sensors, contract):

    folder = ros_graph.folder / "samples"
    folder.mkdir()
    hostile = write_hostile_samples(folder)
    node = ros_graph.start(
        "tractor_inference.nodes.drive_node", node="sac_actor", backend="fake",
        calibration_dir=str(folder), sample_probability=1.0, sample_keep=5,
    )  # fmt: skip

    def good():
        return [file for file in samples.list_files(folder) if file not in hostile]

    ros_graph.until(lambda: len(good()) >= 5, every=sensors)
    assert all(samples.read(file, contract) for file in good())
    assert node.stop() == 0


def test_both_channels_can_be_looked_at_as_occupancy_grids(ros_graph, sensors):
    from nav_msgs.msg import OccupancyGrid
    from rclpy.qos import qos_profile_sensor_data

    ros_graph.start(BUILDER)
    # As RViz subscribes, which wants it reliable, and as a viewer on a weak network does.
    lidar = ros_graph.collect(OccupancyGrid, "bev/lidar", 5)
    depth = ros_graph.collect(OccupancyGrid, "bev/depth", qos_profile_sensor_data)
    ros_graph.until(lambda: lidar and depth, every=sensors)
    cells = np.array(lidar[-1].data).reshape(128, 128)
    # One metre ahead: x = 1 is column 96 of a map that begins at x = -2.
    assert [tuple(cell) for cell in np.argwhere(cells)] in ([(63, 95)], [(63, 96)], [(64, 95)])
    assert lidar[-1].info.resolution == pytest.approx(0.03125)
    assert np.count_nonzero(depth[-1].data) > 5


def test_a_limit_changes_only_while_the_rover_does_not_drive(ros_graph, sensors, contract):
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    ros_graph.start(BUILDER)
    grids = ros_graph.collect(Image, "bev", qos_profile_sensor_data)

    def depth_cells():
        return np.count_nonzero(messages.bev_from_message(grids[-1], contract)[1])

    def set_depth_max(value):
        request = SetParameters.Request(
            parameters=[Parameter("depth_max_m", value=value).to_parameter_msg()]
        )
        return ros_graph.call(SetParameters, "/bev_builder/set_parameters", request).results[0]

    ros_graph.until(lambda: grids and depth_cells(), every=sensors)
    refused = set_depth_max(1.0)
    assert not refused.successful and "deactivate the node first" in refused.reason
    ros_graph.until(lambda: depth_cells(), every=sensors)
    assert change_state(ros_graph, "bev_builder", "DEACTIVATE")
    refused = set_depth_max(0.1)
    assert not refused.successful
    assert "depth_min_m: expected less than depth_max_m = 0.1, found 0.2" in refused.reason
    assert set_depth_max(1.0).successful
    assert change_state(ros_graph, "bev_builder", "ACTIVATE")
    grids.clear()
    ros_graph.until(lambda: len(grids) > 2, every=sensors)
    assert not depth_cells()


def test_the_builder_counts_what_it_rejects_by_reason_and_says_what_a_frame_costs(
    ros_graph, sensors
):
    ros_graph.start(BUILDER)
    received = diagnostics_of(ros_graph)

    def values():
        found = [s for m in received for s in m.status if s.name == "bev_builder"]
        return {v.key: v.value for v in found[-1].values} if found else {}

    ros_graph.until(lambda: float(values().get("depth rate Hz", "0")) > 5, every=sensors)
    assert float(values()["cost p99 ms"]) > 0 and float(values()["scan age s"]) < 1
    empty_depth(sensors)
    reason = "depth rejected, expected at least 10% valid pixels"
    ros_graph.until(lambda: int(values().get(reason, "0")) > 3, every=sensors)
    sensors.offset_s = -9.0
    reason = "scan rejected, expected a stamp at most 0.3 s old"
    ros_graph.until(lambda: int(values().get(reason, "0")) > 3, every=sensors)


def test_sensor_poses_come_from_tf_when_asked_for(ros_graph, sensors, contract, monkeypatch):
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    transforms = ros_graph.folder / "tf.json"
    transforms.write_text("{}")
    monkeypatch.setenv("FAKE_TF", str(transforms))
    fake = os.path.join(os.path.dirname(os.path.dirname(__file__)), "fake_tf")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([fake, os.environ["PYTHONPATH"]]))
    sensors.scan.header.frame_id, sensors.depth.header.frame_id = "laser", "camera_optical"
    builder = ros_graph.start(BUILDER, **{"robot.use_tf": True})
    grids = ros_graph.collect(Image, "bev", qos_profile_sensor_data)
    wanted = "expected a transform from base_link to 'laser', found none"
    ros_graph.until(lambda: wanted in builder.output(), every=sensors)
    assert not grids
    # The LiDAR is mounted backwards; the camera looks ahead, as an optical frame says it.
    transforms.write_text(
        '{"base_link laser": [0, 0, 0.2, 0, 0, 1, 0],'
        ' "base_link camera_optical": [0.1, 0, 0.15, 0.5, -0.5, 0.5, -0.5]}'
    )
    ros_graph.until(lambda: grids, every=sensors)
    lidar, depth = messages.bev_from_message(grids[-1], contract)
    row, col = np.argwhere(lidar)[0]
    assert row in (95, 96) and col in (63, 64)
    assert {row for row, _ in np.argwhere(depth)} == {int((2.0 - 1.4) / 0.03125)}
    # Another LiDAR takes over, which looks ahead: its own pose counts, once the first is silent.
    transforms.write_text('{"base_link laser_2": [0, 0, 0.2, 0, 0, 0, 1]}')
    sensors.scan.header.frame_id = "laser_2"
    ros_graph.until(lambda: "frame_id 'laser_2' adopted" in builder.output(), every=sensors)
    assert "expected frame_id 'laser', found" in builder.output()
    grids.clear()
    ros_graph.until(lambda: grids, every=sensors)
    assert messages.bev_from_message(grids[-1], contract)[0, 32, 64] == 1.0


def test_tf_that_is_not_there_is_named_with_what_to_do(ros_graph, sensors):
    if importlib.util.find_spec("tf2_ros"):
        pytest.skip("tf2_ros is there")
    builder = ros_graph.start(BUILDER, **{"robot.use_tf": True})
    wanted = "robot.use_tf: expected the Python package tf2_ros, found none"
    ros_graph.until(lambda: wanted in builder.output())
    assert "ros-jazzy-tf2-ros-py" in builder.output()


def publish_turning(sensors):
    """Publish, 30 times a second, what a rover sees that turns left with 1 rad/s.

    The scan is a tenth of a second older than the image.
    """
    if time.monotonic() < sensors._next:
        return
    sensors._next = time.monotonic() + 1 / 30
    now_ns = sensors.node.get_clock().now().nanoseconds
    yaw = math.remainder(now_ns % 10**12 * 1e-9, 2 * math.pi)
    sensors.odom.pose.pose.orientation.z = math.sin(yaw / 2)
    sensors.odom.pose.pose.orientation.w = math.cos(yaw / 2)
    sensors.odom.twist.twist.angular.z = 1.0
    for name, age_ns in (("odom", 0), ("scan", 10**8), ("camera_info", 0), ("depth", 0)):
        publish(sensors, name, now_ns - age_ns)


def publish(sensors, name, stamp_ns):
    message = getattr(sensors, name)
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    sensors.publishers[name].publish(message)


@pytest.mark.parametrize(
    ("sweep_s", "turned_rad"), [(0.0, 0.1), (0.1, 0.05), (0.3, 0.1)],
    ids=["at once", "beams of their own time", "stamped when published"],
)  # fmt: skip
def test_a_scan_is_carried_to_the_time_of_the_image(
    ros_graph, sensors, contract, sweep_s, turned_rad
):
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    # Beam 180 of 360 sees a post 1.9 m ahead; its time is the middle of the sweep.
    ranges = np.full(360, 3.0, np.float32)
    ranges[180] = 1.9
    sensors.scan.ranges = ranges.tolist()
    sensors.scan.time_increment = sweep_s / 359
    builder = ros_graph.start(BUILDER)
    grids = ros_graph.collect(Image, "bev", qos_profile_sensor_data)

    def drawn():
        if not grids:
            return None
        row, col = np.argwhere(messages.bev_from_message(grids[-1], contract)[0])[0]
        return math.atan2(2.0 - (col + 0.5) * 0.03125, 2.0 - (row + 0.5) * 0.03125)

    # The rover turned left since: what was ahead is now to the right. Two cells are 0.033 rad.
    ros_graph.until(
        lambda: drawn() is not None and abs(drawn() + turned_rad) < 0.025,
        every=lambda: publish_turning(sensors),
    )
    said = "[bev_builder]: scan: its stamp is not the first beam's" in builder.output()
    assert said == (sweep_s == 0.3)


def test_the_builder_can_be_cleaned_up_and_configured_again(ros_graph, sensors, contract):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    ros_graph.start(BUILDER)
    grids = ros_graph.collect(Image, "bev", qos_profile_sensor_data)
    received = diagnostics_of(ros_graph)
    for _ in range(2):
        grids.clear()
        ros_graph.until(lambda: len(grids) > 2, every=sensors)
        grid = messages.bev_from_message(grids[-1], contract)
        assert grid[0, 32, 64] == 1.0 and grid[1].any()
        for name in ("DEACTIVATE", "CLEANUP", "CONFIGURE"):
            request = ChangeState.Request()
            request.transition.id = getattr(Transition, f"TRANSITION_{name}")
            assert ros_graph.call(ChangeState, "/bev_builder/change_state", request).success
        ros_graph.until(lambda: last_message(received, "bev_builder") == "not active")
        request.transition.id = Transition.TRANSITION_ACTIVATE
        assert ros_graph.call(ChangeState, "/bev_builder/change_state", request).success


def test_a_middleware_that_does_not_let_go_cannot_keep_a_node_alive(ros_graph, monkeypatch):
    from geometry_msgs.msg import Twist

    monkeypatch.setenv("STUCK_IN", "destroy_node")
    guard = ros_graph.start("stuck_guard_node", node="cmd_guard")
    commands = ros_graph.collect(Twist, "cmd_vel")
    ros_graph.until(lambda: commands)
    # It says in which call it hung.
    assert guard.stop() == 1
    assert "Timeout" in guard.output() and "destroy_node" in guard.output()


def test_many_signals_at_once_end_a_node(ros_graph):
    """As of Ctrl-C in a terminal, of ros2 launch and of the end of the launch, within a moment."""
    from geometry_msgs.msg import Twist

    for _ in range(5):
        guard = ros_graph.start("tractor_inference.nodes.cmd_guard_node")
        commands = ros_graph.collect(Twist, "cmd_vel")
        ros_graph.until(lambda: commands)  # noqa: B023
        for _ in range(5000):
            guard.process.send_signal(signal.SIGINT)
        assert guard.stop() == 0


def test_a_node_that_hangs_while_it_publishes_ends_when_asked(ros_graph, monkeypatch):
    monkeypatch.setenv("STUCK_IN", "publish")
    guard = ros_graph.start("stuck_guard_node", node="cmd_guard")
    ros_graph.until(lambda: "stuck" in guard.output())
    assert guard.stop() == 1
    assert "Timeout" in guard.output() and "publish_some" in guard.output()


@pytest.mark.parametrize("node", ["bev_builder", "sac_actor", "cmd_guard"])
def test_a_misspelt_section_is_refused(ros_graph, params_file, node):
    file = ros_graph.folder / "misspelt.yaml"
    file.write_text(params_file.read_text().replace(f"/**/{node}:", f"/**/{node}x:"))
    ros_graph.params = file
    process = ros_graph.start(f"tractor_inference.nodes.{node}_node")
    ros_graph.until(lambda: process.process.poll() is not None)
    assert process.process.returncode == 2
    assert f"expected a section /**/{node} in the parameter file" in process.output()


def test_every_level_of_the_pure_modules_reaches_the_log(ros_graph, capfd):
    from tractor_inference.nodes.base.python_log import RosLogHandler

    log = logging.getLogger("every level")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(RosLogHandler(ros_graph.node))
    for level in (logging.INFO, logging.WARNING, logging.ERROR, logging.INFO):
        log.log(level, "said at %d", level)
    said = capfd.readouterr().err
    for text in ("[INFO]", "said at 20", "[WARN]", "said at 30", "[ERROR]", "said at 40"):
        assert text in said
    assert said.count("said at 20") == 2


def test_a_node_says_which_parameter_files_it_was_given(ros_graph, params_file):
    text = "/**:\n  cmd_guard:\n    ros__parameters:\n      rate_hz: 10.0\n"
    memory = os.memfd_create("parameters")
    os.write(memory, text.encode())
    overrides = ("--params-file", f"/proc/{os.getpid()}/fd/{memory}")
    guard = ros_graph.start(GUARD, arguments=overrides)
    said = f"[cmd_guard]: parameters: {params_file}, the arguments of launch\n"
    ros_graph.until(lambda: said in guard.output())
    os.close(memory)


@pytest.mark.parametrize("thread", ["sampler", "watchdog", "model watch"])
def test_a_thread_that_dies_is_an_error_and_is_started_anew(
    ros_graph, sensors, thread, monkeypatch
):
    monkeypatch.setenv("FAULT", thread)
    actor, commands = start_all(
        ros_graph, "dying_actor_node", sample_probability=1.0, sample_keep=1000, watch_model=True
    )
    folder = ros_graph.folder / "samples"
    ros_graph.until(lambda: samples.list_files(folder) and moving(commands), every=sensors)
    diagnostics = diagnostics_of(ros_graph)
    (ros_graph.folder / "broken").touch()
    named = (
        f"thread {thread} died and is started anew: RuntimeError: a fault that nobody thought of"
    )
    ros_graph.until(lambda: named in actor.output(), every=sensors)
    ros_graph.until(
        lambda: last_message(diagnostics, "sac_actor").startswith(named), 2.0, every=sensors
    )
    levels = [s.level for m in diagnostics for s in m.status if s.name == "sac_actor"]
    assert levels[-1] == b"\x02"
    if thread == "watchdog":
        # Unwatched it does not drive.
        assert_stops(ros_graph, commands, sensors)
    (ros_graph.folder / "broken").unlink()
    before = len(samples.list_files(folder))
    commands.clear()
    ros_graph.until(
        lambda: len(samples.list_files(folder)) > before + 3 and len(moving(commands)) > 10,
        every=sensors,
    )
    assert "Traceback" in actor.output() and actor.output().count(named) == 1
