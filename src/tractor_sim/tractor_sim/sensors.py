"""Simulated LiDAR and depth camera: rays into a MuJoCo world, then noise and dropouts.

Angles and lengths are radians and metres. The sensors are rigid on a body that drives on a flat
floor, so a world direction is the mounted direction turned by the body's yaw.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tractor_core.bev.geometry import pixel_rays
from tractor_core.errors import TractorError
from tractor_core.robot import Pose, Robot
from tractor_core.sensors import DepthImage, Intrinsics, Scan

from .world import BLOCKING_GROUP, VISIBLE_GROUP, World, mjcf

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
# The thinnest post is 0.06 m wide, more than four pixels at the largest depth.
COLUMN_STEP = 4


class BodyPose(NamedTuple):
    """Pose of base_link on the floor of the world."""

    x_m: float
    y_m: float
    yaw_rad: float


class Hits(NamedTuple):
    """What n rays hit: distance (n,) m, +Inf for nothing; geom (n,), -1; normal (n, 3), 0."""

    distance_m: NDArray[np.float64]
    geom: NDArray[np.int32]
    normal: NDArray[np.float64]


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
        self._multi_ray = mujoco.mj_multiRay
        self._model = mujoco.MjModel.from_xml_string(mjcf(world, rover_height_m))
        self._data = mujoco.MjData(self._model)
        mujoco.mj_forward(self._model, self._data)

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
        origin_m, rays = self._mount.at(body)
        return self._caster.cast(origin_m, rays, group, LIDAR_RANGE_MAX_M).distance_m


class DepthCamera:
    """A forward depth camera in the robot's camera pose; the floor is in its image."""

    def __init__(self, robot: Robot, caster: RayCaster, rng: np.random.Generator) -> None:
        shape = (DEPTH_HEIGHT, DEPTH_WIDTH)
        rows, cols = np.arange(DEPTH_HEIGHT), np.arange(DEPTH_WIDTH)
        self._blocks = np.ix_(rows // NOISE_BLOCK_PX, cols // NOISE_BLOCK_PX)
        per_metre = pixel_rays(shape, DEPTH_INTRINSICS, robot.camera).reshape(3, -1)
        length = np.linalg.norm(per_metre, axis=0)
        self._depth_per_length = (1.0 / length).reshape(shape)
        self._mount = Mount(robot.camera, (per_metre / length).T)
        # Rays beyond the largest depth in the image's corner cannot give a pixel.
        self._cutoff_m = DEPTH_MAX_M * float(length.max())
        self._caster = caster
        self._rng = rng

        self._cast_cols = np.append(cols[::COLUMN_STEP], cols[-1])
        self._left = np.minimum(cols // COLUMN_STEP, len(self._cast_cols) - 2)
        left_col, right_col = self._cast_cols[self._left], self._cast_cols[self._left + 1]
        self._share = (cols - left_col) / (right_col - left_col)
        self._between = (cols != left_col) & (cols != right_col)

    def image(self, body: BodyPose) -> DepthImage:
        """Return one noisy image, uint16 mm along the optical axis, 0 where there is no depth."""
        # Anything finite beyond the limit will do: a hole times infinity would be no number.
        depth_m = np.minimum(self.exact_depth_m(body), 2.0 * DEPTH_MAX_M)
        blocks = (-(-DEPTH_HEIGHT // NOISE_BLOCK_PX), -(-DEPTH_WIDTH // NOISE_BLOCK_PX))
        gain = 1.0 + DEPTH_NOISE * self._rng.standard_normal(blocks)
        gain[self._rng.random(blocks) < DEPTH_HOLE] = 0.0
        depth_m *= gain[self._blocks]
        depth_m[(depth_m < DEPTH_MIN_M) | (depth_m > DEPTH_MAX_M)] = 0.0
        return DepthImage((depth_m * 1000.0 + 0.5).astype(np.uint16), DEPTH_INTRINSICS)

    def exact_depth_m(self, body: BodyPose) -> NDArray[np.float64]:
        """Return the noiseless depth along the optical axis, (height, width) m or +Inf.

        Rays are cast for every fourth column. Between two that hit the same plane 1/depth is linear
        in the column (a plane n.p = c seen along p = z * ray has 1/z = n.ray / c); everywhere else
        the pixels between get rays of their own. What is missed is the tip of a corner that is
        narrower than the step, less than one pixel in a million.
        """
        origin_m, rays = self._mount.at(body)
        rays = rays.reshape(DEPTH_HEIGHT, DEPTH_WIDTH, 3)
        some = self._cast(origin_m, rays[:, self._cast_cols])
        shape = (DEPTH_HEIGHT, len(self._cast_cols))
        depth_m = some.distance_m.reshape(shape) * self._depth_per_length[:, self._cast_cols]
        geom, normal = some.geom.reshape(shape), some.normal.reshape(*shape, 3)
        one_plane = geom[:, 1:] == geom[:, :-1]
        one_plane &= np.abs(normal[:, 1:] - normal[:, :-1]).max(axis=2) < 1e-9

        inverse = 1.0 / depth_m
        rise = np.diff(inverse, axis=1)
        with np.errstate(divide="ignore"):
            full_m = 1.0 / (inverse[:, self._left] + self._share * rise[:, self._left])
        own_ray = ~one_plane[:, self._left] & self._between
        full_m[own_ray] = (
            self._cast(origin_m, rays[own_ray]).distance_m * self._depth_per_length[own_ray]
        )
        return full_m

    def _cast(self, origin_m: NDArray[np.float64], rays: NDArray[np.float64]) -> Hits:
        return self._caster.cast(origin_m, rays.reshape(-1, 3), VISIBLE_GROUP, self._cutoff_m)


def _as_scan(ranges_m: NDArray[np.float64]) -> Scan:
    return Scan(
        ranges_m.astype(np.float32),
        LIDAR_ANGLE_MIN_RAD,
        LIDAR_ANGLE_INCREMENT_RAD,
        LIDAR_RANGE_MIN_M,
        LIDAR_RANGE_MAX_M,
    )
