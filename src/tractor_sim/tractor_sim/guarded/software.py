"""The rover's software in simulated time: inputs, actor and guard, connected as the nodes are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tractor_core import parameters
from tractor_core.errors import SensorError
from tractor_core.frames import ODOM_FRAME
from tractor_core.input_monitor import InputMonitor
from tractor_core.kinematics import Velocity
from tractor_core.messages import BASE_FRAME
from tractor_core.motion import OdometrySample
from tractor_core.observation import Arrival, Observation, Observer, accepted
from tractor_core.sensors import DepthImage, Scan, ensure_usable
from tractor_inference.guard.guard import Guard, GuardParameters

from ..rover import Odometry
from ..senses import Setup
from ..sensors import DEPTH_FRAME, SCAN_FRAME


def guard_parameters(params_file: str | Path) -> GuardParameters:
    """Return the cmd_guard section of a parameter file."""
    return parameters.from_values(GuardParameters, parameters.read_file(params_file, "cmd_guard"))


class Software:
    """Refuses inputs as the nodes refuse them, and says what the base is told.

        software.take_scan(scan, measured_s, now_s)
        observation = software.take_depth(image, now_s)
        software.guard.take_actor(velocity, now_s)
        velocity = software.decide(now_s)

    Args:
        own: with obstacle_stop False it drives without the guard's look around.
    """

    def __init__(self, setup: Setup, own: GuardParameters) -> None:
        self._robot = setup.robot
        self._observer = Observer(setup.contract, setup.robot, setup.builder, setup.max_input_age_s)
        self._scan = InputMonitor("scan", own.max_input_age_s, frozen_s=own.frozen_input_s)
        self._bev = InputMonitor("bev", own.max_input_age_s, required=False)
        self.guard = Guard(own, setup.robot, setup.contract, self._scan.problem)

    def take_odometry(self, odometry: Odometry, now_s: float) -> None:
        """Use this odometry from now on."""
        arrival = _arrival(ODOM_FRAME, now_s, now_s)
        sample = OdometrySample(arrival.stamp_ns, **dataclasses.asdict(odometry))
        self._observer.take_odometry(sample, arrival)

    def take_scan(self, scan: Scan, measured_s: float, now_s: float) -> None:
        """Use this scan from now on, unless it cannot be used."""
        try:
            ensure_usable(scan, self._robot)
        except SensorError as error:
            self._observer.reject("scan", error)
            self._scan.reject(error)
            return
        arrival = _arrival(SCAN_FRAME, measured_s, now_s)
        self._observer.take_scan(scan, arrival)
        if accepted(self._scan, arrival, scan.content):
            self.guard.surroundings.take_scan(scan, self._scan.measured_s)

    def take_depth(self, depth: DepthImage, now_s: float) -> Observation | None:
        """Return what the actor sees at this image; None when it would have nothing to act on."""
        arrival = _arrival(DEPTH_FRAME, now_s, now_s)
        try:
            observation = self._observer.observe(depth, arrival)
        except SensorError:
            return None
        found = dataclasses.replace(arrival, frame_id=BASE_FRAME, stamp_ns=observation.stamp_ns)
        if accepted(self._bev, found):
            self.guard.surroundings.take_grid(observation.bev, self._bev.measured_s)
        return observation

    def decide(self, now_s: float) -> Velocity:
        """Return what the base is told now; the actor hears it too."""
        velocity = self.guard.decide(now_s)
        self._observer.executed(velocity)
        return velocity


def _arrival(frame_id: str, measured_s: float, now_s: float) -> Arrival:
    return Arrival(frame_id, round(measured_s * 1e9), round(now_s * 1e9), now_s)
