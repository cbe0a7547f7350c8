"""Simulated LiDAR and depth camera: rays into a MuJoCo world, then noise and dropouts.

Angles and lengths are radians and metres. The sensors are rigid on a body that drives on a flat
floor, so a world direction is the mounted direction turned by the body's yaw.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tractor_inference.bev import DepthImage, Intrinsics, Scan, pixel_rays
from tractor_inference.errors import TractorError
from tractor_inference.robot import Pose, Robot

from .world import BLOCKING_GROUP, VISIBLE_GROUP, World, mjcf

LIDAR_BEAMS = 450
LIDAR_ANGLE_MIN_RAD = -math.pi
LIDAR_ANGLE_INCREMENT_RAD = 2.0 * math.pi / LIDAR_BEAMS
LIDAR_RANGE_MIN_M = 0.05
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


class BodyPose(NamedTuple):
    """Pose of base_link on the floor of the world."""

    x_m: float
    y_m: float
    yaw_rad: float


class RayCaster:
    """Casts rays into a world; the world's solids never move.

    Raises:
        TractorError: mujoco is not installed.
    """

    def __init__(self, world: World, rover_height_m: float) -> None:
        try:
            import mujoco
        except ImportError as error:
            raise TractorError("the simulator needs MuJoCo: pip install mujoco") from error
        self._cast = mujoco.mj_multiRay
        self._model = mujoco.MjModel.from_xml_string(mjcf(world, rover_height_m))
        self._data = mujoco.MjData(self._model)
        mujoco.mj_forward(self._model, self._data)

    def distances(
        self, origin_m: NDArray[np.float64], rays: NDArray[np.float64], group: int, cutoff_m: float
    ) -> NDArray[np.float64]:
        """Return how far each ray flies, (n,) m, and +Inf where it hits nothing within the cutoff.

        Args:
            origin_m: (3,) in the world.
            rays: (n, 3) unit vectors in the world, contiguous.
            group: the geom group that is seen.
            cutoff_m: the greatest length of a ray.
        """
        count = len(rays)
        groups = np.zeros(6, np.uint8)
        groups[group] = 1
        geom = np.empty(count, np.int32)
        distance_m = np.empty(count)
        self._cast(
            self._model, self._data, origin_m, rays.reshape(-1), groups, True, -1,
            geom, distance_m, None, count, cutoff_m,
        )  # fmt: skip
        distance_m[geom < 0] = math.inf
        return distance_m


class Mount:
    """Ray directions of a sensor in base_link, and how they lie in the world for a body pose."""

    def __init__(self, pose: Pose, rays: NDArray[np.float64]) -> None:
        self._position = pose.position
        self._rays = np.ascontiguousarray(rays)
        self._turned = self._rays.copy()

    def at(self, body: BodyPose) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return origin (3,) and rays (n, 3) in the world; the rays are overwritten by the next."""
        cos, sin = math.cos(body.yaw_rad), math.sin(body.yaw_rad)
        x, y, z = self._position
        origin_m = np.array([body.x_m + cos * x - sin * y, body.y_m + sin * x + cos * y, z])
        ahead, left = self._rays[:, 0], self._rays[:, 1]
        self._turned[:, 0] = cos * ahead - sin * left
        self._turned[:, 1] = sin * ahead + cos * left
        return origin_m, self._turned


class Lidar:
    """A 360 degree scanner in the robot's LiDAR pose."""

    def __init__(self, robot: Robot, caster: RayCaster, rng: np.random.Generator) -> None:
        angles = LIDAR_ANGLE_MIN_RAD + LIDAR_ANGLE_INCREMENT_RAD * np.arange(LIDAR_BEAMS)
        flat = np.stack([np.cos(angles), np.sin(angles), np.zeros(LIDAR_BEAMS)])
        self._mount = Mount(robot.lidar, (robot.lidar.rotation @ flat).T)
        self._caster = caster
        self._rng = rng

    def scan(self, body: BodyPose) -> Scan:
        """Return one noisy scan; beams that see nothing or drop out are +Inf (REP-117)."""
        ranges_m = self._ranges(body, VISIBLE_GROUP)
        ranges_m += LIDAR_NOISE_M * self._rng.standard_normal(LIDAR_BEAMS)
        ranges_m[self._rng.random(LIDAR_BEAMS) < LIDAR_DROPOUT] = math.inf
        ranges_m[(ranges_m < LIDAR_RANGE_MIN_M) | (ranges_m > LIDAR_RANGE_MAX_M)] = math.inf
        return _as_scan(ranges_m)

    def privileged_scan(self, body: BodyPose) -> Scan:
        """Return an exact scan of all that would hit the rover: low obstacles, slabs, walls."""
        return _as_scan(self._ranges(body, BLOCKING_GROUP))

    def _ranges(self, body: BodyPose, group: int) -> NDArray[np.float64]:
        return self._caster.distances(*self._mount.at(body), group, LIDAR_RANGE_MAX_M)


class DepthCamera:
    """A forward depth camera in the robot's camera pose; the floor is in its image.

    Args:
        column_stride: take every n-th column, to save time. 1 is the sensor; with the same seed a
            larger stride gives exactly the columns `[stride // 2 :: stride]` of its image. Rows are
            never skipped: the top of a low obstacle may show in only a few.
    """

    def __init__(
        self, robot: Robot, caster: RayCaster, rng: np.random.Generator, column_stride: int = 1
    ) -> None:
        first = column_stride // 2
        self.intrinsics = dataclasses.replace(
            DEPTH_INTRINSICS,
            fx=DEPTH_INTRINSICS.fx / column_stride,
            cx=(DEPTH_INTRINSICS.cx - first) / column_stride,
        )
        rows = np.arange(DEPTH_HEIGHT)
        cols = np.arange(first, DEPTH_WIDTH, column_stride)
        self._shape = (len(rows), len(cols))
        self._blocks = np.ix_(rows // NOISE_BLOCK_PX, cols // NOISE_BLOCK_PX)
        per_metre = pixel_rays(self._shape, self.intrinsics, robot.camera).reshape(3, -1)
        length = np.linalg.norm(per_metre, axis=0)
        self._depth_per_length = 1.0 / length
        self._mount = Mount(robot.camera, (per_metre / length).T)
        # Rays beyond the largest depth in the image's corner cannot give a pixel.
        self._cutoff_m = DEPTH_MAX_M * float(length.max())
        self._caster = caster
        self._rng = rng

    def image(self, body: BodyPose) -> DepthImage:
        """Return one noisy image, uint16 mm along the optical axis, 0 where there is no depth."""
        # Anything finite beyond the limit will do: a hole times infinity would be no number.
        depth_m = np.minimum(self.exact_depth_m(body), 2.0 * DEPTH_MAX_M)
        blocks = (-(-DEPTH_HEIGHT // NOISE_BLOCK_PX), -(-DEPTH_WIDTH // NOISE_BLOCK_PX))
        gain = 1.0 + DEPTH_NOISE * self._rng.standard_normal(blocks)
        gain[self._rng.random(blocks) < DEPTH_HOLE] = 0.0
        depth_m *= gain[self._blocks]
        depth_m[(depth_m < DEPTH_MIN_M) | (depth_m > DEPTH_MAX_M)] = 0.0
        return DepthImage((depth_m * 1000.0 + 0.5).astype(np.uint16), self.intrinsics)

    def exact_depth_m(self, body: BodyPose) -> NDArray[np.float64]:
        """Return the noiseless depth along the optical axis, (height, width) m or +Inf."""
        length_m = self._caster.distances(*self._mount.at(body), VISIBLE_GROUP, self._cutoff_m)
        return (length_m * self._depth_per_length).reshape(self._shape)


def _as_scan(ranges_m: NDArray[np.float64]) -> Scan:
    return Scan(
        ranges_m.astype(np.float32),
        LIDAR_ANGLE_MIN_RAD,
        LIDAR_ANGLE_INCREMENT_RAD,
        LIDAR_RANGE_MIN_M,
        LIDAR_RANGE_MAX_M,
    )
