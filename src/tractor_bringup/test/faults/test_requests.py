"""What others may ask of the nodes that drive: services, life cycle, parameters, models."""

import math
import random
import shutil
import statistics
import time
from functools import partial

import pytest
from test_lifecycle import Manager, walk

from faults.report import REPEATS, chosen
from faults.rig import Fault, Measured, Rig

pytestmark = [pytest.mark.ros, pytest.mark.slow]

KIND = "Requests"
WALK_S, STORM_S, FLOOD = (60.0, 10.0, 200) if REPEATS else (5.0, 3.0, 50)
# What a service that is busy answers within, s.
BUSY_S = 0.05
NODES = ("bev_builder", "sac_actor", "cmd_guard")
SAFETY = {
    "bev_builder": {"max_input_age_s": 2.0, "min_valid_depth_fraction": 0.0, "frozen_input_s": 0.0},
    "sac_actor": {"max_input_age_s": 2.0, "inference_exit_s": 60.0, "watchdog_period_s": 1.0},
    "cmd_guard": {"command_timeout_s": 2.0, "obstacle_stop": False, "obstacle_margin_m": 0.0},
}
ON = "drives on"


# Floods


def flood(service, period_s):
    """Call it FLOOD times, one each period_s; measure the answers."""

    def suffer(rig, fault):
        from rclpy.qos import QoSProfile
        from std_srvs.srv import Trigger

        rig.ready()
        client = rig.node.create_client(Trigger, service, qos_profile=QoSProfile(depth=1000))
        assert rig.wait(client.service_is_ready)
        answers = []

        def ask():
            asked_s = time.monotonic()
            client.call_async(Trigger.Request()).add_done_callback(
                lambda done: answers.append((time.monotonic() - asked_s, done.result()))
            )

        at_s = time.monotonic()
        for number in range(FLOOD):
            ask()
            rig.wait(partial(_over, at_s + (number + 1) * period_s), 1.0)
        measured = Measured()
        if not rig.wait(lambda: len(answers) == FLOOD, 20.0):
            measured.wrong.append(f"{FLOOD - len(answers)} of {FLOOD} calls were not answered")
        rig.count(measured, at_s)
        busy = [took_s for took_s, answer in answers if "busy" in answer.message]
        done = sum(answer.success for _, answer in answers)
        measured.note = f"{done} of {FLOOD} done, {len(busy)} busy"
        if not done or done + len(busy) != FLOOD:
            measured.wrong.append(measured.note)
        if busy:
            p50_ms, worst_ms = statistics.median(busy) * 1e3, max(busy) * 1e3
            measured.note += f", which is said within {p50_ms:.0f} ms, worst {worst_ms:.0f} ms"
            if period_s and REPEATS and max(busy) > BUSY_S:
                measured.wrong.append(f"busy was said after {worst_ms:.0f} ms")
        rig.node.destroy_client(client)
        rig.resume(fault, measured)
        return measured

    return suffer


def _over(end_s):
    return time.monotonic() >= end_s


# Parameters


def set_parameters(rig, node, *parameters):
    """Return (successful, reason) of each."""
    from rcl_interfaces.srv import SetParameters

    request = SetParameters.Request(parameters=[p.to_parameter_msg() for p in parameters])
    results = rig.call(SetParameters, f"/{node}/set_parameters", request).results
    return [(result.successful, result.reason) for result in results]


def loosen(rig, fault):
    """Ask for looser limits while it drives: each must be refused with a reason, and stay."""
    from rcl_interfaces.srv import GetParameters
    from rclpy.parameter import Parameter

    rig.ready()
    at_s, measured, asked = time.monotonic(), Measured(), 0
    for node, limits in SAFETY.items():
        names = GetParameters.Request(names=[*limits])
        before = rig.call(GetParameters, f"/{node}/get_parameters", names).values
        for name, value in limits.items():
            asked += 1
            ((done, reason),) = set_parameters(rig, node, Parameter(name, value=value))
            if done or not reason:
                measured.wrong.append(f"{node} took {name} = {value}")
        if rig.call(GetParameters, f"/{node}/get_parameters", names).values != before:
            measured.wrong.append(f"{node} has other limits")
    rig.count(measured, at_s)
    measured.note = f"{asked} refused, each with a reason"
    rig.resume(fault, measured)
    return measured


def storm(rig, fault):
    """Set random parameters of all nodes to random values, as fast as they answer."""
    from rcl_interfaces.srv import ListParameters
    from rclpy.parameter import Parameter

    rig.ready()
    names = {
        node: rig.call(ListParameters, f"/{node}/list_parameters").result.names for node in NODES
    }
    draw = random.Random(len(rig.commands))
    values = (math.nan, math.inf, -1.0, 0.0, 1e300, 2**62, -1, True, "", "x" * 1000, [1.0], [True])
    at_s, measured, taken, asked = time.monotonic(), Measured(), 0, 0
    while not _over(at_s + STORM_S):
        node = draw.choice(NODES)
        name = draw.choice([*names[node], "unknown", "a.b.c"])
        # The logger's level and time are ROS's own.
        if name.startswith(("use_sim_time", "start_type_description", "qos_overrides")):
            continue
        ((done, reason),) = set_parameters(rig, node, Parameter(name, value=draw.choice(values)))
        asked, taken = asked + 1, taken + done
        if not (done or reason):
            measured.wrong.append(f"{node} refused {name} without a reason")
    rig.count(measured, at_s)
    measured.note = f"{asked} asked, {taken} taken"
    rig.resume(fault, measured)
    return measured


# Life cycle


def transitions(rig, fault):
    """Ask builder and actor for random transitions."""
    rig.ready()
    managers = [Manager(rig.graph, name) for name in NODES[:2]]
    at_s, rounds, measured = time.monotonic(), 0, Measured()
    while not _over(at_s + WALK_S):
        try:
            walk(managers, 50, seed=rounds)
        except AssertionError as error:
            measured.wrong.append(f"round {rounds}: {error}")
            break
        rounds += 1
    measured.note = f"{rounds * 50} requests in {time.monotonic() - at_s:.0f} s"
    rig.resume(fault, measured)
    return measured


# Models


def write_model(change):
    """Let the model's path lead to something else, reload, and put the good one back."""

    def suffer(rig, fault):
        from std_srvs.srv import Trigger

        rig.ready()
        good = rig.model.read_bytes()
        change(rig.model)
        at_s, measured = time.monotonic(), Measured()
        answer = rig.call(Trigger, "/sac_actor/reload_model")
        measured.note = f"answered after {time.monotonic() - at_s:.2f} s"
        if answer.success or not answer.message:
            measured.wrong.append(f"answered {answer}")
        rig.listen(fault.watched_s)
        rig.count(measured, at_s)
        rig.model.write_bytes(good)
        rig.resume(fault, measured)
        return measured

    return suffer


def truncate(model):
    model.write_bytes(model.read_bytes()[:1000])


def other_shape(model):
    import onnx

    network = onnx.load(model)
    network.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    onnx.save(network, model)


KEEPS = "refused, said why; drives on with the one before"
ROWS = [
    (Fault(f"{FLOOD} calls of calibration/snapshot, each 20 ms",
           f"one at a time, others busy; {ON}", stops=False, resume_s=None, repeats=2, short=True),
     flood("/calibration/snapshot", 0.02)),
    (Fault(f"{FLOOD} calls of calibration/snapshot at once", f"all answered; {ON}",
           stops=False, resume_s=None, repeats=2), flood("/calibration/snapshot", 0.0)),
    (Fault(f"{FLOOD} calls of ~/reload_model, each 20 ms", f"one at a time, others busy; {ON}",
           stops=False, resume_s=None, repeats=2), flood("/sac_actor/reload_model", 0.02)),
    (Fault(f"{FLOOD} calls of cmd_guard/release, each 20 ms", f"all answered; {ON}",
           stops=False, resume_s=None, repeats=2), flood("/cmd_guard/release", 0.02)),
    (Fault("limits of all nodes loosened while it drives", f"refused, said why; {ON}",
           stops=False, short=True), loosen),
    (Fault(f"random parameters for {STORM_S:g} s", f"all answered; {ON}", stops=False), storm),
    (Fault(f"random transitions for {WALK_S:g} s", "each answered as the state says; drives again",
           stops=None, repeats=1, short=True), transitions),
    (Fault("reload of a truncated model", KEEPS, stops=False), write_model(truncate)),
    (Fault("reload of a missing model", KEEPS, stops=False),
     write_model(lambda model: model.unlink())),
    (Fault("reload of a model with another input", KEEPS, stops=False), write_model(other_shape)),
]  # fmt: skip


@pytest.fixture(scope="module")
def rig(shared_ros_graph, repository):
    model = shared_ros_graph.folder / "actor.onnx"
    shutil.copy(repository / "models/sac_actor_reference.onnx", model)
    settings = {"backend": "onnx", "model": str(model)}
    rig = Rig(shared_ros_graph, sac_actor=settings)
    rig.model = model
    yield rig
    rig.end()


@pytest.mark.parametrize(
    ("fault", "suffer"),
    [row for row in ROWS if chosen([row[0]])],
    ids=lambda value: getattr(value, "name", ""),
)
def test_row(rig, report, fault, suffer):
    report.measure(KIND, fault, partial(suffer, rig))
