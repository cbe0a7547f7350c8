"""Which frames of the camera the rover answered with a command."""

from __future__ import annotations

from typing import Any

from ..listener import Listener

# A frame is missed when none of so many later ones found it answered.
LATER = 30


class Monitor(Listener):
    """Listens to the camera and the actor in a thread; stamps say which command is of which frame.

    Attributes:
        drove: whether a command moved the rover.
        missed: frames since then that no command answers, whatever the reason.
    """

    def __init__(self) -> None:
        from geometry_msgs.msg import TwistStamped
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import CameraInfo

        self.drove = False
        self.missed = 0
        self._frames: list[tuple[int, int]] = []
        self._answered: set[tuple[int, int]] = set()
        super().__init__("learn_monitor")
        self.node.create_subscription(
            CameraInfo, "camera_info", self._on_frame, qos_profile_sensor_data
        )
        self.node.create_subscription(TwistStamped, "cmd_vel_raw", self._on_command, 100)

    def _on_command(self, message: Any) -> None:
        self.drove = self.drove or bool(message.twist.linear.x or message.twist.angular.z)
        self._answered.add((message.header.stamp.sec, message.header.stamp.nanosec))

    def _on_frame(self, message: Any) -> None:
        if not self.drove:
            return
        self._frames.append((message.header.stamp.sec, message.header.stamp.nanosec))
        while len(self._frames) > LATER:
            frame = self._frames.pop(0)
            self.missed += frame not in self._answered
            self._answered.discard(frame)
