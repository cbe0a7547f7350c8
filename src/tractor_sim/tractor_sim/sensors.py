"""Simulated LiDAR and depth camera: rays into a MuJoCo world, then noise and dropouts.

Angles and lengths are radians and metres. The sensors are rigid on a body that drives on a flat
floor, so a world direction is the mounted direction turned by the body's yaw.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tractor_core.bev.geometry import pixel_rays
from tractor_core.errors import TractorError
from tractor_core.robot import Robot
from tractor_core.sensors import DepthImage, Intrinsics, Scan

from .world import BLOCKING_GROUP, VISIBLE_GROUP, Solid, World, mjcf

SCAN_FRAME, CAMERA_FRAME, DEPTH_FRAME = "laser", "camera_link", "camera_depth_optical_frame"
LIDAR_BEAMS = 450
# In single precision, as LaserScan carries them: the nodes are to see the very same scan.
LIDAR_ANGLE_MIN_RAD = float(np.float32(-math.pi))
LIDAR_ANGLE_INCREMENT_RAD = float(np.float32(2.0 * math.pi / LIDAR_BEAMS))
LIDAR_RANGE_MIN_M = float(np.float32(0.05))
LIDAR_RANGE_MAX_M = 12.0
LIDAR_NOISE_M = 0.01
LIDAR_DROPOUT = 0.01

# A D435i at 848 wide, cropped to the 100 rows around the optical axis.
DEPTH_WIDTH, DEPTH_HEIGHT = 848, 100
DEPTH_INTRINSICS = Intrinsics(fx=425.0, fy=425.0, cx=424.0, cy=50.0)
DEPTH_MIN_M = 0.17
DEPTH_MAX_M = 6.0
DEPTH_NOISE = 0.01
DEPTH_HOLE = 0.02
# Stereo matching works on patches: neighbouring pixels share their error and their holes.
NOISE_BLOCK_PX = 4
# Rays of the depth camera; both divide its image. For a camera that is about level: at the largest
# depth the thinnest post of `world` (0.06 m) is more than four columns wide, and its thinnest board
# (0.04 m) more than two rows high.
COLUMN_STEP, ROW_STEP = 4, 2
# Unit vectors that differ by no more than this in a component differ by rounding.
SAME_NORMAL = 1e-9


class BodyPose(NamedTuple):
    """Pose of base_link on the floor of the world."""

    x_m: float
    y_m: float
    yaw_rad: float

    def turned(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return vectors (..., 3) of base_link as they are in the world."""
        cos, sin = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        return vectors @ np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])

    def placed(self, point_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where a point (3,) of base_link is in the world."""
        return self.turned(point_m) + (self.x_m, self.y_m, 0.0)


class Hits(NamedTuple):
    """What n rays hit: distance (n,) m, +Inf for nothing; geom (n,), -1; normal (n, 3), 0."""

    distance_m: NDArray[np.float64]
    geom: NDArray[np.int32]
    normal: NDArray[np.float64]


class RayCaster:
    """Casts rays into a world, whose solids never move, and a solid that does.

    Raises:
        TractorError: mujoco is not installed.
    """

    def __init__(self, world: World, rover_height_m: float, moving: Solid | None = None) -> None:
        try:
            import mujoco
        except ImportError as error:
            raise TractorError("the simulator needs MuJoCo: pip install mujoco") from error
        self._multi_ray, self._place = mujoco.mj_multiRay, mujoco.mj_kinematics
        self._model = mujoco.MjModel.from_xml_string(mjcf(world, rover_height_m, moving))
        self._data = mujoco.MjData(self._model)
        mujoco.mj_forward(self._model, self._data)

    def move(self, x_m: float, y_m: float) -> None:
        """Put the moving solid elsewhere."""
        self._data.mocap_pos[0, :2] = x_m, y_m
        self._place(self._model, self._data)

    def cast(
        self, origin_m: NDArray[np.float64], rays: NDArray[np.float64], group: int, cutoff_m: float
    ) -> Hits:
        """Return what each ray hits first.

        Args:
            origin_m: (3,) in the world.
            rays: (n, 3) unit vectors in the world.
            group: the geom group that is seen.
            cutoff_m: the greatest length of a ray.
        """
        count = len(rays)
        groups = np.zeros(6, np.uint8)
        groups[group] = 1
        geom = np.empty(count, np.int32)
        distance_m = np.empty(count)
        normal = np.empty((count, 3))
        self._multi_ray(
            self._model, self._data, origin_m, rays.reshape(-1), groups, True, -1,
            geom, distance_m, normal.reshape(-1), count, cutoff_m,
        )  # fmt: skip
        missed = geom < 0
        distance_m[missed] = math.inf
        normal[missed] = 0.0
        return Hits(distance_m, geom, normal)


class Surfaces(NamedTuple):
    """What pixels of any shape see: 1/depth, the geom, and the geom's normal there, with (3,) more.

    0 and -1 where nothing is seen.
    """

    inverse_per_m: NDArray[np.float64]
    geom: NDArray[np.int32]
    normal: NDArray[np.float64]

    def finer(self, step: int, axis: int) -> tuple[Surfaces, NDArray[np.bool_]]:
        """Return `step` rows (axis 0) or columns (axis 1) from each to the next.

        And which pixels need a ray of their own, because the two they lie between are not of one
        plane: what the first says of these means nothing.
        """
        first, part = np.divmod(np.arange(step * (self.geom.shape[axis] - 1)), step)
        share = np.expand_dims(part / step, 1 - axis)
        found = Surfaces(
            self.inverse_per_m.take(first, axis),
            self.geom.take(first, axis),
            self.normal.take(first, axis),
        )
        rise, other, turned = (np.diff(values, axis=axis) for values in self)
        # Three times as fast as any() over the last axis.
        x, y, z = np.moveaxis(np.abs(turned) > SAME_NORMAL, -1, 0)
        edge = (other != 0) | x | y | z
        np.add(found.inverse_per_m, share * rise.take(first, axis), out=found.inverse_per_m)
        return found, edge.take(first, axis) & (share > 0.0)


class Lidar:
    """A 360 degree scanner in the robot's LiDAR pose."""

    def __init__(self, robot: Robot, caster: RayCaster, rng: np.random.Generator) -> None:
        angles = LIDAR_ANGLE_MIN_RAD + LIDAR_ANGLE_INCREMENT_RAD * np.arange(LIDAR_BEAMS)
        flat = np.stack([np.cos(angles), np.sin(angles), np.zeros(LIDAR_BEAMS)])
        self._position = robot.lidar.position
        self._rays = (robot.lidar.rotation @ flat).T
        self._caster = caster
        self._rng = rng

    def scan(self, body: BodyPose) -> Scan:
        """Return one noisy scan in the values of REP-117: -Inf is too close to be measured.

        Beams that drop out are +Inf, as RPLIDAR's driver sends them, like those that see nothing.
        """
        ranges_m = self._ranges(body, VISIBLE_GROUP)
        ranges_m += LIDAR_NOISE_M * self._rng.standard_normal(LIDAR_BEAMS)
        ranges_m[self._rng.random(LIDAR_BEAMS) < LIDAR_DROPOUT] = math.inf
        ranges_m[ranges_m > LIDAR_RANGE_MAX_M] = math.inf
        ranges_m[ranges_m < LIDAR_RANGE_MIN_M] = -math.inf
        return _as_scan(ranges_m)

    def privileged_scan(self, body: BodyPose) -> Scan:
        """Return an exact scan of all that would hit the rover: low obstacles, slabs, walls."""
        return _as_scan(self._ranges(body, BLOCKING_GROUP))

    def _ranges(self, body: BodyPose, group: int) -> NDArray[np.float64]:
        origin_m, rays = body.placed(self._position), body.turned(self._rays)
        return self._caster.cast(origin_m, rays, group, LIDAR_RANGE_MAX_M).distance_m


class DepthCamera:
    """A forward depth camera in the robot's camera pose; the floor is in its image.

    Args:
        every: one that has only every n-th row and column, as fast as its rays are few; it divides
            both, and at 4 two pixels at the grid's edge still lie within a cell.
    """

    def __init__(
        self, robot: Robot, caster: RayCaster, rng: np.random.Generator, every: int = 1
    ) -> None:
        self._every = every
        lengths = dataclasses.astuple(DEPTH_INTRINSICS)
        self._intrinsics = Intrinsics(*(length / every for length in lengths))
        # One row and one column more than the image has, so that all of it lies between cast rays.
        shape = (DEPTH_HEIGHT + 1, DEPTH_WIDTH + 1)
        per_metre = pixel_rays(shape, DEPTH_INTRINSICS, robot.camera).reshape(3, -1)
        length = np.linalg.norm(per_metre, axis=0)
        self._length = length.reshape(shape)
        self._rays = np.ascontiguousarray((per_metre / length).T).reshape(*shape, 3)
        self._position = robot.camera.position
        # Rays beyond the largest depth in the image's corner cannot give a pixel.
        self._cutoff_m = DEPTH_MAX_M * float(length.max())
        self._caster = caster
        self._rng = rng

    def image(self, body: BodyPose) -> DepthImage:
        """Return one noisy image, uint16 mm along the optical axis, 0 where there is no depth."""
        # Anything finite beyond the limit will do: a hole times infinity would be no number.
        depth_m = np.minimum(self._depth_m(body), 2.0 * DEPTH_MAX_M)
        block = max(1, NOISE_BLOCK_PX // self._every)
        blocks = (depth_m.shape[0] // block, depth_m.shape[1] // block)
        gain = 1.0 + DEPTH_NOISE * self._rng.standard_normal(blocks)
        gain[self._rng.random(blocks) < DEPTH_HOLE] = 0.0
        depth_m *= gain.repeat(block, 0).repeat(block, 1)
        depth_m[(depth_m < DEPTH_MIN_M) | (depth_m > DEPTH_MAX_M)] = 0.0
        return DepthImage((depth_m * 1000.0 + 0.5).astype(np.uint16), self._intrinsics)

    def _depth_m(self, body: BodyPose) -> NDArray[np.float64]:
        if self._every == 1:
            return self.exact_depth_m(body)
        step = self._every
        with np.errstate(divide="ignore"):
            return 1.0 / self._look(body, np.s_[:-1:step, :-1:step]).inverse_per_m

    def exact_depth_m(self, body: BodyPose) -> NDArray[np.float64]:
        """Return the noiseless depth along the optical axis, (height, width) m or +Inf.

        Rays are cast for some rows and columns. Between two that hit the same plane 1/depth is
        linear in the row and the column (a plane n.p = c seen along p = z * ray has
        1/z = n.ray / c); everywhere else the pixels between get rays of their own. What is missed
        is the tip of a corner that is narrower than the steps, a few pixels in a million.
        """
        seen, own = self._look(body, np.s_[::ROW_STEP, ::COLUMN_STEP]).finer(ROW_STEP, 0)
        rows, cols = np.nonzero(own)
        exact = self._look(body, (rows, cols * COLUMN_STEP))
        seen.inverse_per_m[own], seen.geom[own], seen.normal[own] = exact
        seen, own = seen.finer(COLUMN_STEP, 1)
        seen.inverse_per_m[own] = self._look(body, np.nonzero(own)).inverse_per_m
        with np.errstate(divide="ignore"):
            return 1.0 / seen.inverse_per_m

    def _look(self, body: BodyPose, pixels: Any) -> Surfaces:
        """Cast the rays of an index into rows and columns, one more of each than the image has."""
        rays = self._rays[pixels]
        turned = body.turned(rays.reshape(-1, 3))
        hits = self._caster.cast(body.placed(self._position), turned, VISIBLE_GROUP, self._cutoff_m)
        shape = rays.shape[:-1]
        return Surfaces(
            self._length[pixels] / hits.distance_m.reshape(shape),
            hits.geom.reshape(shape),
            hits.normal.reshape(rays.shape),
        )


def _as_scan(ranges_m: NDArray[np.float64]) -> Scan:
    return Scan(
        ranges_m.astype(np.float32),
        LIDAR_ANGLE_MIN_RAD,
        LIDAR_ANGLE_INCREMENT_RAD,
        LIDAR_RANGE_MIN_M,
        LIDAR_RANGE_MAX_M,
    )
