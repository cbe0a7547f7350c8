"""The motion between two stamps, against poses that are integrated exactly."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor_core.motion import OdometrySample, OdometryTrack

S = 1_000_000_000


def circle(v, w, until_s, rate_hz=50, start=(1.0, -2.0, 0.4)):
    """Samples of a rover that drives a circle (or straight) at constant speed."""
    track = OdometryTrack()
    for i in range(int(until_s * rate_hz) + 1):
        t = i / rate_hz
        track.add(OdometrySample(round(t * S), *where(v, w, t, start), v, w))
    return track


def where(v, w, t, start=(1.0, -2.0, 0.4)):
    x, y, yaw = start
    end = yaw + w * t
    if abs(w) < 1e-6:
        return x + v * t * math.cos(yaw), y + v * t * math.sin(yaw), yaw
    return (
        x + v / w * (math.sin(end) - math.sin(yaw)),
        y - v / w * (math.cos(end) - math.cos(yaw)),
        math.remainder(end, 2 * math.pi),
    )


def in_odom(pose, point):
    x, y, yaw = pose
    return (
        x + math.cos(yaw) * point[0] - math.sin(yaw) * point[1],
        y + math.sin(yaw) * point[0] + math.cos(yaw) * point[1],
    )


@given(
    v=st.floats(-0.5, 0.5), w=st.floats(-2.0, 2.0), t=st.floats(0.1, 1.05),
    age_s=st.floats(-0.03, 0.3), ahead=st.floats(-2, 2), left=st.floats(-2, 2),
)  # fmt: skip
def test_a_point_of_then_lies_where_it_did_in_the_world(v, w, t, age_s, ahead, left):
    then_s = max(0.0, min(1.05, t - age_s))
    motion = circle(v, w, 1.0).motion(round(then_s * S), round(t * S))
    x, y, yaw = motion
    moved = (
        math.cos(yaw) * ahead - math.sin(yaw) * left + x,
        math.sin(yaw) * ahead + math.cos(yaw) * left + y,
    )
    expected = in_odom(where(v, w, then_s), (ahead, left))
    # A tenth of a cell: between two messages the way is a chord.
    assert in_odom(where(v, w, t), moved) == pytest.approx(expected, abs=0.003)


def test_without_odometry_nothing_is_guessed():
    track = OdometryTrack()
    assert track.motion(0, S) is None
    assert track.motion(S, S) == (0.0, 0.0, 0.0)
    track = circle(0.1, 0.0, 1.0)
    assert track.motion(S // 2, S + S // 5) is None
    assert track.motion(-S // 5, S // 2) is None


def test_a_pause_of_the_odometry_is_not_bridged():
    track = OdometryTrack()
    for t_s in (0.0, 0.7):
        track.add(OdometrySample(round(t_s * S), 0.0, 0.0, 0.0, 0.1, 0.0))
    assert track.motion(S // 2, round(0.7 * S)) is None
    assert track.motion(0, S // 20) is not None


@pytest.mark.parametrize(
    "after",
    [
        OdometrySample(S + S // 50, 0.25, 0.0, 0.0, 0.1, 0.0),
        OdometrySample(S + S // 50, 0.1, 0.0, -0.5, 0.1, 0.0),
        OdometrySample(S // 2, 0.05, 0.0, 0.0, 0.1, 0.0),
    ],
    ids=["position jumps", "heading jumps", "clock goes back"],
)
def test_after_a_reset_what_was_before_is_forgotten(after):
    track = circle(0.1, 0.0, 1.0, start=(0.0, 0.0, 0.0))
    track.add(after)
    assert track.motion(after.stamp_ns - S // 10, after.stamp_ns) is None
    assert track.motion(after.stamp_ns + 1, after.stamp_ns) is not None


def test_memory_stays_small():
    track = circle(0.1, 0.1, 60.0, rate_hz=100)
    assert len(track._samples) <= 201
