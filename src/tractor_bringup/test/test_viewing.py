"""What RViz and Foxglove are told to show is what the nodes publish."""

import json
import re
import subprocess

import pytest
import yaml

# Of rviz_default_plugins, Jazzy: plugins_description.xml; and the message that each display takes.
DISPLAYS = {
    "Grid": None,
    "TF": None,
    "Map": "nav_msgs/msg/OccupancyGrid",
    "LaserScan": "sensor_msgs/msg/LaserScan",
    "Polygon": "geometry_msgs/msg/PolygonStamped",
    "Odometry": "nav_msgs/msg/Odometry",
    "Image": "sensor_msgs/msg/Image",
}
TOOLS = {"MoveCamera", "Select", "FocusCamera", "Measure"}
VIEWS = {"Orbit"}
TRANSFORMS = {"/tf", "/tf_static"}  # published where tf2_msgs is installed
SHOWN_BY_FOXGLOVE = {
    "/scan", "/bev/lidar", "/bev/depth", "/footprint", "/odom", "/depth", "/camera_info",
    "/cmd_vel", "/diagnostics", *TRANSFORMS,
}  # fmt: skip


@pytest.fixture
def rviz(repository):
    return yaml.safe_load((repository / "config" / "sac_rover.rviz").read_text())


@pytest.fixture
def foxglove(repository):
    return json.loads((repository / "config" / "sac_rover.foxglove.json").read_text())


def displays_of(rviz):
    """Return the displays that have a topic."""
    return [d for d in rviz["Visualization Manager"]["Displays"] if "Topic" in d]


def topics_of(value):
    """Yield the topics in a Foxglove layout: texts that begin with a slash, without the field."""
    if isinstance(value, dict):
        yield from topics_of(list(value.items()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from topics_of(item)
    elif isinstance(value, str) and value.startswith("/"):
        yield value.partition(".")[0]


def test_every_class_is_one_that_rviz_has(rviz):
    manager = rviz["Visualization Manager"]
    groups = (
        (manager["Displays"], DISPLAYS.keys()), (manager["Tools"], TOOLS),
        ([manager["Views"]["Current"]], VIEWS), ([manager["Transformation"]["Current"]], {"TF"}),
    )  # fmt: skip
    for items, known in groups:
        classes = {item["Class"] for item in items}
        assert classes <= {f"rviz_default_plugins/{name}" for name in known}
    assert all(panel["Class"].startswith("rviz_common/") for panel in rviz["Panels"])


def test_rviz_shows_everything_in_odom_by_relative_names(rviz):
    assert rviz["Visualization Manager"]["Global Options"]["Fixed Frame"] == "odom"
    shown = [d["Topic"]["Value"] for d in displays_of(rviz)]
    assert sorted(shown) == ["bev/depth", "bev/lidar", "depth", "footprint", "odom", "scan"]


def test_foxglove_shows_topics_of_the_nodes_in_panels_that_are_laid_out(foxglove):
    assert set(topics_of(foxglove)) == SHOWN_BY_FOXGLOVE

    def panels(node):
        return [node] if isinstance(node, str) else panels(node["first"]) + panels(node["second"])

    assert sorted(panels(foxglove["layout"])) == sorted(foxglove["configById"])


def test_the_layout_of_a_namespace_is_made_as_documented(repository, foxglove, tmp_path):
    page = (repository / "docs" / "viewing.md").read_text()
    [command] = re.findall(r"^sed .*sac_rover\.foxglove\.json.*$", page, re.MULTILINE)
    source, target = repository / "config", tmp_path / "rover1.json"
    command = command.replace("config/", f"{source}/").replace("rover1.json", str(target))
    subprocess.run(["bash", "-c", command], check=True)
    expected = {t if t == "/diagnostics" else f"/rover1{t}" for t in SHOWN_BY_FOXGLOVE}
    assert set(topics_of(json.loads(target.read_text()))) == expected


@pytest.mark.ros
def test_the_nodes_publish_what_is_shown_so_that_it_arrives(ros_graph, rviz, foxglove):
    from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

    ros_graph.start("tractor_inference.nodes.bev_builder_node")
    ros_graph.start("tractor_inference.nodes.sac_actor_node", node="sac_actor", backend="fake")
    ros_graph.start("tractor_inference.nodes.cmd_guard_node")
    ros_graph.start("tractor_sim.nodes.sim_node")
    node = ros_graph.node

    def published(topic):
        return node.get_publishers_info_by_topic(topic)

    wanted = {d["Topic"]["Value"]: d for d in displays_of(rviz)}
    everything = {f"/{name}" for name in wanted} | set(topics_of(foxglove)) - TRANSFORMS
    ros_graph.until(lambda: all(map(published, everything)))
    for name, display in wanted.items():
        kind = DISPLAYS[display["Class"].partition("/")[2]]
        for end in published(f"/{name}"):
            assert end.topic_type == kind, name
            if display["Topic"]["Reliability Policy"] == "Reliable":
                assert end.qos_profile.reliability == ReliabilityPolicy.RELIABLE, name
            if display["Topic"]["Durability Policy"] == "Transient Local":
                assert end.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL, name
