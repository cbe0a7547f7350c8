"""What the nodes leave of a drive for training: every step once, who gave it, and why it ended."""

import actor_factory
import numpy as np
import onnx
import pytest
from test_guard_node import RELEASE, STOP, Operator, called
from test_nodes import (
    ACTOR,
    BUILDER,
    GUARD,
    Sensors,
    assert_stops,
    change_state,
    diagnostics_of,
    moving,
    start_all,
)

from tractor_core import experience, messages
from tractor_core import robot as robots
from tractor_core.experience import DRIVERS
from tractor_core.kinematics import action_to_velocity
from tractor_core.spool import Spool

pytestmark = pytest.mark.ros


def driven(graph, commands, every):
    """Drive for two seconds."""
    commands.clear()
    graph.until(lambda: len(moving(commands)) > 60, every=every)


def read(folder, contract):
    return [experience.read(path, contract) for path in Spool(folder, 0).waiting()]


def value(received, name, key):
    """Return a value of a node's last diagnostics."""
    for message in reversed(received):
        for status in message.status:
            if status.name == name:
                return {entry.key: entry.value for entry in status.values}.get(key)
    return None


def test_a_drive_is_told_step_by_step(ros_graph, contract):
    sensors = Sensors(ros_graph)
    process, commands = start_all(ros_graph)
    driven(ros_graph, commands, sensors)
    operator = Operator(ros_graph, sensors)
    ros_graph.until(lambda: {c.linear.x for c in commands[-30:]} == {-0.05}, every=operator)
    operator.active = False
    assert_stops(ros_graph, commands, operator)
    called(ros_graph, RELEASE)
    driven(ros_graph, commands, operator)
    called(ros_graph, STOP)
    assert_stops(ros_graph, commands, operator)
    called(ros_graph, RELEASE)
    driven(ros_graph, commands, operator)
    sensors.muted.add("scan")
    assert_stops(ros_graph, commands, operator)
    sensors.heal()
    driven(ros_graph, commands, operator)
    assert process.stop() == 0
    chunks = read(ros_graph.folder / "experience", contract)
    assert {chunk.session for chunk in chunks} == {chunks[0].session}
    told = [(chunk.end, {DRIVERS[i] for i in chunk.rows["driver"][:-1]}) for chunk in chunks]
    whys = [end for end, _ in told if end]
    assert whys[0] == "operator" and whys[-1] == "session end"
    assert whys[1:-1] == ["stop"] * len(whys[1:-1]) and len(whys) >= 5
    assert told[0] == ("", {"policy"})
    assert any(drivers <= {"teleop", "stop"} and "teleop" in drivers for _, drivers in told)
    for chunk in chunks:
        teleop = chunk.rows["driver"][:-1] == DRIVERS.index("teleop")
        # 0.05 m/s backwards, of 0.18 for both tracks.
        assert np.allclose(chunk.executed[teleop], -0.05 / 0.18, atol=1e-6)
        apart_s = np.diff(chunk.rows["stamp_ns"]) * 1e-9
        assert 0.02 < np.median(apart_s) < 0.05
    assert sum(map(len, chunks)) > 180


def test_who_drives_is_one_of_four_words_or_not_listened_to(ros_graph, contract):
    from std_msgs.msg import String

    from tractor_inference.nodes.base.commands import DRIVER_QOS

    sensors = Sensors(ros_graph)
    process, commands = start_all(ros_graph)
    driven(ros_graph, commands, sensors)
    liar = ros_graph.node.create_publisher(String, "cmd_guard/driver", DRIVER_QOS)
    liar.publish(String(data="somebody\nelse"))
    driven(ros_graph, commands, sensors)
    assert "expected one of" in process.output()
    assert process.stop() == 0
    chunks = read(ros_graph.folder / "experience", contract)
    drivers = {DRIVERS[i] for chunk in chunks for i in chunk.rows["driver"][:-1]}
    # A machine that hesitates stops it for a moment.
    assert "policy" in drivers and drivers <= {"policy", "stop"}
    assert chunks[-1].end == "session end" and sum(map(len, chunks)) > 110


def test_a_folder_that_takes_nothing_is_a_warning_and_nothing_is_lost(ros_graph, contract):
    from diagnostic_msgs.msg import DiagnosticStatus

    sensors = Sensors(ros_graph)
    blocked = ros_graph.folder / "elsewhere"
    blocked.write_text("no folder")
    process, commands = start_all(ros_graph, experience_dir=str(blocked))
    diagnostics = diagnostics_of(ros_graph)
    driven(ros_graph, commands, sensors)
    said = ros_graph.until(lambda: value(diagnostics, "sac_actor", "experience"), every=sensors)
    assert "elsewhere" in said
    levels = [s.level for m in diagnostics for s in m.status if s.name == "sac_actor"]
    assert levels[-1] == DiagnosticStatus.WARN and moving(commands[-5:]) == commands[-5:]
    blocked.unlink()
    ros_graph.until(
        lambda: (
            value(diagnostics, "sac_actor", "experience") is None
            and int(value(diagnostics, "sac_actor", "experience steps")) > 60
        ),
        every=sensors,
    )
    assert process.stop() == 0
    chunks = read(blocked, contract)
    assert [chunk.first for chunk in chunks] == list(np.cumsum([0, *map(len, chunks)])[:-1])


# Exploration


def set_parameter(graph, name, value):
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import SetParameters

    kind = "bool" if isinstance(value, bool) else "double"
    number = ParameterValue(
        type=getattr(ParameterType, f"PARAMETER_{kind.upper()}"), **{f"{kind}_value": value}
    )
    request = SetParameters.Request(parameters=[Parameter(name=name, value=number)])
    return graph.call(SetParameters, "/sac_actor/set_parameters", request).results[0]


def test_what_is_explored_is_commanded_and_told_with_the_answer(ros_graph, contract):
    """One node, without exploration and then with it; its commands are those that it tells of."""
    from geometry_msgs.msg import TwistStamped

    model = actor_factory.make_actor()
    onnx.helper.set_model_props(model, {"exploration_scale": "0.5"})
    onnx.save(model, ros_graph.folder / "actor.onnx")
    sensors = Sensors(ros_graph)
    ros_graph.start(BUILDER)
    process = ros_graph.start(
        ACTOR, node="sac_actor", backend="onnx", model=str(ros_graph.folder / "actor.onnx"),
        enable_stamped_cmd_vel=True, explore_max_scale=0.2, explore_share=1.0,
    )  # fmt: skip
    ros_graph.start(GUARD, enable_stamped_cmd_vel=True)
    commands = ros_graph.collect(TwistStamped, "cmd_vel_raw", 1000)
    diagnostics = diagnostics_of(ros_graph)

    def drive():
        before = len(commands)
        ros_graph.until(lambda: len(commands) > before + 90, every=sensors)
        diagnostics.clear()
        ros_graph.until(lambda: value(diagnostics, "sac_actor", "exploration"), every=sensors)
        return value(diagnostics, "sac_actor", "exploration")

    assert drive() == "off"
    for name, wanted in (
        ("explore", True), ("explore_max_scale", 1.0), ("explore_share", 0.0),
    ):  # fmt: skip
        refused = set_parameter(ros_graph, name, wanted)
        assert not refused.successful and "deactivate the node first" in refused.reason
    assert drive() == "off"
    assert change_state(ros_graph, "sac_actor", "DEACTIVATE")
    assert set_parameter(ros_graph, "explore", True).successful
    assert change_state(ros_graph, "sac_actor", "ACTIVATE")
    assert drive() == "scale 0.2, the model asks for 0.5; now with noise"
    assert process.stop() == 0

    robot = robots.load(ros_graph.params)
    commanded = {
        messages.stamp_ns(c.header.stamp): (c.twist.linear.x, c.twist.angular.z) for c in commands
    }
    drivers, apart, compared = [], [], 0
    for chunk in read(ros_graph.folder / "experience", contract):
        for row in chunk.rows[:-1]:
            drivers.append(DRIVERS[row["driver"]])
            apart.append(not np.array_equal(row["answer"], row["requested"]))
            assert np.abs(row["requested"]).max() <= 1.0
            if row["stamp_ns"] in commanded:  # the first may come before they are listened to
                compared += 1
                velocity = action_to_velocity(row["requested"], contract, robot)
                assert commanded[row["stamp_ns"]] == pytest.approx(velocity, abs=1e-9)
    first = drivers.index("exploring")
    assert first > 60 and {*drivers[:first]} == {"policy"} and not any(apart[:first])
    assert len(drivers) > first + 60 and {*drivers[first:]} == {"exploring"} and all(apart[first:])
    assert compared > 120


def test_a_model_that_names_no_noise_drives_without_and_says_so(ros_graph, contract):
    sensors = Sensors(ros_graph)
    process, commands = start_all(ros_graph, explore=True, explore_share=1.0)
    diagnostics = diagnostics_of(ros_graph)
    driven(ros_graph, commands, sensors)
    said = ros_graph.until(lambda: value(diagnostics, "sac_actor", "exploration"), every=sensors)
    assert said == "none: the model names no exploration_scale"
    assert process.stop() == 0
    assert process.output().count("names no exploration_scale") == 1
    for chunk in read(ros_graph.folder / "experience", contract):
        assert {DRIVERS[i] for i in chunk.rows["driver"][:-1]} == {"policy"}
        assert np.array_equal(chunk.rows["answer"], chunk.rows["requested"])
