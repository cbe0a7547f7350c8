"""Simulated LiDAR and depth camera: rays into a MuJoCo world, then noise and dropouts.

Angles and lengths are radians and metres. The sensors are rigid on a body that drives on a flat
floor, so a world direction is the mounted direction turned by the body's yaw.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

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
# At the largest depth the thinnest post (0.06 m) is more than four columns wide, and the thinnest
# board (0.04 m) more than two rows high.
COLUMN_STEP, ROW_STEP = 4, 2
SAME_NORMAL = 1e-9


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


class Surfaces(NamedTuple):
    """What pixels see: 1/depth and the geom (rows, cols), the geom's normal (rows, cols, 3)."""

    inverse_per_m: NDArray[np.float64]
    geom: NDArray[np.int32]
    normal: NDArray[np.float64]

    def edges(self, axis: int) -> NDArray[np.bool_]:
        """Return where two neighbours along an axis are not of one plane."""
        geom, normal = np.diff(self.geom, axis=axis), np.diff(self.normal, axis=axis)
        turned = np.abs(normal) > SAME_NORMAL
        return (geom != 0) | turned[..., 0] | turned[..., 1] | turned[..., 2]

    def more_rows(self, step: int) -> tuple[Surfaces, NDArray[np.bool_]]:
        """Return `step` rows for each but the last, and which of them need a ray of their own."""
        share = np.arange(step)[:, None] / step
        rise = np.diff(self.inverse_per_m, axis=0)
        between = self.inverse_per_m[:-1, None] + share * rise[:, None]
        rows = Surfaces(
            between.reshape(-1, rise.shape[1]),
            np.repeat(self.geom[:-1], step, 0),
            np.repeat(self.normal[:-1], step, 0),
        )
        own = self.edges(0)[:, None] & (share > 0.0)
        return rows, own.reshape(rows.geom.shape)

    def more_columns(self, step: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return 1/depth in `step` columns for each but the last, and which need their own ray."""
        share = np.arange(step) / step
        rise = np.diff(self.inverse_per_m, axis=1)
        between = self.inverse_per_m[:, :-1, None] + share * rise[..., None]
        own = self.edges(1)[..., None] & (share > 0.0)
        return between.reshape(len(rise), -1), own.reshape(len(rise), -1)


class Mount:
    """Where a sensor is and looks, in the world, for a body pose."""

    def __init__(self, pose: Pose) -> None:
        self._position = pose.position

    def origin_m(self, body: BodyPose) -> NDArray[np.float64]:
        """Return the sensor's place, (3,)."""
        x, y, z = self._position
        cos, sin = math.cos(body.yaw_rad), math.sin(body.yaw_rad)
        return np.array([body.x_m + cos * x - sin * y, body.y_m + sin * x + cos * y, z])

    @staticmethod
    def turned(rays: NDArray[np.float64], body: BodyPose) -> NDArray[np.float64]:
        """Return rays (n, 3) of base_link as they lie in the world."""
        cos, sin = math.cos(body.yaw_rad), math.sin(body.yaw_rad)
        return rays @ np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])


class Lidar:
    """A 360 degree scanner in the robot's LiDAR pose."""

    def __init__(self, robot: Robot, caster: RayCaster, rng: np.random.Generator) -> None:
        angles = LIDAR_ANGLE_MIN_RAD + LIDAR_ANGLE_INCREMENT_RAD * np.arange(LIDAR_BEAMS)
        flat = np.stack([np.cos(angles), np.sin(angles), np.zeros(LIDAR_BEAMS)])
        self._mount = Mount(robot.lidar)
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
        origin_m, rays = self._mount.origin_m(body), self._mount.turned(self._rays, body)
        return self._caster.cast(origin_m, rays, group, LIDAR_RANGE_MAX_M).distance_m


class DepthCamera:
    """A forward depth camera in the robot's camera pose; the floor is in its image."""

    def __init__(self, robot: Robot, caster: RayCaster, rng: np.random.Generator) -> None:
        # One row and one column more than the image has, so that all of it lies between cast rays.
        shape = (DEPTH_HEIGHT + 1, DEPTH_WIDTH + 1)
        per_metre = pixel_rays(shape, DEPTH_INTRINSICS, robot.camera).reshape(3, -1)
        length = np.linalg.norm(per_metre, axis=0)
        self._length = length.reshape(shape)
        self._rays = np.ascontiguousarray((per_metre / length).T).reshape(*shape, 3)
        self._mount = Mount(robot.camera)
        # Rays beyond the largest depth in the image's corner cannot give a pixel.
        self._cutoff_m = DEPTH_MAX_M * float(length.max())
        self._caster = caster
        self._rng = rng

    def image(self, body: BodyPose) -> DepthImage:
        """Return one noisy image, uint16 mm along the optical axis, 0 where there is no depth."""
        # Anything finite beyond the limit will do: a hole times infinity would be no number.
        depth_m = np.minimum(self.exact_depth_m(body), 2.0 * DEPTH_MAX_M)
        block = NOISE_BLOCK_PX
        blocks = (DEPTH_HEIGHT // block, DEPTH_WIDTH // block)
        gain = 1.0 + DEPTH_NOISE * self._rng.standard_normal(blocks)
        gain[self._rng.random(blocks) < DEPTH_HOLE] = 0.0
        depth_m.reshape(blocks[0], block, blocks[1], block)[...] *= gain[:, None, :, None]
        depth_m[(depth_m < DEPTH_MIN_M) | (depth_m > DEPTH_MAX_M)] = 0.0
        return DepthImage((depth_m * 1000.0 + 0.5).astype(np.uint16), DEPTH_INTRINSICS)

    def exact_depth_m(self, body: BodyPose) -> NDArray[np.float64]:
        """Return the noiseless depth along the optical axis, (height, width) m or +Inf.

        Rays are cast for some rows and columns. Between two that hit the same plane 1/depth is
        linear in the row and the column (a plane n.p = c seen along p = z * ray has
        1/z = n.ray / c); everywhere else the pixels between get rays of their own. What is missed
        is the tip of a corner that is narrower than the steps, a few pixels in a million.
        """
        seen, own = self._look(body, np.s_[::ROW_STEP, ::COLUMN_STEP]).more_rows(ROW_STEP)
        rows, cols = np.nonzero(own)
        exact = self._look(body, (rows, cols * COLUMN_STEP))
        seen.inverse_per_m[own], seen.geom[own], seen.normal[own] = exact
        inverse_per_m, own = seen.more_columns(COLUMN_STEP)
        inverse_per_m[own] = self._look(body, np.nonzero(own)).inverse_per_m
        with np.errstate(divide="ignore"):
            return 1.0 / inverse_per_m

    def _look(self, body: BodyPose, pixels: Any) -> Surfaces:
        rays = self._rays[pixels]
        turned = self._mount.turned(rays.reshape(-1, 3), body)
        hits = self._caster.cast(self._mount.origin_m(body), turned, VISIBLE_GROUP, self._cutoff_m)
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
