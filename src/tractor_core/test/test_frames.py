"""Transforms of the frame tree against the poses that they come from."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor_core import frames
from tractor_core.robot import OPTICAL_IN_BODY, Pose, pose_of

ANGLES = st.floats(-math.pi, math.pi)
POSES = st.builds(Pose, *[st.floats(-2.0, 2.0)] * 3, *[ANGLES] * 3)


def rotation_of(q):
    """Return the matrix of a quaternion by turning the axes: q v q*."""
    vector, w = np.array(q[:3]), q[3]
    turned = [
        v + 2.0 * np.cross(vector, np.cross(vector, v) + w * v) for v in np.eye(3)
    ]  # fmt: skip
    return np.array(turned).T


@given(POSES)
def test_extrinsics_turn_as_its_pose_does(pose):
    found = frames.extrinsics(pose, "base_laser")
    assert (found.parent, found.child) == ("base_link", "base_laser")
    assert found.translation_m == (pose.x, pose.y, pose.z)
    assert rotation_of(found.quaternion) == pytest.approx(pose.rotation, abs=1e-6)
    assert np.linalg.norm(found.quaternion) == pytest.approx(1.0)


@given(POSES)
def test_an_optical_frame_is_what_the_nodes_take_from_tf(pose):
    found = frames.extrinsics(pose, "camera_depth_optical_frame")
    back = Pose(*pose_of(found.translation_m, found.quaternion, optical=True))
    assert back.position == pytest.approx(pose.position)
    assert back.rotation == pytest.approx(pose.rotation, abs=1e-6)


def test_an_optical_frame_looks_along_z():
    turn = rotation_of(frames.optical("camera_link", "camera_optical").quaternion)
    assert turn @ [0, 0, 1] == pytest.approx([1, 0, 0])  # forward
    assert turn @ [1, 0, 0] == pytest.approx([0, -1, 0])  # right
    assert turn @ [0, 1, 0] == pytest.approx([0, 0, -1])  # down
    assert turn == pytest.approx(OPTICAL_IN_BODY)


@given(st.floats(-9, 9), st.floats(-9, 9), ANGLES)
def test_odometry_places_base_link_in_odom(x, y, yaw):
    found = frames.odometry(x, y, yaw)
    assert (found.parent, found.child) == ("odom", "base_link")
    ahead = rotation_of(found.quaternion) @ [1, 0, 0]
    assert ahead == pytest.approx([math.cos(yaw), math.sin(yaw), 0], abs=1e-9)
    assert found.translation_m == (x, y, 0.0)
