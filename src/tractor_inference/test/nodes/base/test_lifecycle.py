"""Every request to a life-cycle node is answered, and what it leads to, in real processes."""

import random

import pytest
from test_nodes import ACTOR, BUILDER, Sensors, diagnostics_of, last_message, moving, start_all

pytestmark = pytest.mark.ros

DRIVE = "tractor_inference.nodes.drive_node"
UNCONFIGURED, INACTIVE, ACTIVE, FINALIZED, CONFIGURING = 1, 2, 3, 4, 10
CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE = 1, 2, 3, 4
SHUTDOWN = {UNCONFIGURED: 5, INACTIVE: 6, ACTIVE: 7}
FITTING = {
    (UNCONFIGURED, CONFIGURE): INACTIVE,
    (INACTIVE, ACTIVATE): ACTIVE,
    (ACTIVE, DEACTIVATE): INACTIVE,
    (INACTIVE, CLEANUP): UNCONFIGURED,
}
LABELS = {"configure": 1, "cleanup": 2, "activate": 3, "deactivate": 4}
# The state machine's own steps, create and destroy, and numbers that no transition has.
FOREIGN = (0, 8, 9, 10, 11, 12, 20, 30, 40, 42, 50, 60, 61, 62, 77, 255)
FOREIGN_LABELS = ("transition_success", "transition_error", "create", "Activate", "x" * 300, "é\n")


@pytest.fixture
def sensors(ros_graph):
    return Sensors(ros_graph)


class Manager:
    """Asks a node, as a life-cycle manager does; no answer within ten seconds is a failure."""

    def __init__(self, graph, node, every=None):
        from lifecycle_msgs.srv import ChangeState, GetState

        self._graph, self._every = graph, every
        self._change = graph.node.create_client(ChangeState, f"/{node}/change_state")
        self._get = graph.node.create_client(GetState, f"/{node}/get_state")
        graph.until(lambda: self._change.service_is_ready() and self._get.service_is_ready())

    def ask(self, number=0, label=""):
        """Send a request; returns the future."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        transition = Transition(id=number, label=label)
        return self._change.call_async(ChangeState.Request(transition=transition))

    def change(self, number=0, label=""):
        return self._answer(self.ask(number, label)).success

    def state(self):
        from lifecycle_msgs.srv import GetState

        return self._answer(self._get.call_async(GetState.Request())).current_state.id

    def _answer(self, future):
        self._graph.until(future.done, 10.0, self._every)
        return future.result()


def walk(managers, steps, seed, state=ACTIVE):
    """Send random requests, most of which do not fit, and compare each answer with the table."""
    draw = random.Random(seed)
    states = dict.fromkeys(managers, state)
    fitted = 0
    for _ in range(steps):
        manager = draw.choice([*managers])
        kind = draw.random()
        number, label = 0, ""
        if kind < 0.6:
            meant = number = draw.choice((CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE))
        elif kind < 0.8:
            label = draw.choice([*LABELS])
            number, meant = draw.choice((0, 99, CLEANUP)), LABELS[label]
        elif kind < 0.9:
            meant = number = draw.choice(
                (*FOREIGN, *(set(SHUTDOWN.values()) - {SHUTDOWN[states[manager]]}))
            )
        else:
            label, meant = draw.choice(FOREIGN_LABELS), None
        goal = FITTING.get((states[manager], meant))
        assert manager.change(number, label) == (goal is not None), (states[manager], number, label)
        if goal is not None:
            states[manager] = goal
            fitted += 1
        assert manager.state() == states[manager]
    assert fitted > steps / 10
    for manager, now in states.items():
        while now != ACTIVE:
            assert manager.change(CONFIGURE if now == UNCONFIGURED else ACTIVATE)
            now += 1


def started(graph, one_process):
    if not one_process:
        return start_all(graph)
    from geometry_msgs.msg import Twist

    folder = str(graph.folder / "samples")
    process = graph.start(DRIVE, node="sac_actor", backend="fake", calibration_dir=folder)
    return process, graph.collect(Twist, "cmd_vel_raw")


@pytest.mark.parametrize("one_process", [False, True], ids=["two processes", "one process"])
def test_hundreds_of_random_transitions_are_all_answered_and_it_drives_afterwards(
    ros_graph, sensors, one_process
):
    process, commands = started(ros_graph, one_process)
    ros_graph.until(lambda: len(moving(commands)) > 2, every=sensors)
    managers = [Manager(ros_graph, name, sensors) for name in ("bev_builder", "sac_actor")]
    walk(managers, 300, seed=one_process)
    commands.clear()
    ros_graph.until(lambda: len(moving(commands)) > 5, every=sensors)
    assert process.process.poll() is None


@pytest.mark.parametrize("state", [UNCONFIGURED, INACTIVE, ACTIVE])
@pytest.mark.parametrize("name", ["bev_builder", "sac_actor"])
def test_after_shutdown_the_process_answers_and_ends_with_0(ros_graph, sensors, name, state):
    from geometry_msgs.msg import Twist
    from lifecycle_msgs.srv import GetAvailableTransitions

    raw = ros_graph.collect(Twist, "cmd_vel_raw")
    actor, commands = start_all(ros_graph)
    process = {"bev_builder": ros_graph.processes[0], "sac_actor": actor}[name]
    ros_graph.until(lambda: len(moving(commands)) > 2, every=sensors)
    manager = Manager(ros_graph, name, sensors)
    for number in (DEACTIVATE, CLEANUP)[: ACTIVE - state]:
        assert manager.change(number)
    available = ros_graph.node.create_client(
        GetAvailableTransitions, f"/{name}/get_available_transitions"
    )
    ros_graph.until(available.service_is_ready, every=sensors)
    assert manager.change(label="shutdown")
    assert manager.state() == FINALIZED
    assert not manager.change(CONFIGURE) and not manager.change(label="shutdown")
    transitions = available.call_async(GetAvailableTransitions.Request())
    ros_graph.until(transitions.done, every=sensors)
    assert not transitions.result().available_transitions
    ros_graph.until(lambda: process.process.poll() is not None, every=sensors)
    assert process.process.returncode == 0
    assert not moving(raw[-1:])


def test_in_one_process_the_shutdown_of_both_nodes_is_answered(ros_graph, sensors):
    both, raw = started(ros_graph, one_process=True)
    ros_graph.until(lambda: len(moving(raw)) > 2, every=sensors)
    managers = [Manager(ros_graph, name, sensors) for name in ("bev_builder", "sac_actor")]
    for manager in managers:
        assert manager.change(SHUTDOWN[ACTIVE])
    assert [manager.state() for manager in managers] == [FINALIZED, FINALIZED]
    ros_graph.until(lambda: both.process.poll() is not None, every=sensors)
    assert both.process.returncode == 0
    assert not moving(raw[-1:])


def test_everything_is_answered_while_a_model_is_being_opened(ros_graph, sensors, monkeypatch):
    from std_srvs.srv import Trigger

    monkeypatch.setenv("OPEN_LIMIT_S", "60")  # all the questions are asked meanwhile
    model = ros_graph.folder / "actor.onnx"
    model.write_text("stuck")
    _, commands = start_all(ros_graph, "scripted_actor_node", model=str(model))
    manager = Manager(ros_graph, "sac_actor", sensors)
    ros_graph.until(lambda: manager.state() == CONFIGURING, every=sensors)
    for number in (CONFIGURE, ACTIVATE, SHUTDOWN[UNCONFIGURED], 10, 11, 12, 60):
        assert not manager.change(number)
    for label in ("transition_success", "transition_failure", "configure", "shutdown"):
        assert not manager.change(label=label)
    assert manager.state() == CONFIGURING
    for service in ("calibration/snapshot", "/sac_actor/reload_model"):
        answer = ros_graph.call(Trigger, service)
        assert not answer.success and "being configured" in answer.message
    (ros_graph.folder / "loosened").touch()
    ros_graph.until(lambda: len(moving(commands)) > 2, every=sensors)
    assert manager.state() == ACTIVE


def test_services_are_there_without_a_model_and_say_why(ros_graph, sensors):
    from std_srvs.srv import Trigger

    missing = ros_graph.folder / "missing.rknn"
    actor, _ = start_all(ros_graph, backend="auto", model=str(missing))
    ros_graph.until(lambda: "trying again" in actor.output(), every=sensors)
    for service in ("calibration/snapshot", "/sac_actor/reload_model"):
        answer = ros_graph.call(Trigger, service)
        assert not answer.success
        assert "cannot be configured: " in answer.message and "missing.rknn" in answer.message


def test_services_say_that_nobody_has_configured_the_node(ros_graph, sensors):
    from std_srvs.srv import Trigger

    start_all(ros_graph, autostart=False)
    manager = Manager(ros_graph, "sac_actor", sensors)
    wanted = {UNCONFIGURED: "not configured", INACTIVE: "no frame to save yet: not active"}
    for state, text in wanted.items():
        assert manager.state() == state
        answer = ros_graph.call(Trigger, "calibration/snapshot")
        assert not answer.success and text in answer.message
        assert manager.change(CONFIGURE if state == UNCONFIGURED else ACTIVATE)


@pytest.mark.parametrize("fault", ["configuring", "activating", "deactivating"])
def test_an_error_in_a_transition_leads_to_unconfigured_and_on(
    ros_graph, sensors, monkeypatch, fault
):
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    monkeypatch.setenv("FAULT", fault)
    builder = ros_graph.start("erring_builder_node", node="bev_builder", autostart=False)
    diagnostics = diagnostics_of(ros_graph)
    manager = Manager(ros_graph, "bev_builder", sensors)
    for number in (CONFIGURE, ACTIVATE, DEACTIVATE):
        worked = manager.change(number)
        if not worked:
            break
    assert not worked and f"the device is gone while {fault}" in builder.output()
    assert manager.state() == UNCONFIGURED
    ros_graph.until(lambda: fault in last_message(diagnostics, "bev_builder"), every=sensors)
    (ros_graph.folder / "mended").touch()
    grids = ros_graph.collect(Image, "bev", qos_profile_sensor_data)
    walk([manager], 40, seed=3, state=UNCONFIGURED)
    ros_graph.until(lambda: len(grids) > 2, every=sensors)


def test_a_node_that_starts_itself_tries_again_after_an_error_while_activating(
    ros_graph, sensors, monkeypatch
):
    monkeypatch.setenv("FAULT", "activating")
    builder = ros_graph.start("erring_builder_node", node="bev_builder")
    ros_graph.until(lambda: "trying again in 2 s" in builder.output(), every=sensors)
    (ros_graph.folder / "mended").touch()
    manager = Manager(ros_graph, "bev_builder", sensors)
    ros_graph.until(lambda: manager.state() == ACTIVE, every=sensors)


def test_a_node_that_cannot_be_released_ends_with_1(ros_graph, sensors, monkeypatch):
    monkeypatch.setenv("FAULT", "releasing")
    builder = ros_graph.start("erring_builder_node", node="bev_builder")
    manager = Manager(ros_graph, "bev_builder", sensors)
    ros_graph.until(lambda: manager.state() == ACTIVE, every=sensors)
    assert manager.change(DEACTIVATE) and not manager.change(CLEANUP)
    assert manager.state() == FINALIZED
    ros_graph.until(lambda: builder.process.poll() is not None, every=sensors)
    assert builder.process.returncode == 1


@pytest.mark.parametrize("node", [BUILDER, ACTOR, "tractor_inference.nodes.cmd_guard_node"])
def test_a_parameter_of_a_kind_that_does_not_exist_is_refused(ros_graph, node):
    from rcl_interfaces.msg import Parameter, ParameterValue
    from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically

    ros_graph.start(node, **({"backend": "fake"} if node == ACTOR else {}))
    name = node.rpartition(".")[2].removesuffix("_node")
    services = {
        "set_parameters": SetParameters,
        "set_parameters_atomically": SetParametersAtomically,
    }
    clients = {
        service: ros_graph.node.create_client(service, f"/{name}/{path}")
        for path, service in services.items()
    }
    ros_graph.until(lambda: all(client.service_is_ready() for client in clients.values()))
    # A client that the node has not discovered yet would miss its answer.
    ros_graph.call(GetParameters, f"/{name}/get_parameters")
    for kind in (10, 77, 255, 0):
        strange = Parameter(name="max_input_age_s", value=ParameterValue(type=kind))
        for service, client in clients.items():
            future = client.call_async(service.Request(parameters=[strange, strange]))
            ros_graph.until(future.done)
            answer = future.result()
            results = answer.results if service == SetParameters else [answer.result]
            assert results and not any(result.successful for result in results)
            assert all(result.reason for result in results)
    names = GetParameters.Request(names=["robot.half_length_m"])
    assert ros_graph.call(GetParameters, f"/{name}/get_parameters", names).values
