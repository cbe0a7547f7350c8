"""The frames that the nodes would have made of a recorded drive, by the same code.

Messages come one by one with the time at which they were recorded; what the nodes would have
refused is refused here, with the same words. Time is always an argument.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

from tractor_core import contract as contracts
from tractor_core import messages, parameters
from tractor_core import robot as robots
from tractor_core.bev.parameters import BuilderParameters
from tractor_core.contract import Contract
from tractor_core.errors import ParameterError, SensorError
from tractor_core.observation import Arrival, Observer
from tractor_core.parameters import param
from tractor_core.robot import Robot
from tractor_core.samples import Sample, sample_problems
from tractor_inference.guard.guard import GuardParameters
from tractor_inference.recording.sampler import SamplerParameters

T = TypeVar("T")

# What a drive consists of; the types that each topic may have.
TWISTS = ("geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped")
TYPES = {
    "scan": ("sensor_msgs/msg/LaserScan",),
    "depth": ("sensor_msgs/msg/Image",),
    "camera_info": ("sensor_msgs/msg/CameraInfo",),
    "odom": ("nav_msgs/msg/Odometry",),
    "command": TWISTS,
    "clock": ("rosgraph_msgs/msg/Clock",),
}


@dataclasses.dataclass(frozen=True)
class ActorSettings(SamplerParameters):
    """What a harvest takes from the sac_actor section, where the rest is the node's."""

    max_input_age_s: float = param(
        "Age at which an input is stale and the rover stops, s.", 0.30, minimum=0.05, maximum=5.0
    )


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the shared parameter file says about observing, driving and sampling."""

    contract: Contract
    robot: Robot
    builder: BuilderParameters
    actor: ActorSettings
    guard: GuardParameters

    @classmethod
    def load(cls, params_file: Path) -> Settings:
        """Read the parameter file.

        Raises:
            ParameterError: listing everything that is wrong, or the sensor poses come from TF.
        """
        actor = parameters.read_file(params_file, "sac_actor")
        known = parameters.fields_of(ActorSettings)
        robot = robots.load(params_file)
        if robot.use_tf:
            raise ParameterError(
                "robot.use_tf: expected false, found true: no TF is read from recordings; set it "
                "to false and robot.lidar_pose and robot.camera_pose to the extrinsics"
            )
        return cls(
            contracts.load(params_file),
            robot,
            _section(BuilderParameters, params_file, "bev_builder"),
            parameters.from_values(ActorSettings, {k: v for k, v in actor.items() if k in known}),
            _section(GuardParameters, params_file, "cmd_guard"),
        )


def _section(kind: type[T], params_file: Path, node: str) -> T:
    return parameters.from_values(kind, parameters.read_file(params_file, node))


class RecordedDrive:
    """One drive of the rover, message by message.

    Args:
        depth_topic: as recorded; its name says whether the image is rectified.

    Attributes:
        frames: depth messages seen.
        refused: {why: depth frames that gave no observation for this reason}.
    """

    def __init__(self, settings: Settings, depth_topic: str = "") -> None:
        self._settings = settings
        self._observer = Observer(
            settings.contract, settings.robot, settings.builder,
            settings.actor.max_input_age_s, depth_topic,
        )  # fmt: skip
        self._executed_until_s = -math.inf
        self.frames = 0
        self.refused: Counter[str] = Counter()

    @property
    def untimely(self) -> int:
        """How often a message was refused because its stamp and the clock disagree."""
        return self._observer.untimely

    def take(self, role: str, message: Any, clock_ns: int, now_s: float) -> Sample | None:
        """Take a message; a depth image gives the frame that the actor would have acted on.

        Args:
            role: a key of TYPES, except `clock`.
            message: anything with the attributes of the ROS message.
            clock_ns: the ROS clock when it was recorded.
            now_s: a steady clock then.

        Returns:
            The frame, whose `bev` the next call overwrites, or None.
        """
        if role == "command":
            self._on_command(message, now_s)
            return None
        if role == "camera_info":
            # read_depth says so for each frame that it costs.
            with contextlib.suppress(SensorError):
                self._observer.fusion.take_camera_info(message)
            return None
        header = message.header
        arrival = Arrival(header.frame_id, messages.stamp_ns(header.stamp), clock_ns, now_s)
        if role == "depth":
            self.frames += 1
            try:
                return self._observe(message, arrival)
            except SensorError as error:
                self.refused[error.expected] += 1
        elif role == "scan":
            try:
                scan = messages.scan_from_message(message, self._settings.robot)
            except SensorError as error:
                self._observer.reject("scan", error)
                return None
            self._observer.take_scan(scan, arrival)
        else:
            self._on_odom(message, arrival)
        return None

    def _on_odom(self, message: Any, arrival: Arrival) -> None:
        """Use the twist also where the pose is none, as sac_actor does."""
        observer, robot = self._observer, self._settings.robot
        try:
            sample = messages.odometry_from_message(message, robot)
        except SensorError as error:
            observer.grid_inputs["odom"].reject(error)
        else:
            observer.take_odometry(sample, arrival)
            return
        try:
            observer.take_twist(*messages.twist_from_odometry(message, robot), arrival)
        except SensorError as error:
            observer.actor_inputs["odom"].reject(error)

    def _on_command(self, message: Any, now_s: float) -> None:
        """Note a command; it counts as long as the guard would have passed it on."""
        self._observer.executed(messages.velocity_from_command(message))
        self._executed_until_s = now_s + self._settings.guard.command_timeout_s

    def _observe(self, message: Any, arrival: Arrival) -> Sample:
        """Return the observation at a depth message; raises SensorError with the reason if none."""
        if arrival.now_s > self._executed_until_s:
            self._observer.stop()
        try:
            depth = self._observer.fusion.read_depth(message)
        except SensorError as error:
            self._observer.reject("depth", error)
            raise
        seen = self._observer.observe(depth, arrival)
        if problems := sample_problems(seen.bev, seen.proprio, self._settings.contract):
            raise SensorError(*problems[0])
        return Sample(seen.bev, seen.proprio, seen.stamp_ns)
