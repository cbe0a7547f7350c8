"""What the nodes leave of a drive for training: every step once, who gave it, and why it ended."""

import numpy as np
import pytest
from test_guard_node import RELEASE, STOP, Operator, called
from test_nodes import Sensors, assert_stops, diagnostics_of, moving, start_all

from tractor_core import experience
from tractor_core.experience import DRIVERS
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
    assert {DRIVERS[i] for chunk in chunks for i in chunk.rows["driver"][:-1]} == {"policy"}
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
