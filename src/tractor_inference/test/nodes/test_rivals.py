"""Several rovers, or several of one node, in one domain and one folder."""

from functools import partial

import pytest
from test_nodes import (
    ACTOR,
    GUARD,
    Sensors,
    assert_stops,
    diagnostics_of,
    last_message,
    moving,
    start_all,
)

from tractor_core import contract as contract_module
from tractor_core import samples

pytestmark = pytest.mark.ros


@pytest.fixture
def sensors(ros_graph):
    return Sensors(ros_graph)


def test_two_actors_of_one_name_stop_the_rover_until_one_ends(ros_graph, sensors):
    _, commands = start_all(ros_graph)
    diagnostics = diagnostics_of(ros_graph)
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)
    second = ros_graph.start(ACTOR, node="sac_actor", backend="fake")
    stopped = "stopped: 2 publishers send commands of the actor at once"
    named = "/cmd_vel_raw has 2 publishers: /sac_actor 2 times"

    def said():
        text = last_message(diagnostics, "cmd_guard")
        return stopped in text and named in text

    ros_graph.until(said, every=sensors)
    assert_stops(ros_graph, commands, sensors)
    assert second.stop() == 0
    commands.clear()
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)
    ros_graph.until(lambda: last_message(diagnostics, "cmd_guard") == "ok", every=sensors)


def test_another_guard_of_one_name_is_an_error(ros_graph, sensors):
    _, commands = start_all(ros_graph)
    diagnostics = diagnostics_of(ros_graph)
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)
    ros_graph.until(lambda: last_message(diagnostics, "cmd_guard") == "ok", every=sensors)
    ros_graph.start(GUARD)
    text = "/cmd_vel has 2 publishers: /cmd_guard 2 times; end all but one, or give each rover"
    ros_graph.until(lambda: text in last_message(diagnostics, "cmd_guard"), every=sensors)


def test_an_actor_that_was_killed_and_started_anew_is_no_rival(ros_graph, sensors):
    actor, commands = start_all(ros_graph)
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)
    actor.process.kill()
    ros_graph.start(ACTOR, node="sac_actor", backend="fake")
    assert_stops(ros_graph, commands, sensors)
    diagnostics = diagnostics_of(ros_graph)
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)

    def of_the_guard():
        return [s for m in diagnostics for s in m.status if s.name == "cmd_guard"]

    def listed():
        return [v.value for s in of_the_guard() for v in s.values if "cmd_vel_raw" in v.key]

    ros_graph.until(lambda: listed().count("/sac_actor 2 times") > 4, every=sensors)
    assert {s.message for s in of_the_guard() if "publishers" in s.message} == set()


def test_rovers_of_their_own_namespace_share_no_folder(ros_graph, sensors, params_file):
    from std_srvs.srv import Trigger

    contract = contract_module.load(params_file)
    text = params_file.read_text().replace('backend: "auto"', 'backend: "fake"')
    ros_graph.params = ros_graph.folder / "parameters.yaml"
    ros_graph.params.write_text(text.replace("probability: 0.1", "probability: 1.0"))
    for namespace in ("/one", "/fleet/two"):
        rules = (f"__ns:={namespace}", *(f"{topic}:=/{topic}" for topic in sensors.topics))
        arguments = tuple(part for rule in rules for part in ("-r", rule))
        ros_graph.start("tractor_inference.nodes.drive_node", arguments=arguments)
    answers = []

    def saved(client):
        future = client.call_async(Trigger.Request())
        ros_graph.until(future.done, every=sensors)
        return future.result() if future.result().success else None

    for namespace in ("/one", "/fleet/two"):
        client = ros_graph.node.create_client(Trigger, f"{namespace}/calibration/snapshot")
        ros_graph.until(client.service_is_ready, every=sensors)
        answers.append(ros_graph.until(partial(saved, client), every=sensors))
    for name, answer in zip(("one", "fleet/two"), answers):
        folder = ros_graph.folder / "calibration_data" / name
        assert answer.message.startswith(f"{folder}/")
        assert samples.read(answer.message, contract).origin == "snapshot"
        assert len(samples.list_files(folder)) > 1
    assert not samples.list_files(ros_graph.folder / "calibration_data")


def test_sampling_can_be_changed_while_it_drives(ros_graph, sensors):
    from rcl_interfaces.srv import DescribeParameters, SetParameters
    from rclpy.parameter import Parameter

    _, commands = start_all(ros_graph, sample_probability=0.0, sample_keep=3)
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)
    folder = ros_graph.folder / "samples"

    def set_parameter(name, value):
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        return ros_graph.call(SetParameters, "/sac_actor/set_parameters", request).results[0]

    for name, value in (
        ("sample_probability", 1.5), ("sample_probability", float("nan")), ("sample_keep", -1),
        ("sample_retention", "first"), ("calibration_dir", "elsewhere"), ("seed", 7),
    ):  # fmt: skip
        refused = set_parameter(name, value)
        assert not refused.successful and refused.reason
    assert not samples.list_files(folder)
    assert set_parameter("sample_probability", 1.0).successful
    ros_graph.until(lambda: len(samples.list_files(folder)) == 3, every=sensors)
    assert set_parameter("sample_keep", 8).successful
    ros_graph.until(lambda: len(samples.list_files(folder)) > 4, every=sensors)
    request = DescribeParameters.Request(names=["sample_keep", "sample_retention"])
    live, fixed = ros_graph.call(
        DescribeParameters, "/sac_actor/describe_parameters", request
    ).descriptors
    assert "Read at start" in fixed.description and fixed.read_only
    assert "Read at start" not in live.description and not live.read_only


@pytest.mark.toolkit
def test_a_converted_model_drives_a_pc_in_the_simulator_and_says_so_without_a_flood(
    ros_graph, sensors, int8_model
):
    actor, commands = start_all(ros_graph, backend="auto", model=str(int8_model))
    diagnostics = diagnostics_of(ros_graph)
    # The random weights may well stand still; what counts is that they answer.
    ros_graph.until(lambda: "sac_actor]: driving\n" in actor.output(), 60.0, every=sensors)
    commands.clear()
    ros_graph.until(lambda: len(commands) > 30, every=sensors)
    values = {v.key: v.value for m in diagnostics for s in m.status for v in s.values}
    assert values["backend"] == "rknn_sim" and "no NPU here" in values["backend auto"]
    assert "backend auto: chose rknn_sim for " in actor.output()
    # The toolkit says some thirty lines a build, one of them past Python.
    foreign = [line for line in actor.output().splitlines() if not line.startswith("[")]
    assert len(foreign) <= 2, foreign
