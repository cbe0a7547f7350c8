"""Sensor poses out of transforms."""

import math

import numpy as np
import pytest
from bev_oracle import rotation
from hypothesis import given
from hypothesis import strategies as st

from tractor_core.robot import Pose, pose_of

angle = st.floats(-3.1, 3.1)


def quaternion_of(matrix):
    """x, y, z, w by the eigenvector of Bar-Itzhack, stable for every rotation."""
    m = matrix
    k = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], m[1, 0] + m[0, 1], m[2, 0] + m[0, 2], m[2, 1] - m[1, 2]],
            [m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], m[2, 1] + m[1, 2], m[0, 2] - m[2, 0]],
            [m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
        ]
    )
    return tuple(np.linalg.eigh(k)[1][:, -1])


@given(roll=angle, pitch=st.floats(-1.5, 1.5), yaw=angle)
def test_the_rotation_of_a_transform_is_kept(roll, pitch, yaw):
    expected = rotation(roll, pitch, yaw)
    pose = Pose(*pose_of((1.0, 2.0, 3.0), quaternion_of(expected), optical=False))
    assert tuple(pose.position) == (1.0, 2.0, 3.0)
    np.testing.assert_allclose(pose.rotation, expected, atol=1e-9)


def test_a_level_camera_s_optical_frame_gives_a_level_body():
    # REP-103: a camera that looks ahead has an optical frame rolled and yawed by -90 degrees.
    optical = quaternion_of(rotation(-math.pi / 2, 0.0, -math.pi / 2))
    assert pose_of((0.2, 0.0, 0.15), optical, optical=True) == pytest.approx(
        (0.2, 0.0, 0.15, 0.0, 0.0, 0.0), abs=1e-9
    )
