"""Large depth images arrive with either profile of Fast DDS; one of them keeps to this machine."""

import ipaddress
import os
import subprocess
import sys
from pathlib import Path

import pytest

RATE_HZ, COUNT = 30, 90

PUBLISH = f"""
import sys, time
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("camera")
publisher = node.create_publisher(Image, "depth", qos_profile_sensor_data)
width, height = int(sys.argv[1]), int(sys.argv[2])
image = Image(height=height, width=width, encoding="16UC1", step=2 * width)
image.data = bytes(2 * width * height)
while publisher.get_subscription_count() == 0:
    rclpy.spin_once(node, timeout_sec=0.05)
for _ in range({COUNT}):
    publisher.publish(image)
    time.sleep(1 / {RATE_HZ})
"""
COUNT_IMAGES = f"""
import time
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("counter")
arrived = []
node.create_subscription(
    Image, "depth", lambda image: arrived.append(time.monotonic()), qos_profile_sensor_data)
deadline = time.monotonic() + 30
while time.monotonic() < deadline and len(arrived) < {COUNT}:
    rclpy.spin_once(node, timeout_sec=0.05)
    if arrived and time.monotonic() - arrived[-1] > 2:
        break
print(len(arrived))
"""


@pytest.mark.ros
@pytest.mark.parametrize("size", [("640", "480"), ("1280", "720")], ids="x".join)
@pytest.mark.parametrize("profile", ["fastdds.xml", "fastdds_loopback.xml"])
def test_large_images_arrive_at_30_hz(repository, size, profile):
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    environment = os.environ | {
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(repository / "config" / profile)
    }
    if profile == "fastdds_loopback.xml":
        del environment["ROS_AUTOMATIC_DISCOVERY_RANGE"]
    command = [sys.executable, "-c"]
    with subprocess.Popen([*command, PUBLISH, *size], env=environment) as publisher:
        try:
            counted = subprocess.run(
                [*command, COUNT_IMAGES],
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
            )
        finally:
            publisher.kill()
    assert counted.returncode == 0, counted.stderr
    assert int(counted.stdout) >= 0.95 * COUNT


def bound_to(pid):
    """Return {(protocol, address, port)} of a process's sockets of UDP and TCP."""
    inodes = {
        os.readlink(link).removeprefix("socket:[").rstrip("]")
        for link in Path(f"/proc/{pid}/fd").iterdir()
    }
    found = set()
    for protocol in ("udp", "udp6", "tcp", "tcp6"):
        for line in Path("/proc/net", protocol).read_text().splitlines()[1:]:
            words = line.split()
            address, port = words[1].split(":")
            if words[9] in inodes:
                # Words of 32 bits, each in the machine's order.
                words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
                found.add((protocol, str(ipaddress.ip_address(b"".join(words))), int(port, 16)))
    return found


@pytest.mark.ros
def test_with_the_loopback_profile_nothing_beyond_this_machine_reaches_a_node(
    repository, ros_graph, monkeypatch
):
    from diagnostic_msgs.msg import DiagnosticArray
    from test_nodes import BUILDER, GUARD, Sensors

    profile = repository / "config" / "fastdds_loopback.xml"
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", str(profile))
    monkeypatch.delenv("ROS_AUTOMATIC_DISCOVERY_RANGE")
    nodes = [ros_graph.start(module) for module in (BUILDER, GUARD)]
    # Tools of this machine still hear them, whatever their own profile.
    diagnostics = ros_graph.collect(DiagnosticArray, "/diagnostics")

    def grid_arrives():
        found = [s for message in diagnostics for s in message.status if s.name == "cmd_guard"]
        return found and "bev never received" not in {v.value for v in found[-1].values}

    ros_graph.until(grid_arrives, 60.0, every=Sensors(ros_graph))
    for node in nodes:
        sockets = bound_to(node.process.pid)
        assert {(protocol, address) for protocol, address, _ in sockets} == {("udp", "127.0.0.1")}
