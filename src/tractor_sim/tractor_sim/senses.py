"""What the rover would see of a simulation, by the code that the rover runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tractor_core import contract as contract_module
from tractor_core import parameters
from tractor_core import robot as robot_module
from tractor_core.bev.parameters import BuilderParameters
from tractor_core.contract import Contract
from tractor_core.frames import ODOM_FRAME
from tractor_core.motion import OdometrySample
from tractor_core.observation import Arrival, Observation, Observer
from tractor_core.robot import Robot
from tractor_inference.actor_parameters import ActorParameters

from .sensors import DEPTH_FRAME, SCAN_FRAME
from .simulation import Simulation

CONTROL_HZ = 30
SCAN_EVERY_TICKS = 3


@dataclasses.dataclass(frozen=True)
class Setup:
    """What the shared parameter file says about observing and driving."""

    contract: Contract
    robot: Robot
    builder: BuilderParameters
    max_input_age_s: float

    @classmethod
    def load(cls, params_file: str | Path) -> Setup:
        """Read the parameter file; raises ParameterError listing everything that is wrong."""
        actor = parameters.from_values(
            ActorParameters, parameters.read_file(params_file, "sac_actor")
        )
        return cls(
            contract_module.load(params_file),
            robot_module.load(params_file),
            parameters.from_values(
                BuilderParameters, parameters.read_file(params_file, "bev_builder")
            ),
            actor.max_input_age_s,
        )


class Senses:
    """Observes a simulation with the timing of sim_node: depth each tick, a scan each third.

    Args:
        phase: the tick, 0 to 2, on which the first new scan after the start arrives.

    Attributes:
        executed, stop: see Observer.
    """

    def __init__(self, simulation: Simulation, setup: Setup, phase: int = 0) -> None:
        self._simulation = simulation
        self._observer = Observer(setup.contract, setup.robot, setup.builder, setup.max_input_age_s)
        self.executed, self.stop = self._observer.executed, self._observer.stop
        self._until_scan = phase
        self._take_scan()

    def _arrival(self, frame_id: str) -> Arrival:
        time_s = self._simulation.time_s
        return Arrival(frame_id, round(time_s * 1e9), round(time_s * 1e9), time_s)

    def _take_scan(self) -> None:
        self._observer.take_scan(self._simulation.scan(), self._arrival(SCAN_FRAME))

    def tick(self) -> None:
        """Begin a control period: take the odometry, and a scan when one is due."""
        arrival = self._arrival(ODOM_FRAME)
        odom = self._simulation.odom()
        self._observer.take_odometry(
            OdometrySample(arrival.stamp_ns, **dataclasses.asdict(odom)), arrival
        )
        if self._until_scan == 0:
            self._take_scan()
            self._until_scan = SCAN_EVERY_TICKS
        self._until_scan -= 1

    def observe(self) -> Observation:
        """Return the observation at a new depth frame; its grid is overwritten by the next call.

        Raises:
            SensorError: the rover would have none, and stand.
        """
        return self._observer.observe(self._simulation.depth(), self._arrival(DEPTH_FRAME))
