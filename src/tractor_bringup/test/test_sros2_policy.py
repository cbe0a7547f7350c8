"""config/sros2_policy.xml allows each node what it does, by the graph of ROS, and nothing more."""

import xml.etree.ElementTree

import pytest

MODULES = {
    name: f"tractor_inference.nodes.{name}_node"
    for name in ("bev_builder", "sac_actor", "cmd_guard")
} | {"rover_link": "tractor_link.nodes.rover_link_node"}
# A machine that is busy with other tests takes its time.
START_LIMIT_S = 60.0


@pytest.fixture(scope="module")
def policy(repository):
    root = xml.etree.ElementTree.parse(repository / "config" / "sros2_policy.xml").getroot()
    assert root.attrib == {"version": "0.2.0"}
    return {enclave.attrib["path"]: enclave for enclave in root.iter("enclave")}


def allowed(enclave, node):
    """Return {right: names} of a node's only profile, with the names that a node "/" gives them."""
    (profile,) = enclave.iter("profile")
    assert profile.attrib == {"ns": "/", "node": node}
    rights = {"publish": [], "subscribe": [], "reply": [], "request": []}
    for group in profile:
        ((right, answer),) = group.attrib.items()
        assert answer == "ALLOW"
        rights[right] += [item.text for item in group]
    return {right: sorted(full(name, node) for name in names) for right, names in rights.items()}


def full(name, node):
    if name.startswith("~"):
        return f"/{node}{name[1:]}"
    return name if name.startswith("/") else f"/{name}"


def done_by(graph, node):
    """Return {right: names} that a running node makes use of; none before it is there."""
    from rclpy._rclpy_pybind11 import NodeNameNonExistentError

    ask = graph.node
    looks = {
        "publish": ask.get_publisher_names_and_types_by_node,
        "subscribe": ask.get_subscriber_names_and_types_by_node,
        "reply": ask.get_service_names_and_types_by_node,
        "request": ask.get_client_names_and_types_by_node,
    }
    try:
        return {r: sorted(name for name, _ in look(node, "/")) for r, look in looks.items()}
    except NodeNameNonExistentError:
        return {}


def test_every_node_of_the_launch_has_its_enclave(policy):
    assert policy.keys() == {f"/{name}" for name in MODULES}


@pytest.mark.ros
@pytest.mark.parametrize("node", MODULES)
def test_a_node_may_do_what_it_does_and_nothing_more(ros_graph, policy, node):
    from diagnostic_msgs.msg import DiagnosticArray

    enclave = f"/{node}"
    parameters = {"backend": "fake"} if node == "sac_actor" else {}
    ros_graph.start(MODULES[node], node, arguments=("--enclave", enclave), **parameters)
    diagnostics = ros_graph.collect(DiagnosticArray, "/diagnostics")

    def configured():
        status = diagnostics[-1].status[0] if diagnostics else None
        return status and "configured" not in status.message and status.name == node

    ros_graph.until(configured, START_LIMIT_S)
    expected = allowed(policy[enclave], node)
    found = {}

    def as_allowed():
        found.update(done_by(ros_graph, node))
        return found == expected

    try:
        ros_graph.until(as_allowed)
    except AssertionError:
        assert found == expected
        raise
    names = ros_graph.node.get_node_names_and_namespaces_with_enclaves()
    assert (node, "/", enclave) in names
