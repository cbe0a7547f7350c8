"""Messages are stood in for by plain objects: the conversions need no ROS."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor_core import contract as contract_module
from tractor_core import messages
from tractor_core import robot as robots
from tractor_core.errors import SensorError
from tractor_core.paths import default_params_file

CONTRACT = contract_module.load(default_params_file())
ROBOT = robots.load(default_params_file())


def image(pixels, encoding="16UC1", big_endian=False, padding=0, **changes):
    rows = np.ascontiguousarray(
        pixels.astype(pixels.dtype.newbyteorder(">" if big_endian else "<"))
    ).view(np.uint8)
    rows = rows.reshape(pixels.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    fields = dict(
        height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
        is_bigendian=int(big_endian), step=rows.shape[1], data=rows.tobytes(),
        header=SimpleNamespace(frame_id="base_link"),
    )  # fmt: skip
    return SimpleNamespace(**(fields | changes))


def scan(**changes):
    fields = dict(
        ranges=[1.0, math.inf, math.nan], angle_min=0.0, angle_max=0.2, angle_increment=0.1,
        range_min=0.1, range_max=10.0, time_increment=0.0,
    )  # fmt: skip
    return SimpleNamespace(**(fields | changes))


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.booleans(),
    st.integers(0, 7),
    st.sampled_from([("16UC1", np.uint16), ("32FC1", np.float32)]),
)
def test_step_and_byte_order_are_honoured(seed, shape, big_endian, padding, kind):
    pixels = np.random.default_rng(seed).integers(0, 60_000, shape).astype(kind[1])
    back = messages.depth_from_message(image(pixels, kind[0], big_endian, padding))
    assert back.dtype == kind[1]
    np.testing.assert_array_equal(back, pixels)


@pytest.mark.parametrize(
    "changes",
    [{"encoding": "mono8"}, {"step": 10}, {"data": b"0123456789"}, {"height": 0}, {"width": 0}],
)
def test_images_that_cannot_be_used_are_refused(changes):
    with pytest.raises(SensorError, match=r"expected .* found"):
        messages.depth_from_message(image(np.ones((4, 8), np.uint16), **changes))


def test_scan_keeps_what_it_says():
    ours = messages.scan_from_message(scan())
    assert list(ours.measured) == [True, False, False]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"angle_increment": math.nan}, "angle_increment"),
        ({"angle_increment": 0.0}, "non-zero"),
        ({"ranges": []}, "at least one beam"),
        ({"range_min": 5.0, "range_max": 1.0}, "range_min < range_max"),
        ({"ranges": [math.nan] * 5}, "found none in 5 beams"),
        ({"ranges": [0.0] * 5}, "found none in 5 beams"),
    ],
)
def test_scans_that_say_nothing_are_refused(changes, text):
    with pytest.raises(SensorError, match=text):
        messages.scan_from_message(scan(**changes))


def test_a_scan_of_only_inf_says_that_the_way_is_free():
    assert not messages.scan_from_message(scan(ranges=[math.inf] * 3)).measured.any()


def test_grid_survives_the_message_and_is_nhwc_in_between():
    grid = (np.random.default_rng(0).random(CONTRACT.bev_shape) < 0.1).astype(np.float32)
    message = SimpleNamespace(data=b"", header=SimpleNamespace(frame_id=""))
    messages.bev_message(message, CONTRACT)[:] = grid.transpose(1, 2, 0)
    assert message.encoding == "32FC2" and message.header.frame_id == "base_link"
    nhwc = np.frombuffer(message.data, np.float32).reshape(128, 128, 2)
    np.testing.assert_array_equal(nhwc[..., 1], grid[1])
    np.testing.assert_array_equal(messages.bev_from_message(message, CONTRACT), grid)


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.1])
def test_grids_outside_zero_to_one_are_refused(value):
    pixels = np.full((128, 256), value, np.float32)
    with pytest.raises(SensorError, match=r"expected values 0\.\.1"):
        messages.bev_from_message(image(pixels, "32FC2", width=128), CONTRACT)


def test_grids_of_another_frame_or_size_are_refused_with_all_reasons():
    message = image(np.zeros((64, 128), np.float32), "32FC1", width=64)
    message.header.frame_id = "map"
    with pytest.raises(SensorError) as caught:
        messages.bev_from_message(message, CONTRACT)
    for text in ("frame_id", "encoding", "size"):
        assert text in str(caught.value)


def test_odometry_must_be_finite():
    assert messages.twist_from_odometry(odometry(linear=0.1, angular=0.2), ROBOT) == (0.1, 0.2)
    for bad in ({"linear": math.nan}, {"angular": math.inf}, {"linear": 100.0}, {"angular": -4.0}):
        with pytest.raises(SensorError, match="expected a twist of at most"):
            messages.twist_from_odometry(odometry(**bad), ROBOT)
    # The twist of an estimator whose pose is lost is not to be trusted either.
    for bad in ({"x": math.nan}, {"norm": math.nan}):
        with pytest.raises(SensorError, match="expected a finite pose"):
            messages.twist_from_odometry(odometry(**bad), ROBOT)


@pytest.mark.parametrize("frame", ["", "base_link", "rover1/base_link", "base_footprint"])
def test_the_twist_is_that_of_the_body(frame):
    assert messages.twist_from_odometry(odometry(frame=frame), ROBOT) == (0.1, -0.2)
    for other in ("camera_pose_frame", "camera_base_link", "base"):
        with pytest.raises(SensorError, match=f"child_frame_id base_link or .*, found '{other}'"):
            messages.twist_from_odometry(odometry(frame=other), ROBOT)
    named = dataclasses.replace(ROBOT, body_frames=("base",))
    assert messages.twist_from_odometry(odometry(frame="base"), named) == (0.1, -0.2)


def test_an_occupancy_grid_has_each_cell_where_the_rover_has_it():
    # One metre ahead and half a metre left; the grid's own corner cells pin the origin.
    channel = np.zeros((128, 128), np.float32)
    for x, y in ((1.01, 0.51), (1.99, 1.99), (-1.99, -1.99)):
        channel[math.floor((2 - x) / 0.03125), math.floor((2 - y) / 0.03125)] = 1.0
    info = SimpleNamespace(
        origin=SimpleNamespace(position=SimpleNamespace(), orientation=SimpleNamespace())
    )
    message = SimpleNamespace(info=info, header=SimpleNamespace())
    messages.fill_occupancy(message, channel, 0.03125)
    assert message.header.frame_id == "base_link" and info.origin.orientation.w == 1.0
    # As nav_msgs/OccupancyGrid defines it: row-major, x along a row, from the origin's corner.
    cells = np.array(message.data, np.int8).reshape(info.height, info.width)
    found = {
        (
            round(info.origin.position.x + (mx + 0.5) * info.resolution, 2),
            round(info.origin.position.y + (my + 0.5) * info.resolution, 2),
        )
        for my, mx in np.argwhere(cells == 100)
    }
    assert found == {(1.02, 0.52), (1.98, 1.98), (-1.98, -1.98)}
    assert np.count_nonzero(cells) == 3


def odometry(yaw=0.5, linear=0.1, angular=-0.2, x=1.0, norm=1.0, frame=""):
    pose = SimpleNamespace(
        position=SimpleNamespace(x=x, y=2.0, z=0.0),
        orientation=SimpleNamespace(
            x=0.0, y=0.0, z=norm * math.sin(yaw / 2), w=norm * math.cos(yaw / 2)
        ),
    )
    twist = SimpleNamespace(linear=SimpleNamespace(x=linear), angular=SimpleNamespace(z=angular))
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=3, nanosec=5)),
        child_frame_id=frame,
        pose=SimpleNamespace(pose=pose),
        twist=SimpleNamespace(twist=twist),
    )


def test_odometry_gives_pose_and_twist():
    sample = messages.odometry_from_message(odometry(), ROBOT)
    assert sample.stamp_ns == 3_000_000_005
    assert (sample.x_m, sample.y_m) == (1.0, 2.0)
    assert sample.yaw_rad == pytest.approx(0.5)
    assert (sample.linear_m_s, sample.angular_rad_s) == (0.1, -0.2)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"norm": 0.0}, "quaternion of length 1, found 0"),
        ({"norm": math.nan}, "finite pose, found x 1, y 2, quaternion 0, 0, nan, nan"),
        ({"x": math.inf}, "finite pose, found x inf"),
        ({"linear": math.nan}, "expected a twist"),
    ],
)
def test_unusable_odometry_is_refused(changes, text):
    with pytest.raises(SensorError, match=text):
        messages.odometry_from_message(odometry(**changes), ROBOT)
