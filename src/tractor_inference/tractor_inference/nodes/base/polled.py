"""Subscriptions whose messages are taken when they are needed, not whenever one comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

# What comes between two looks is kept: odometry of 200 Hz between two frames of 30 Hz.
POLLED_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


class Polled(ReentrantCallbackGroup):
    """A callback group whose subscriptions wake no executor; `take` calls back instead.

    A node that acts on one input needs the others at that moment only, and each message that wakes
    it in between costs more than taking it. While that input is away they must be taken all the
    same, by a timer: they would seem late themselves.

        others = Polled(node)
        others.subscribe(Odometry, "odom", on_odom)
        node.create_subscription(Image, "depth", on_depth, SENSOR_QOS)

        def on_depth(message):
            others.take()
            ...
    """

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node
        self._subscriptions: list[tuple[Subscription, Callable[..., None], bool]] = []

    def subscribe(
        self, kind: type, topic: str, callback: Callable[..., None], with_info: bool = False
    ) -> None:
        """Subscribe to a topic.

        Args:
            callback: called with each message.
            with_info: with what the middleware says of it, too.
        """
        # Events of the middleware would wake the executor for each message. None can come: every
        # quality of service fits this one, and of another type Fast DDS reports nothing.
        events = SubscriptionEventCallbacks(use_default_callbacks=False)
        subscription = self._node.create_subscription(
            kind, topic, callback, POLLED_QOS, callback_group=self, event_callbacks=events
        )
        self._subscriptions.append((subscription, callback, with_info))

    def unsubscribe(self) -> None:
        """Destroy the subscriptions."""
        for subscription, *_ in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def can_execute(self, entity: Any) -> bool:
        """Return False: the executor waits for none of them."""
        return False

    def take(self) -> None:
        """Call back with all messages that have come: topic by topic, oldest first."""
        for subscription, callback, with_info in self._subscriptions:
            # No more than fit in its queue: a flood must not keep the node from its work.
            for _ in range(POLLED_QOS.depth):
                with subscription.handle:
                    found = subscription.handle.take_message(subscription.msg_type, False)
                if found is None:
                    break
                callback(*found if with_info else found[:1])
