"""Could a sensor see what the rover ran into, when there was still time to stop?

The answer is geometry: rays of sound sensors into the world as it was then. It asks neither the
grid nor the guard, whose faults it is to find.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tractor_core.bev.parameters import BuilderParameters
from tractor_core.clearance import room
from tractor_core.robot import Robot

from ..sensors import (
    DEPTH_HEIGHT,
    DEPTH_INTRINSICS,
    DEPTH_MAX_M,
    DEPTH_MIN_M,
    DEPTH_WIDTH,
    BodyPose,
    RayCaster,
)
from ..world import VISIBLE_GROUP, Solid, World

# What is touched are the points of an outline that come as near as this to the nearest one.
TOUCHED_M, OUTLINE_STEP_M = 0.02, 0.01
# A ray that ends so far before a point met something else.
BEFORE_M = 0.05
HEIGHT_STEP_M = 0.01
# Somebody who moved less than this stood.
STOOD_M = 0.02

MOVED = "somebody who moved, nearer than it can stop"
HIDDEN = "hidden behind something else"
BLIND = "the camera is at fault"
NEAR = "ahead, so near that it is {} the camera's view"
ASIDE = "beside or behind, where the camera does not look"
LOW, HANGING = "lower than the LiDAR", "hanging above the LiDAR"


class Sight:
    """Says what of a world the sensors of a rover can see.

    Args:
        world: with its solids.
        moving: one that moves.
    """

    def __init__(
        self, world: World, robot: Robot, builder: BuilderParameters, moving: Solid | None = None
    ) -> None:
        self._robot, self._builder = robot, builder
        self._caster = RayCaster(world, robot.height_m, moving)

    def unseen(
        self,
        solid: Solid,
        touched: NDArray[np.float64],
        by_lidar: BodyPose,
        by_camera: BodyPose,
        camera_sees: bool,
        moving: Solid | None = None,
    ) -> str | None:
        """Return why no sensor could see these points of a solid; None when one could.

        Args:
            touched: (n, 2) in the world, m.
            by_lidar, by_camera: where the rover was at the last scan and image in time.
            camera_sees: whether the camera was sound then.
            moving: where what moves was then.
        """
        if moving is not None:
            self._caster.move(moving.x_m, moving.y_m)
        if solid.bottom_m <= self._robot.lidar.z <= solid.top_m:
            return None if self._lidar_sees(touched, by_lidar) else HIDDEN
        found = self._camera_misses(solid, touched, by_camera)
        if found is None and camera_sees:
            return None
        kind = LOW if solid.top_m < self._robot.lidar.z else HANGING
        if found == NEAR:
            found = NEAR.format("below" if kind == LOW else "above")
        return f"{kind}: {found or BLIND}"

    def _lidar_sees(self, touched: NDArray[np.float64], rover: BodyPose) -> bool:
        """Return whether a point is in the LiDAR's plane, beyond the body, with nothing before it.

        The LiDAR is taken to be level.
        """
        origin = rover.placed(self._robot.lidar.position)
        points = np.column_stack([touched, np.full(len(touched), origin[2])])
        clear, distance_m = self._clear(origin, points)
        return bool((clear & (distance_m >= self._robot.lidar_min_range_m)).any())

    def _camera_misses(
        self, solid: Solid, touched: NDArray[np.float64], rover: BodyPose
    ) -> str | None:
        """Return why a sound camera does not see a point at any height; None when it does."""
        own, robot = self._builder, self._robot
        low_m = max(solid.bottom_m, own.obstacle_min_height_m)
        high_m = min(solid.top_m, own.obstacle_max_height_m)
        heights_m = np.arange(low_m, high_m + 1e-9, HEIGHT_STEP_M)
        points = np.column_stack(
            [np.repeat(touched, len(heights_m), axis=0), np.tile(heights_m, len(touched))]
        )
        origin = rover.placed(robot.camera.position)
        back = BodyPose(0.0, 0.0, -rover.yaw_rad)
        forward, left, up = (back.turned(points - origin) @ robot.camera.rotation).T
        with np.errstate(divide="ignore", invalid="ignore"):
            column = DEPTH_INTRINSICS.cx - DEPTH_INTRINSICS.fx * left / forward
            row = DEPTH_INTRINSICS.cy - DEPTH_INTRINSICS.fy * up / forward
        across = (forward >= max(own.depth_min_m, DEPTH_MIN_M)) & (
            forward <= min(own.depth_max_m, DEPTH_MAX_M)
        )
        across &= (column >= 0.0) & (column < DEPTH_WIDTH)
        within = across & (row >= 0.0) & (row < DEPTH_HEIGHT)
        if not within.any():
            return NEAR if across.any() else ASIDE
        clear, _ = self._clear(origin, points[within])
        return None if clear.any() else HIDDEN

    def _clear(
        self, origin: NDArray[np.float64], points: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return to which points (n, 3) there is a line of sight, and how far they are, m."""
        to = points - origin
        distance_m = np.linalg.norm(to, axis=1)
        rays = np.ascontiguousarray(to / distance_m[:, None])
        hits = self._caster.cast(origin, rays, VISIBLE_GROUP, float(distance_m.max()) + 1.0)
        return hits.distance_m >= distance_m - BEFORE_M, distance_m


def touched_points(solid: Solid, rover: BodyPose, robot: Robot) -> NDArray[np.float64]:
    """Return the points of a solid's outline that are nearest to the footprint, (n, 2) m."""
    points = _outline(solid)
    apart_m = _apart_m(points, rover, robot)
    return points[apart_m <= apart_m.min() + TOUCHED_M]


def touches(solid: Solid, rover: BodyPose, robot: Robot) -> bool:
    """Return whether a solid at this place is touched by the footprint."""
    return bool(_apart_m(_outline(solid), rover, robot).min() <= TOUCHED_M)


def _apart_m(points: NDArray[np.float64], rover: BodyPose, robot: Robot) -> NDArray[np.float64]:
    cos, sin = math.cos(rover.yaw_rad), math.sin(rover.yaw_rad)
    return room((points - (rover.x_m, rover.y_m)) @ np.array([[cos, -sin], [sin, cos]]), robot)


def _outline(solid: Solid) -> NDArray[np.float64]:
    """Return points along the outline of a solid in the plane, (n, 2) m."""
    half_x, half_y = solid.half_length_m, solid.half_width_m
    if solid.kind == "post":
        turns = 2.0 * math.pi * np.arange(0.0, 1.0, OUTLINE_STEP_M / (2.0 * math.pi * half_x))
        flat = half_x * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    else:
        along, across = (
            np.linspace(-half, half, 2 + math.ceil(2.0 * half / OUTLINE_STEP_M))
            for half in (half_x, half_y)
        )
        flat = np.concatenate(
            [np.stack([along, np.full_like(along, side)], axis=1) for side in (half_y, -half_y)]
            + [np.stack([np.full_like(across, side), across], axis=1) for side in (half_x, -half_x)]
        )
    cos, sin = math.cos(solid.yaw_rad), math.sin(solid.yaw_rad)
    return flat @ np.array([[cos, sin], [-sin, cos]]) + (solid.x_m, solid.y_m)
