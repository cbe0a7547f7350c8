"""The frame tree and the views of the grid, as RViz and Foxglove put them together."""

import importlib.util
import shutil

import numpy as np
import pytest
import tf2_messages
import yaml

from tractor_core import messages
from tractor_core.messages import stamp_ns
from tractor_core.robot import Robot
from tractor_core.robot import load as load_robot

pytestmark = pytest.mark.ros

SIM = "tractor_sim.nodes.sim_node"
BUILDER = "tractor_inference.nodes.bev_builder_node"
# Off the middle and turned, so that a wrong axis or order does not pass.
POSES = {
    "robot.lidar_pose": [0.08, -0.05, 0.19, 0.0, 0.0, 0.7],
    "robot.camera_pose": [0.16, 0.04, 0.17, 0.0, 0.06, -0.3],
}


@pytest.fixture(scope="module")
def tf2_msgs(tmp_path_factory):
    """The message of TF: of the installed package, else of one made with the wheels' generators."""
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("tf2_msgs") is None:
            tools = importlib.util.find_spec("rosidl_cli"), shutil.which("gcc"), shutil.which("g++")
            if not all(tools):
                pytest.skip("needs tf2_msgs (apt ROS), or the wheels' generators, gcc and g++")
            tf2_messages.make_importable(tmp_path_factory.mktemp("tf2"), patch)
        from tf2_msgs.msg import TFMessage

        yield TFMessage


def matrix(transform):
    """Return a geometry_msgs/Transform as (4, 4)."""
    t, q = transform.translation, transform.rotation
    x, y, z, w = q.x, q.y, q.z, q.w
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y), t.x],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x), t.y],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y), t.z],
            [0, 0, 0, 1],
        ]
    )


def in_base_link(points, frame_id, static):
    """Return points (n, 3) of a sensor in base_link, by the transforms of /tf_static alone."""
    homogeneous = np.column_stack([points, np.ones(len(points))])
    while frame_id != "base_link":
        link = next(t for t in static if t.child_frame_id == frame_id)
        homogeneous = homogeneous @ matrix(link.transform).T
        frame_id = link.header.frame_id
    return homogeneous[:, :3]


def cells_of(points, grid):
    """Return the indices (y, x) of points in the data of an OccupancyGrid, as RViz draws it."""
    assert grid.header.frame_id == "base_link" and grid.info.origin.orientation.w == 1.0
    origin = grid.info.origin.position
    return np.floor((points[:, :2] - [origin.x, origin.y]) / grid.info.resolution).astype(int)[
        :, ::-1
    ]


def occupied(grid):
    return np.array(grid.data).reshape(grid.info.height, grid.info.width) == 100


def scan_points(scan):
    ranges = np.array(scan.ranges)
    angles = scan.angle_min + scan.angle_increment * np.arange(len(ranges))
    seen = np.isfinite(ranges)
    return np.column_stack(
        [ranges * np.cos(angles), ranges * np.sin(angles), np.zeros(len(ranges))]
    )[seen]


def depth_points(image, info):
    """Return the points of an image in its optical frame, as depth_image_proc makes them."""
    pixels = messages.depth_from_message(image)
    rows, cols = np.nonzero(pixels)
    z = pixels[rows, cols] * 1e-3
    p = info.p
    return np.column_stack([(cols - p[2]) / p[0] * z, (rows - p[6]) / p[5] * z, z])


def within(points, robot: Robot, inside_m=1.9):
    """Return the points that the grid holds and the footprint does not clear."""
    x, y = np.abs(points[:, 0]), np.abs(points[:, 1])
    body = (x < robot.half_length_m + 0.1) & (y < robot.half_width_m + 0.1)
    return points[(x < inside_m) & (y < inside_m) & ~body]


def share_in_occupied_cells(points, grid, mirrored=False):
    cells = cells_of(points * [1, -1, 1] if mirrored else points, grid)
    return occupied(grid)[cells[:, 0], cells[:, 1]].mean()


def test_scan_and_depth_lie_in_the_occupied_cells(ros_graph, tf2_msgs, params_file):
    from nav_msgs.msg import OccupancyGrid
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from rclpy.qos import qos_profile_sensor_data as qos
    from sensor_msgs.msg import CameraInfo, Image, LaserScan

    robot = load_robot(params_file)
    ros_graph.start(BUILDER, **POSES)
    ros_graph.start(SIM, world_seed=3, **POSES)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    static = ros_graph.collect(tf2_msgs, "/tf_static", latched)
    scans = ros_graph.collect(LaserScan, "scan", qos)
    images = ros_graph.collect(Image, "depth", qos)
    infos = ros_graph.collect(CameraInfo, "camera_info", qos)
    lidar = ros_graph.collect(OccupancyGrid, "bev/lidar")
    depth = ros_graph.collect(OccupancyGrid, "bev/depth")

    def pairs(sensors, grids):
        """Return (sensor message, grid) of equal stamps: that grid can be drawn of it."""
        of = {stamp_ns(m.header.stamp): m for m in sensors}
        return [(of[s], g) for g in grids if (s := stamp_ns(g.header.stamp)) in of]

    ros_graph.until(
        lambda: static and len(pairs(scans, lidar)) > 3 and len(pairs(images, depth)) > 3
    )
    transforms = static[0].transforms
    assert {t.child_frame_id for t in transforms} == {
        "laser", "camera_link", "camera_depth_optical_frame"
    }  # fmt: skip

    # The rover stands: a grid of the scan before it differs by the noise alone, so the best counts.
    shares = []
    for scan, grid in pairs(scans, lidar):
        points = within(in_base_link(scan_points(scan), scan.header.frame_id, transforms), robot)
        assert len(points) > 100
        shares.append(
            [share_in_occupied_cells(points, grid, mirrored) for mirrored in (False, True)]
        )
    right, mirrored = max(shares)
    assert right > 0.99
    assert mirrored < 0.5

    limits = yaml.safe_load(params_file.read_text())["/**/bev_builder"]["ros__parameters"]
    image, grid = pairs(images, depth)[-1]
    points = in_base_link(depth_points(image, infos[-1]), image.header.frame_id, transforms)
    low, high = limits["obstacle_min_height_m"] + 0.01, limits["obstacle_max_height_m"] - 0.01
    points = within(points[(points[:, 2] > low) & (points[:, 2] < high)], robot)
    assert len(points) > 500
    assert share_in_occupied_cells(points, grid) > 0.95
    assert share_in_occupied_cells(points, grid, mirrored=True) < 0.7


def test_odometry_and_transform_say_the_same(ros_graph, tf2_msgs):
    from geometry_msgs.msg import Twist
    from nav_msgs.msg import Odometry
    from rclpy.qos import qos_profile_sensor_data as qos

    ros_graph.start(SIM, arguments=("-r", "__ns:=/rover"), world_seed=3)
    moving = ros_graph.collect(tf2_msgs, "/rover/tf", 100)
    odometry = ros_graph.collect(Odometry, "/rover/odom", qos)
    publisher = ros_graph.node.create_publisher(Twist, "/rover/cmd_vel", 10)
    command = Twist()
    command.linear.x, command.angular.z = 0.1, 0.4

    def both():
        of = {stamp_ns(m.transforms[0].header.stamp): m.transforms[0] for m in moving}
        pairs = ((m, of.get(stamp_ns(m.header.stamp))) for m in odometry)
        return [(m, t) for m, t in pairs if t and m.pose.pose.position.x > 0.02]

    pairs = ros_graph.until(both, every=lambda: publisher.publish(command))
    message, transform = pairs[-1]
    # A namespaced rover has a tree of its own, not frames of other names.
    assert (message.header.frame_id, message.child_frame_id) == ("odom", "base_link")
    assert (transform.header.frame_id, transform.child_frame_id) == ("odom", "base_link")
    position = message.pose.pose.position
    moved = transform.transform.translation
    assert (moved.x, moved.y, moved.z) == (position.x, position.y, 0.0)
    assert transform.transform.rotation == message.pose.pose.orientation
    assert ros_graph.node.count_publishers("/tf") == 0
