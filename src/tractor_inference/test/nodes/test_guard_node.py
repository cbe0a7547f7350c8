"""cmd_guard as a process: who commands, what is in the way, and who lets go."""

import math
import signal
import time

import numpy as np
import pytest
from test_nodes import (
    BUILDER,
    GUARD,
    Sensors,
    assert_stops,
    diagnostics_of,
    last_message,
    moving,
    start_all,
)

from tractor_core import samples

pytestmark = pytest.mark.ros

RELEASE, STOP = "/cmd_guard/release", "/cmd_guard/stop"


@pytest.fixture
def sensors(ros_graph):
    return Sensors(ros_graph)


class Operator:
    """Sends commands on cmd_vel_teleop beside the sensors' messages, while `active`."""

    def __init__(self, graph, sensors):
        from geometry_msgs.msg import Twist
        from rclpy.qos import qos_profile_sensor_data

        self._sensors = sensors
        # As some teleops offer it; reliable ones are heard as well.
        qos = qos_profile_sensor_data
        self._publisher = graph.node.create_publisher(Twist, "cmd_vel_teleop", qos)
        self.command = Twist()
        self.command.linear.x = -0.05
        self.active = True

    def __call__(self):
        self._sensors()
        if self.active:
            self._publisher.publish(self.command)


def called(graph, name):
    from std_srvs.srv import Trigger

    answer = graph.call(Trigger, name)
    assert answer.success
    return answer.message


def wall_ahead(sensors, range_m=0.26):
    ranges = np.full(360, 3.0, np.float32)
    ranges[160:200] = range_m
    sensors.scan.ranges = ranges.tolist()


def test_a_stop_holds_until_it_is_released_whoever_gave_it(ros_graph, sensors):
    from std_msgs.msg import Bool

    _, commands = start_all(ros_graph)
    guard = ros_graph.processes[-1]
    diagnostics = diagnostics_of(ros_graph)
    topic = ros_graph.node.create_publisher(Bool, "stop", 1)
    for stop, who in (
        (lambda: topic.publish(Bool(data=True)), "a message on stop"),
        (lambda: called(ros_graph, STOP), "a call of ~/stop"),
    ):
        ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)
        stop()
        assert_stops(ros_graph, commands, sensors)
        held = f"stopped by {who}, until ~/release is called"
        ros_graph.until(
            lambda held=held: held in last_message(diagnostics, "cmd_guard"), every=sensors
        )
        topic.publish(Bool(data=False))
        assert_stops(ros_graph, commands, sensors)
        assert called(ros_graph, RELEASE) == f"released; before: {held}"
        assert guard.output().count(f"[cmd_guard]: {held}") == 1
        commands.clear()


def test_the_operator_wins_and_letting_go_does_not_hand_over_to_the_network(ros_graph, sensors):
    _, commands = start_all(ros_graph)
    diagnostics = diagnostics_of(ros_graph)
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)
    operator = Operator(ros_graph, sensors)
    ros_graph.until(lambda: moving(commands[-5:]) == commands[-5:], every=operator)
    ros_graph.until(lambda: {c.linear.x for c in commands[-5:]} == {-0.05}, every=operator)
    operator.active = False
    assert_stops(ros_graph, commands, operator)
    text = "call ~/release to let the actor drive"
    ros_graph.until(lambda: text in last_message(diagnostics, "cmd_guard"), every=operator)
    assert called(ros_graph, RELEASE) == "released; before: the operator had the rover"
    commands.clear()
    ros_graph.until(lambda: len(moving(commands)) > 5, every=operator)
    assert all(c.linear.x != -0.05 for c in moving(commands))


class Blind:
    """Commands full speed ahead in the actor's place, beside the sensors' messages."""

    def __init__(self, graph, sensors):
        from geometry_msgs.msg import Twist

        self._sensors = sensors
        self._publisher = graph.node.create_publisher(Twist, "cmd_vel_raw", 1)
        self._command = Twist()
        self._command.linear.x = 0.18

    def __call__(self):
        self._sensors()
        self._publisher.publish(self._command)


def test_each_of_many_requests_is_answered(ros_graph):
    from rclpy.qos import QoSProfile
    from std_srvs.srv import Trigger

    ros_graph.start(GUARD)
    # Deep enough for the answers.
    client = ros_graph.node.create_client(Trigger, RELEASE, qos_profile=QoSProfile(depth=1000))
    ros_graph.until(client.service_is_ready)
    answers = [client.call_async(Trigger.Request()) for _ in range(200)]
    ros_graph.until(lambda: all(answer.done() for answer in answers))


@pytest.mark.parametrize("who", ["a stop", "the operator"])
def test_a_guard_that_was_killed_has_not_forgotten_who_holds_the_rover(ros_graph, sensors, who):
    _, commands = start_all(ros_graph)
    guard = ros_graph.processes[-1]
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)
    if who == "a stop":
        called(ros_graph, STOP)
        kept = "stopped by a call of ~/stop"
    else:
        operator = Operator(ros_graph, sensors)
        ros_graph.until(lambda: {c.linear.x for c in commands[-5:]} == {-0.05}, every=operator)
        kept = "the operator had the rover"
    (note,) = ros_graph.until(lambda: [*(ros_graph.folder / "ros").glob("*_held_*.txt")])
    ros_graph.until(lambda: kept in note.read_text(), every=sensors)
    guard.process.kill()
    guard.process.wait()
    ros_graph.processes.remove(guard)
    again = ros_graph.start(GUARD)
    assert_stops(ros_graph, commands, sensors, 20.0)
    assert "held as it was before this guard was started anew" in again.output()
    assert kept in called(ros_graph, RELEASE)
    commands.clear()
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)
    ros_graph.until(lambda: not note.exists(), every=sensors)


def test_only_ctrl_c_forgets_a_stop(ros_graph):
    folder = ros_graph.folder / "ros"

    def ended_by(number):
        guard = ros_graph.processes.pop()
        guard.process.send_signal(number)
        assert guard.process.wait(20.0) == 0
        return [*folder.glob("*_held_*.txt")]

    ros_graph.start(GUARD)
    called(ros_graph, STOP)
    (note,) = ros_graph.until(lambda: [*folder.glob("*_held_*.txt")])
    assert ended_by(signal.SIGTERM) == [note]
    ros_graph.start(GUARD)
    # However often it is started anew, it is the same stop.
    assert called(ros_graph, STOP).startswith("stopped by a call of ~/stop")
    assert ended_by(signal.SIGINT) == []


def test_a_wall_stops_the_way_into_it_whoever_commands_that(ros_graph, sensors):
    from geometry_msgs.msg import Twist

    ros_graph.start(GUARD)
    commands = ros_graph.collect(Twist, "cmd_vel")
    diagnostics = diagnostics_of(ros_graph)
    blind = Blind(ros_graph, sensors)
    ros_graph.until(lambda: len(moving(commands)) > 5, every=blind)
    wall_ahead(sensors)
    assert_stops(ros_graph, commands, blind)
    text = "stopped: obstacle in the way of this command"
    ros_graph.until(lambda: text in last_message(diagnostics, "cmd_guard"), every=blind)
    operator = Operator(ros_graph, blind)
    operator.command.linear.x = 0.1
    assert_stops(ros_graph, commands, operator)
    operator.command.linear.x = -0.05
    ros_graph.until(lambda: moving(commands), every=operator)


@pytest.mark.parametrize("stops", [True, False])
def test_without_a_scan_it_drives_only_where_a_parameter_says_so_and_shouts(
    ros_graph, sensors, stops
):
    from geometry_msgs.msg import Twist

    sensors.muted = {"scan"}
    ros_graph.start(GUARD, teleop_obstacle_stop=stops)
    commands = ros_graph.collect(Twist, "cmd_vel")
    diagnostics = diagnostics_of(ros_graph)
    operator = Operator(ros_graph, sensors)
    text = "stopped: scan never received" if stops else "teleop_obstacle_stop is false"
    ros_graph.until(lambda: text in last_message(diagnostics, "cmd_guard"), every=operator)
    if stops:
        assert_stops(ros_graph, commands, operator)
    else:
        ros_graph.until(lambda: len(moving(commands)) > 5, every=operator)


def test_a_dead_scan_stops_all_that_is_commanded_on_the_actors_topic(ros_graph, sensors):
    from geometry_msgs.msg import Twist

    ros_graph.start(GUARD)
    commands = ros_graph.collect(Twist, "cmd_vel")
    blind = Blind(ros_graph, sensors)
    ros_graph.until(lambda: len(moving(commands)) > 5, every=blind)
    sensors.muted = {"scan"}
    assert_stops(ros_graph, commands, blind)
    sensors.muted = set()
    commands.clear()
    ros_graph.until(lambda: len(moving(commands)) > 5, every=blind)


def test_the_grid_stops_it_before_what_the_scan_does_not_see(ros_graph, sensors):
    from diagnostic_msgs.msg import DiagnosticStatus
    from geometry_msgs.msg import Twist

    ros_graph.start(GUARD)
    commands = ros_graph.collect(Twist, "cmd_vel")
    diagnostics = diagnostics_of(ros_graph)
    blind = Blind(ros_graph, sensors)
    ros_graph.until(lambda: len(moving(commands)) > 5, every=blind)

    def level():
        found = [s for m in diagnostics for s in m.status if s.name == "cmd_guard"]
        return found[-1].level if found else None

    text = "low obstacles do not stop it: bev never received"
    ros_graph.until(lambda: last_message(diagnostics, "cmd_guard") == text, every=blind)
    assert level() == DiagnosticStatus.WARN
    ros_graph.start(BUILDER, depth_min_m=0.05)
    ros_graph.until(lambda: level() == DiagnosticStatus.OK, every=blind)
    # 0.28 m ahead of the middle, below the LiDAR.
    sensors.depth.data = np.full((48, 64), 100, np.uint16).tobytes()
    assert_stops(ros_graph, commands, blind)


def test_a_zero_is_repeated_at_the_rate_that_was_asked_for(ros_graph):
    from geometry_msgs.msg import Twist

    ros_graph.start(GUARD, rate_hz=20.0)
    commands = ros_graph.collect(Twist, "cmd_vel")
    ros_graph.until(lambda: commands)
    commands.clear()
    start_s = time.monotonic()
    ros_graph.until(lambda: len(commands) >= 60)
    assert 0.8 * 3.0 < time.monotonic() - start_s < 1.5 * 3.0


def test_what_was_executed_is_what_the_guard_let_through(ros_graph, sensors, contract):
    _, commands = start_all(ros_graph, sample_probability=1.0, sample_keep=1000)
    folder = ros_graph.folder / "samples"

    def newest():
        files = samples.list_files(folder)
        return samples.read(files[-1], contract).proprio[1:3].tolist() if files else None

    ros_graph.until(lambda: moving(commands), every=sensors)
    ros_graph.until(lambda: newest() not in (None, [0.0, 0.0]), every=sensors)
    called(ros_graph, STOP)
    # The actor goes on to command, the base is told zero.
    ros_graph.until(lambda: newest() == [0.0, 0.0], every=sensors)
    assert_stops(ros_graph, commands, sensors)


def test_an_operators_command_that_is_not_finite_stops(ros_graph, sensors):
    from geometry_msgs.msg import Twist

    ros_graph.start(GUARD)
    commands = ros_graph.collect(Twist, "cmd_vel")
    diagnostics = diagnostics_of(ros_graph)
    operator = Operator(ros_graph, sensors)
    ros_graph.until(lambda: len(moving(commands)) > 5, every=operator)
    operator.command.angular.z = math.inf
    assert_stops(ros_graph, commands, operator)
    text = "command of the operator is not finite"
    ros_graph.until(lambda: text in last_message(diagnostics, "cmd_guard"), every=operator)


def test_no_limit_of_the_guard_can_be_loosened_while_it_runs(ros_graph):
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import SetParameters

    ros_graph.start(GUARD)
    number = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=2.0)
    request = SetParameters.Request(parameters=[Parameter(name="command_timeout_s", value=number)])
    result = ros_graph.call(SetParameters, "/cmd_guard/set_parameters", request).results[0]
    assert not result.successful and "read-only" in result.reason
