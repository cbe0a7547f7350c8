"""What the actor sees at one moment: the grid, and beside it the raw proprioception.

This is the one place where an observation is put together. On the rover two nodes share the work:
`bev_builder` runs Fusion, `sac_actor` runs Proprioception. Where there is no ROS, for recorded
drives, simulation and training, an Observer runs both, with the same freshness rules.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from . import proprio
from .bev.fusion import Fusion
from .bev.parameters import BuilderParameters
from .contract import ACTION_SIZE, Contract
from .errors import SensorError
from .input_monitor import InputMonitor
from .kinematics import Velocity, velocity_to_action
from .messages import BASE_FRAME
from .motion import OdometrySample
from .robot import Robot
from .sensors import DepthImage, Scan


@dataclasses.dataclass(frozen=True)
class Observation:
    """What the actor answers.

    `bev` is (2, cells, cells) float32 in 0..1, `proprio` the raw vector (6,) float32, see
    `proprio.raw_vector`; `stamp_ns` is that of the newer of scan and depth frame.
    """

    bev: NDArray[np.float32]
    proprio: NDArray[np.float32]
    stamp_ns: int


@dataclasses.dataclass(frozen=True)
class Arrival:
    """How a message came: its frame_id and stamp, and the ROS clock and a steady clock then."""

    frame_id: str
    stamp_ns: int
    clock_ns: int
    now_s: float


class Proprioception:
    """The half of an observation that is no grid: newest scan, newest odometry, last action.

    The last action is what the base was told, whoever it came from.
    """

    def __init__(self, contract: Contract, robot: Robot) -> None:
        self._contract, self._robot = contract, robot
        self._lidar_min_m, self._gap_heading = proprio.LIDAR_MIN_CAP_M, 0.0
        self._twist = (0.0, 0.0)
        self.stop()

    def set_extrinsics(self, robot: Robot) -> None:
        """See the next scans with these extrinsics."""
        self._robot = robot

    def take_scan(self, scan: Scan) -> None:
        """Use this scan from now on."""
        self._lidar_min_m = proprio.lidar_min(scan, self._robot)
        self._gap_heading = proprio.gap_heading(scan, self._robot)

    def take_twist(self, linear_m_s: float, angular_rad_s: float) -> None:
        """Use this odometry from now on, in base_link."""
        self._twist = (linear_m_s, angular_rad_s)

    def executed(self, velocity: Velocity) -> None:
        """Note a command that reached the base; one that is not finite is a stop."""
        if all(map(math.isfinite, velocity)):
            self._last_action = velocity_to_action(velocity, self._contract, self._robot)
        else:
            self.stop()

    def stop(self) -> None:
        """Note that the rover was stopped: its last action is zero."""
        self._last_action = np.zeros(ACTION_SIZE, np.float32)

    def observe(self, bev: NDArray[np.float32], stamp_ns: int) -> Observation:
        """Return the observation with this grid, (2, cells, cells) float32, which is not copied."""
        raw = proprio.raw_vector(
            self._lidar_min_m, self._last_action, *self._twist, self._gap_heading
        )
        return Observation(bev, raw, stamp_ns)


class Observer:
    """Both halves in one, without ROS; each input is judged twice, as by the two nodes.

        observer = Observer(contract, robot, BuilderParameters(), max_input_age_s=0.3)
        observer.take_odometry(sample, arrival)
        observer.take_scan(scan, arrival)
        observation = observer.observe(depth, arrival)
        observer.executed(policy.step(observation).velocity)

    Args:
        builder: the bev_builder section of the parameter file.
        max_input_age_s: that of the sac_actor section.
        depth_topic: its name says whether the image is rectified.
    """

    def __init__(
        self,
        contract: Contract,
        robot: Robot,
        builder: BuilderParameters,
        max_input_age_s: float,
        depth_topic: str = "",
    ) -> None:
        self.fusion = Fusion(contract, robot, builder, depth_topic=depth_topic)
        self.grid_inputs = {
            name: InputMonitor(name, builder.max_input_age_s, frozen_s=builder.frozen_input_s)
            for name in ("scan", "depth", "odom")
        }
        self.actor_inputs = {
            name: InputMonitor(name, max_input_age_s) for name in ("bev", "scan", "odom")
        }
        self._proprio = Proprioception(contract, robot)
        self.executed = self._proprio.executed
        self.stop = self._proprio.stop

    @property
    def untimely(self) -> int:
        """How often a message was refused because its stamp and the clock disagree."""
        monitors = (*self.grid_inputs.values(), *self.actor_inputs.values())
        return sum(monitor.untimely for monitor in monitors)

    def reject(self, name: str, error: SensorError) -> None:
        """Note that a message of an input could not be used."""
        for inputs in (self.grid_inputs, self.actor_inputs):
            if name in inputs:
                inputs[name].reject(error)

    def take_scan(self, scan: Scan, arrival: Arrival) -> None:
        """Use this scan from now on, unless its stamp or frame cannot be right."""
        if accepted(self.grid_inputs["scan"], arrival, scan.content):
            self.fusion.take_scan(scan, arrival.stamp_ns, arrival.clock_ns)
        if accepted(self.actor_inputs["scan"], arrival):
            self._proprio.take_scan(scan)

    def take_odometry(self, sample: OdometrySample, arrival: Arrival) -> None:
        """Note where the rover was and how it moved, unless the stamp cannot be right."""
        if accepted(self.grid_inputs["odom"], arrival):
            self.fusion.take_odometry(sample)
        self.take_twist(sample.linear_m_s, sample.angular_rad_s, arrival)

    def take_twist(self, linear_m_s: float, angular_rad_s: float, arrival: Arrival) -> None:
        """Note how the rover moved, of an odometry whose pose cannot be used."""
        if accepted(self.actor_inputs["odom"], arrival):
            self._proprio.take_twist(linear_m_s, angular_rad_s)

    def observe(self, depth: DepthImage, arrival: Arrival) -> Observation:
        """Return the observation at a depth frame; the next call overwrites its grid.

        Raises:
            SensorError: why there is none.
        """
        monitor = self.grid_inputs["depth"]
        try:
            self.fusion.ensure_known(depth)
        except SensorError as error:
            monitor.reject(error)
            raise
        if not accepted(monitor, arrival, depth.content):
            raise _rejection(monitor)
        if not monitor.in_time(arrival.now_s):
            raise SensorError("depth: expected a new image", str(monitor.problem(arrival.now_s)))
        _ensure_fresh(self.grid_inputs["scan"], arrival.now_s)
        grid, stamp_ns = self.fusion.rasterize(depth, arrival.stamp_ns)
        monitor = self.actor_inputs["bev"]
        if not monitor.accept(BASE_FRAME, stamp_ns, arrival.clock_ns, arrival.now_s):
            raise _rejection(monitor)
        for name in ("scan", "odom"):
            _ensure_fresh(self.actor_inputs[name], arrival.now_s)
        return self._proprio.observe(grid, stamp_ns)


def accepted(monitor: InputMonitor, arrival: Arrival, content: NDArray | None = None) -> bool:
    """Let a monitor take note of a message; False when its stamp, frame or content is refused."""
    return monitor.accept(
        arrival.frame_id, arrival.stamp_ns, arrival.clock_ns, arrival.now_s, content
    )


def _rejection(monitor: InputMonitor) -> SensorError:
    assert monitor.rejection is not None
    return monitor.rejection


def _ensure_fresh(monitor: InputMonitor, now_s: float) -> None:
    if monitor.fresh(now_s):
        return
    why = f" (last rejected: {monitor.rejection.expected})" if monitor.rejection else ""
    if not monitor.received:
        raise SensorError(f"{monitor.name} never received{why}")
    raise SensorError(f"{monitor.name} older than {monitor.max_age_s:.2f} s{why}")
