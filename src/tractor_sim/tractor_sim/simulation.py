"""The simulated rover as one object: a world from a seed, the rover in it, and its sensors.

Headless and without a clock of its own: time is what `step` is given, so it runs as fast as the
rays are cast.
"""

from __future__ import annotations

import numpy as np

from tractor_core.robot import Robot
from tractor_core.sensors import DepthImage, Scan

from .rover import Odometry, Rover
from .sensors import BodyPose, DepthCamera, Lidar, RayCaster
from .walker import Walker
from .world import Solid, World, make_world


class Simulation:
    """One rover in one world; equal arguments and equal calls give equal sensor data.

    Args:
        seed: draws the world, the slip and the sensor noise.
        robot: body, limits and extrinsics.
        world: a world to use in place of the seed's own.
        with_walker: somebody steps into the rover's way now and then.
        depth_every: of the depth camera's rows and columns, see `DepthCamera`.

    Attributes:
        walker: he, or None.
    """

    def __init__(
        self, seed: int, robot: Robot, world: World | None = None, with_walker: bool = False,
        depth_every: int = 1,
    ) -> None:  # fmt: skip
        self.world = make_world(seed) if world is None else world
        self.time_s = 0.0
        # One stream a purpose: how often a sensor is read does not change what the others see.
        rover_rng, lidar_rng, depth_rng, walker_rng = (
            np.random.default_rng([seed, purpose]) for purpose in range(4)
        )
        self.walker = Walker(self.world, robot, walker_rng) if with_walker else None
        moving = self.walker.solid if self.walker is not None else None
        self._rover = Rover(self.world, robot, rover_rng, moving)
        self._caster = RayCaster(self.world, robot.height_m, moving)
        self._lidar = Lidar(robot, self._caster, lidar_rng)
        self._camera = DepthCamera(robot, self._caster, depth_rng, depth_every)

    def step(self, linear_m_s: float, angular_rad_s: float, dt_s: float) -> None:
        """Drive for `dt_s` seconds towards the commanded speeds."""
        if self.walker is not None:
            self.walker.step(self.pose, self._rover.odometry.linear_m_s, dt_s)
            self._rover.move(self.walker.solid)
            self._caster.move(self.walker.solid.x_m, self.walker.solid.y_m)
        self._rover.step(linear_m_s, angular_rad_s, dt_s)
        self.time_s += dt_s

    @property
    def pose(self) -> BodyPose:
        """The true pose of base_link in the world."""
        return BodyPose(self._rover.x_m, self._rover.y_m, self._rover.yaw_rad)

    @property
    def distance_m(self) -> float:
        """Metres driven over ground, forwards and backwards."""
        return self._rover.distance_m

    @property
    def collisions(self) -> int:
        """How often the rover ran into something; staying in contact counts once."""
        return self._rover.collisions

    @property
    def struck(self) -> list[Solid]:
        """What the rover ran into in the last step."""
        return self._rover.struck

    def scan(self) -> Scan:
        """Return what the LiDAR sees now."""
        return self._lidar.scan(self.pose)

    def depth(self) -> DepthImage:
        """Return what the depth camera sees now."""
        return self._camera.image(self.pose)

    def odom(self) -> Odometry:
        """Return what the wheel encoders say."""
        return self._rover.odometry

    def privileged_scan(self) -> Scan:
        """Return an exact scan that also sees low obstacles and overhangs, for the expert."""
        return self._lidar.privileged_scan(self.pose)
