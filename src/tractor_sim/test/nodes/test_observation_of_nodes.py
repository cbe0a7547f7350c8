"""The rover, its harvest and the simulator see the same: one world, through nodes and without."""

import dataclasses

import numpy as np
import pytest

from tractor_core import messages, samples
from tractor_inference.model.backends import open_backend
from tractor_inference.model.policy import Policy
from tractor_sim.senses import CONTROL_HZ, SCAN_EVERY_TICKS, Senses, Setup
from tractor_sim.simulation import Simulation

SEED, MAX_AGE_S = 11, 5.0
# Turning both ways, driving and reversing; about four cells a scan period at two metres.
COMMANDS = [(0.1, 1.0)] * 4 + [(0.0, -1.0)] * 3 + [(-0.1, 0.8)] * 3


def headless(setup, model):
    """Return {stamp: (grid, proprio)} of the drive without ROS."""
    simulation = Simulation(SEED, setup.robot)
    senses = Senses(simulation, setup)
    policy = Policy(setup.contract, setup.robot, open_backend("onnx", model, setup.contract))
    seen = {}
    for command in COMMANDS:
        simulation.step(*command, 1.0 / CONTROL_HZ)
        senses.tick()
        observation = senses.observe()
        senses.executed(policy.step(observation).velocity)
        seen[observation.stamp_ns] = observation.bev.copy(), observation.proprio
    return seen


def through_nodes(graph, setup, model):
    """Drive the same through bev_builder and sac_actor; each tick waits for what it sent.

    Returns:
        {stamp: (grid, proprio)} of the samples that the actor wrote.
    """
    from builtin_interfaces.msg import Time
    from diagnostic_msgs.msg import DiagnosticArray
    from geometry_msgs.msg import TwistStamped
    from nav_msgs.msg import Odometry
    from rosgraph_msgs.msg import Clock
    from sensor_msgs.msg import LaserScan

    from tractor_inference.nodes.base.sensor_inputs import SENSOR_QOS
    from tractor_sim.nodes.sensors import SensorPublisher, odometry_message, scan_message

    node, folder = graph.node, graph.folder / "samples"
    sensors = SensorPublisher(node)
    clock = node.create_publisher(Clock, "/clock", 10)
    odometry = node.create_publisher(Odometry, "odom", SENSOR_QOS)
    lidar = node.create_publisher(LaserScan, "scan", SENSOR_QOS)
    diagnostics = graph.collect(DiagnosticArray, "/diagnostics")
    commands = graph.collect(TwistStamped, "cmd_vel_raw")
    # In place of the guard: the base is told all that the actor asks for.
    base = node.create_publisher(TwistStamped, "cmd_vel", 10)
    node.create_subscription(TwistStamped, "cmd_vel_raw", base.publish, 10)
    common = {"use_sim_time": True, "max_input_age_s": MAX_AGE_S}
    graph.start("tractor_inference.nodes.bev_builder_node", **common)
    graph.start(
        "tractor_inference.nodes.sac_actor_node", backend="onnx", model=str(model),
        enable_stamped_cmd_vel=True, sample_probability=1.0, calibration_dir=str(folder), **common,
    )  # fmt: skip

    def received(name):
        """How many messages of an input both nodes have accepted."""
        counts = {}
        for status in (s for message in diagnostics for s in message.status):
            values = {v.key: v.value for v in status.values}
            counts[status.name] = int(values.get(f"{name} received", -1))
        return min(counts.get(n, -1) for n in ("bev_builder", "sac_actor"))

    def moved(messages_of_commands):
        """The stamps of those commands that move."""
        return [
            messages.stamp_ns(m.header.stamp)
            for m in messages_of_commands
            if m.twist.linear.x or m.twist.angular.z
        ]

    graph.until(lambda: received("scan") == received("odom") == 0)
    simulation = Simulation(SEED, setup.robot)
    simulation.scan()  # the one that Senses begins with
    scans = 0
    for tick, command in enumerate(COMMANDS):
        simulation.step(*command, 1.0 / CONTROL_HZ)
        stamp_ns = round(simulation.time_s * 1e9)
        stamp = Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
        clock.publish(Clock(clock=stamp))
        odometry.publish(odometry_message(simulation.odom(), stamp))
        if tick % SCAN_EVERY_TICKS == 0:
            lidar.publish(scan_message(simulation.scan(), stamp))
            scans += 1
        wanted = tick + 1, scans
        graph.until(lambda wanted=wanted: (received("odom"), received("scan")) == wanted)
        sensors.publish(None, simulation.depth(), stamp)
        graph.until(lambda stamp_ns=stamp_ns: moved(commands[-1:]) == [stamp_ns])
    graph.until(lambda: len(samples.list_files(folder)) == len(COMMANDS))
    written = [samples.read(file, setup.contract) for file in samples.list_files(folder)]
    return {sample.stamp_ns: (sample.bev, sample.proprio) for sample in written}


@pytest.mark.ros
def test_the_nodes_and_the_simulator_see_the_same_bit_for_bit(ros_graph, params_file, repository):
    setup = dataclasses.replace(Setup.load(params_file), max_input_age_s=MAX_AGE_S)
    model = repository / "models/sac_actor_reference.onnx"
    alone = headless(setup, model)
    driven = through_nodes(ros_graph, setup, model)
    assert len(alone) == len(COMMANDS) and driven.keys() == alone.keys()
    for stamp_ns in alone:
        for ours, theirs in zip(alone[stamp_ns], driven[stamp_ns]):
            np.testing.assert_array_equal(ours, theirs, strict=True)
