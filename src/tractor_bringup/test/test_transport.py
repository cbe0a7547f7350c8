"""Large depth images arrive with config/fastdds.xml, which the launch files and the demo use."""

import os
import subprocess
import sys

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
def test_large_images_arrive_at_30_hz(repository, size):
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    environment = os.environ | {
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(repository / "config" / "fastdds.xml")
    }
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
