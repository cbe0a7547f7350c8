"""The frames that the nodes would have made of a recorded drive, by the same code.

Messages come one by one with the time at which they were recorded; what the nodes would have
refused is refused here, with the same words. Time is always an argument.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tractor_inference import contract as contracts
from tractor_inference import messages, parameters, proprio
from tractor_inference import robot as robots
from tractor_inference.contract import ACTION_SIZE, Contract
from tractor_inference.errors import ParameterError, SensorError
from tractor_inference.freshness import InputMonitor
from tractor_inference.fusion import BuilderParameters, Fusion
from tractor_inference.guard import GuardParameters
from tractor_inference.kinematics import Velocity, velocity_to_action
from tractor_inference.parameters import param
from tractor_inference.robot import Robot
from tractor_inference.sampler import SamplerParameters
from tractor_inference.samples import Sample, sample_problems
from tractor_inference.scan import Scan

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
                "to false and robot.lidar_pose and robot.camera_pose to the mounting"
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

    Each input is judged twice, as by the two nodes: bev_builder draws the grid, sac_actor takes the
    proprioception.

    Args:
        depth_topic: as recorded; its name says whether the image is rectified.

    Attributes:
        frames: depth messages seen.
        refused: {why: depth frames that gave no observation for this reason}.
    """

    def __init__(self, settings: Settings, depth_topic: str = "") -> None:
        self._settings = settings
        self._fusion = Fusion(
            settings.contract, settings.robot, settings.builder, depth_topic=depth_topic
        )
        self._builder_inputs = _monitors(settings.builder.max_input_age_s, "scan", "depth", "odom")
        self._actor_inputs = _monitors(settings.actor.max_input_age_s, "bev", "scan", "odom")
        self._scan_features = (0.0, 0.0)
        self._twist = (0.0, 0.0)
        self._action = np.zeros(ACTION_SIZE, np.float32)
        self._action_until_s = -math.inf
        self.frames = 0
        self.refused: Counter[str] = Counter()

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
        if role == "depth":
            self.frames += 1
            try:
                return self._observe(message, clock_ns, now_s)
            except SensorError as error:
                self.refused[_without_found(str(error))] += 1
        elif role == "scan":
            self._on_scan(message, clock_ns, now_s)
        elif role == "odom":
            self._on_odom(message, clock_ns, now_s)
        elif role == "command":
            self._on_command(message, now_s)
        else:
            try:
                self._fusion.take_camera_info(message)
            except SensorError:  # depth_image says so for each frame that it costs
                return None
        return None

    def _on_scan(self, message: Any, clock_ns: int, now_s: float) -> None:
        for monitor in (self._builder_inputs["scan"], self._actor_inputs["scan"]):
            scan = _receive(monitor, self._to_scan, message, clock_ns, now_s)
            if scan is None:
                continue
            if monitor is self._builder_inputs["scan"]:
                self._fusion.take_scan(scan, messages.stamp_ns(message.header.stamp), clock_ns)
            else:
                self._scan_features = (
                    proprio.lidar_min(scan, self._settings.robot),
                    proprio.gap_heading(scan, self._settings.robot),
                )

    def _to_scan(self, message: Any) -> Scan:
        return messages.scan_from_message(message, self._settings.robot)

    def _on_odom(self, message: Any, clock_ns: int, now_s: float) -> None:
        monitor = self._builder_inputs["odom"]
        sample = _receive(monitor, messages.odometry_from_message, message, clock_ns, now_s)
        if sample is not None:
            self._fusion.take_odometry(sample)
        monitor = self._actor_inputs["odom"]
        twist = _receive(monitor, messages.twist_from_odometry, message, clock_ns, now_s)
        if twist is not None:
            self._twist = twist

    def _on_command(self, message: Any, now_s: float) -> None:
        """Note the action that a command was made of; zero when the guard would have stopped."""
        twist = getattr(message, "twist", message)
        velocity = Velocity(twist.linear.x, twist.angular.z)
        settings = self._settings
        if all(map(math.isfinite, velocity)):
            self._action = velocity_to_action(velocity, settings.contract, settings.robot)
        else:
            self._action = np.zeros(ACTION_SIZE, np.float32)
        self._action_until_s = now_s + settings.guard.command_timeout_s

    def _observe(self, message: Any, clock_ns: int, now_s: float) -> Sample:
        """Return the observation at a depth message; raises SensorError with the reason if none."""
        monitor = self._builder_inputs["depth"]
        depth = _receive(monitor, self._fusion.depth_image, message, clock_ns, now_s)
        if depth is None:
            raise SensorError(monitor.last_rejection)
        _ensure_fresh(self._builder_inputs["scan"], now_s)
        grid, stamp_ns = self._fusion.draw(depth, messages.stamp_ns(message.header.stamp))
        monitor = self._actor_inputs["bev"]
        if not monitor.accept(messages.BASE_FRAME, stamp_ns, clock_ns, now_s):
            raise SensorError(monitor.last_rejection)
        for name in ("scan", "odom"):
            _ensure_fresh(self._actor_inputs[name], now_s)
        lidar_min_m, gap_heading = self._scan_features
        raw = proprio.raw_vector(lidar_min_m, self._last_action(now_s), *self._twist, gap_heading)
        if problems := sample_problems(grid, raw, self._settings.contract):
            raise SensorError("; ".join(problems))
        return Sample(grid, raw, stamp_ns)

    def _last_action(self, now_s: float) -> NDArray[np.float32]:
        return self._action if now_s <= self._action_until_s else np.zeros_like(self._action)


def _monitors(max_age_s: float, *names: str) -> dict[str, InputMonitor]:
    return {name: InputMonitor(name, max_age_s) for name in names}


def _receive(
    monitor: InputMonitor, convert: Callable[[Any], T], message: Any, clock_ns: int, now_s: float
) -> T | None:
    """Convert a message as a node receives it; None, and noted, when it cannot be used."""
    try:
        value = convert(message)
    except SensorError as error:
        monitor.reject(str(error))
        return None
    stamp_ns = messages.stamp_ns(message.header.stamp)
    return value if monitor.accept(message.header.frame_id, stamp_ns, clock_ns, now_s) else None


def _ensure_fresh(monitor: InputMonitor, now_s: float) -> None:
    if monitor.fresh(now_s):
        return
    rejection = _without_found(monitor.last_rejection)
    why = f" (last rejected: {rejection})" if rejection else ""
    if not monitor.received:
        raise SensorError(f"{monitor.name} never received{why}")
    raise SensorError(f"{monitor.name} older than {monitor.max_age_s:.2f} s{why}")


def _without_found(reason: str) -> str:
    """Return a reason without the figures of one message, so that equal ones can be counted."""
    return " ".join(reason.split(", found")[0].split())
