"""Simulated rovers without ROS, faster than real time, that explore and leave experience."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from tractor_core.errors import SensorError
from tractor_core.experience import Chunk, pack_grid
from tractor_core.kinematics import STOP, action_to_velocity
from tractor_inference.model.backends import open_backend
from tractor_inference.model.exploration import Exploration
from tractor_inference.model.policy import Policy
from tractor_inference.recording.episodes import Episodes, Tick
from tractor_inference.recording.experience import new_session
from tractor_sim.senses import CONTROL_HZ, Senses, Setup
from tractor_sim.simulation import Simulation

# A decision is held for three ticks, so that depth is rendered at ten hertz; of its rows and
# columns every fourth. What is learnt so is judged with all of them, at thirty.
TICKS, DEPTH_EVERY = 3, 4


@dataclasses.dataclass(frozen=True)
class Trip:
    """One world to drive.

    `model` is an ONNX, `scale` that of the exploration, 0 for none; a contact ends it.
    """

    seed: int
    seconds: float
    params_file: str
    model: str
    scale: float
    depth_every: int = DEPTH_EVERY


def drive(trip: Trip) -> list[Chunk]:
    """Drive one world and return what was experienced."""
    setup = Setup.load(trip.params_file)
    simulation = Simulation(trip.seed, setup.robot, depth_every=trip.depth_every)
    senses = Senses(simulation, setup)
    backend = open_backend("onnx", Path(trip.model), setup.contract)
    policy = Policy(setup.contract, setup.robot, backend)
    exploration = Exploration(trip.scale, np.random.default_rng([trip.seed, 11]))
    episodes = Episodes(new_session(), setup.contract.digest)
    chunks: list[Chunk] = []
    collided = False
    for _ in range(round(trip.seconds * CONTROL_HZ / TICKS)):
        velocity, collisions = STOP, simulation.collisions
        senses.tick()
        try:
            observation = senses.observe()
        except SensorError:
            senses.stop()
            chunks += episodes.end("stop")
        else:
            answer = policy.answer(observation.bev, observation.proprio)
            requested = exploration.requested(answer, float(observation.proprio[0]))
            odom = simulation.odom()
            tick = Tick(
                observation.stamp_ns, observation.proprio, pack_grid(observation.bev),
                (odom.x_m, odom.y_m, odom.yaw_rad), answer, requested, backend.digest, "policy",
            )  # fmt: skip
            chunks += episodes.take(tick)
            if collided:
                return chunks + episodes.end("contact")
            velocity = action_to_velocity(requested, setup.contract, setup.robot)
            senses.executed(velocity)
        for held in range(TICKS):
            if held:
                senses.tick()
            simulation.step(*velocity, 1.0 / CONTROL_HZ)
        collided = simulation.collisions > collisions
    return chunks + episodes.end("session end")
