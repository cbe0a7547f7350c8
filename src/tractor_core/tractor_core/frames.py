"""The tree of frames, odom -> base_link -> sensors, as transforms that need no ROS (REP-105)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .messages import BASE_FRAME
from .robot import OPTICAL_IN_BODY, Pose

ODOM_FRAME = "odom"
_UPRIGHT = (0.0, 0.0, 0.0, 1.0)


class Transform(NamedTuple):
    """Where the frame `child` lies in `parent`: (x, y, z) m, quaternion (x, y, z, w)."""

    parent: str
    child: str
    translation_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    quaternion: tuple[float, float, float, float] = _UPRIGHT


def extrinsics(pose: Pose, child: str) -> Transform:
    """Return base_link -> child of a sensor's body, or of a camera's optical frame.

    Args:
        child: by its name it is an optical frame (z forward, x right, y down) when it contains
            "optical", as REP-103 wants it; then the pose is that of the camera's body.
    """
    rotation = pose.rotation @ OPTICAL_IN_BODY if "optical" in child else pose.rotation
    return Transform(BASE_FRAME, child, (pose.x, pose.y, pose.z), quaternion_of(rotation))


def optical(body: str, child: str) -> Transform:
    """Return camera body (x forward) -> its optical frame, which has the same origin."""
    return Transform(body, child, quaternion=quaternion_of(OPTICAL_IN_BODY))


def odometry(x_m: float, y_m: float, yaw_rad: float) -> Transform:
    """Return odom -> base_link of a rover on the floor."""
    half = yaw_rad / 2.0
    turn = (0.0, 0.0, math.sin(half), math.cos(half))
    return Transform(ODOM_FRAME, BASE_FRAME, (x_m, y_m, 0.0), turn)


def quaternion_of(rotation: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Return (x, y, z, w), w >= 0, of a (3, 3) rotation matrix.

    The largest of the four is taken from the diagonal, the others follow from it (Shepperd 1978).
    """
    r = np.asarray(rotation, dtype=np.float64)
    squares = np.array(
        [
            1 + r[0, 0] - r[1, 1] - r[2, 2],
            1 - r[0, 0] + r[1, 1] - r[2, 2],
            1 - r[0, 0] - r[1, 1] + r[2, 2],
            1 + r[0, 0] + r[1, 1] + r[2, 2],
        ]
    )
    # Four times the products of the components; row and column x, y, z, w.
    products = np.diag(squares)
    for i, j, value in (
        (0, 1, r[0, 1] + r[1, 0]),
        (0, 2, r[0, 2] + r[2, 0]),
        (1, 2, r[1, 2] + r[2, 1]),
        (0, 3, r[2, 1] - r[1, 2]),
        (1, 3, r[0, 2] - r[2, 0]),
        (2, 3, r[1, 0] - r[0, 1]),
    ):
        products[i, j] = products[j, i] = value
    found = products[int(np.argmax(squares))]
    found = found / np.linalg.norm(found)
    x, y, z, w = (float(value) for value in (found if found[3] >= 0 else -found))
    return x, y, z, w
