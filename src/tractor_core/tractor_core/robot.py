"""The rover's body, speed limits and sensor extrinsics, as the shared parameter file says."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import parameters
from .parameters import param

PREFIX = "robot."


@dataclasses.dataclass(frozen=True)
class Pose:
    """Pose of a sensor in base_link: metres and radians, fixed-axis roll, pitch, yaw (REP-103)."""

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    roll: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0

    @property
    def position(self) -> NDArray[np.float64]:
        """(3,) float64, m."""
        return np.array([self.x, self.y, self.z])

    @property
    def rotation(self) -> NDArray[np.float64]:
        """(3, 3) float64 matrix Rz(yaw) @ Ry(pitch) @ Rx(roll), sensor to base_link."""
        (cr, cp, cy), (sr, sp, sy) = (
            f([self.roll, self.pitch, self.yaw]) for f in (np.cos, np.sin)
        )
        return np.array(
            [
                [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
                [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
                [-sp, cp * sr, cp * cr],
            ]
        )


# Columns: the optical axes (right, down, forward) in the axes of the camera body (REP-103).
OPTICAL_IN_BODY = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def pose_of(
    translation_m: tuple[float, float, float],
    quaternion: tuple[float, float, float, float],
    optical: bool,
) -> tuple[float, ...]:
    """Return (x, y, z, roll, pitch, yaw) of a sensor from a transform out of base_link.

    Args:
        quaternion: x, y, z, w of length 1.
        optical: the transform is a camera's optical frame; the pose of its body is returned.
    """
    x, y, z, w = quaternion
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    if optical:
        rotation = rotation @ OPTICAL_IN_BODY.T
    roll = math.atan2(rotation[2, 1], rotation[2, 2])
    pitch = math.atan2(-rotation[2, 0], math.hypot(rotation[2, 1], rotation[2, 2]))
    yaw = math.atan2(rotation[1, 0], rotation[0, 0])
    return (*translation_m, roll, pitch, yaw)


@dataclasses.dataclass(frozen=True)
class Robot:
    """The rover's body and extrinsics; see config/sac_rover.yaml."""

    max_linear_speed: float = param("Speed at full track command, m/s.", minimum=0.01, maximum=5.0)
    max_angular_speed: float = param(
        "Turn rate at opposite full track commands, rad/s.", minimum=0.01, maximum=10.0
    )
    half_length_m: float = param("Half of the footprint along x, m.", minimum=0.0, maximum=5.0)
    half_width_m: float = param("Half of the footprint along y, m.", minimum=0.0, maximum=5.0)
    height_m: float = param("Height of the body above the floor, m.", minimum=0.0, maximum=5.0)
    lidar_pose: tuple[float, ...] = param(
        "LiDAR in base_link: x, y, z (m), roll, pitch, yaw (rad).",
        length=6, minimum=-10.0, maximum=10.0,
    )  # fmt: skip
    lidar_min_range_m: float = param(
        "Nearer LiDAR returns are the rover itself and are unknown, m.", minimum=0.0, maximum=5.0
    )
    camera_pose: tuple[float, ...] = param(
        "Camera body (x forward) in base_link: x, y, z (m), roll, pitch, yaw (rad).",
        length=6, minimum=-10.0, maximum=10.0,
    )  # fmt: skip

    use_tf: bool = param(
        "Take both sensor poses from TF instead, once, at the first message.", False
    )

    lidar_no_return: str = param(
        "What the LiDAR's driver sends where nothing is within reach, and nothing else: not where "
        "it is cropped, covered or too near. inf (REP-117), nan, zero, or beyond: one number above "
        "range_max. The other codes say nothing.",
        "inf", choices=("inf", "nan", "zero", "beyond"),
    )  # fmt: skip
    lidar_least_measured: float = param(
        "Share of the beams that must meet something: a covered sensor may say the same as an open "
        "field; 0 for a rover in open fields.", 0.02, minimum=0.0, maximum=1.0,
    )  # fmt: skip
    body_frames: tuple[str, ...] = param(
        "Names of the body in the odometry's child_frame_id, without a namespace before them "
        "(REP-105, REP-120).", ("base_link", "base_footprint"),
    )  # fmt: skip

    @property
    def lidar(self) -> Pose:
        """Pose of the LiDAR in base_link."""
        return Pose(*self.lidar_pose)

    @property
    def camera(self) -> Pose:
        """Pose of the camera body in base_link: x forward, y left, z up; not the optical frame."""
        return Pose(*self.camera_pose)

    def canonical(self) -> dict[str, Any]:
        """Return the body, limits and poses as plain JSON types, as they are stored."""
        found = parameters.canonical(self)
        for name in ("use_tf", "body_frames", "lidar_no_return", "lidar_least_measured"):
            del found[name]
        return found

    def covers(self, x_m: NDArray[np.float64], y_m: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return where points in base_link, (n,) each, lie within the footprint."""
        return (np.abs(x_m) <= self.half_length_m) & (np.abs(y_m) <= self.half_width_m)


def load(params_file: str | Path) -> Robot:
    """Read the robot section of the shared parameter file.

    Raises:
        ParameterError: listing everything that is missing or wrong.
    """
    return parameters.from_values(Robot, parameters.read_file(params_file), PREFIX)
