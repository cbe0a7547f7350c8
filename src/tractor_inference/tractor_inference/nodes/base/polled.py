"""Subscriptions whose messages are taken when they are needed, not whenever one comes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from rclpy._rclpy_pybind11 import RCLError
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

from .lifecycle import STEADY

# Of a node that acts on nothing: it looks at its inputs so often.
LOOK_S = 0.05
# Of each topic so many of the newest messages are kept until they are taken. More than one: where
# several send, the one that comes last must not hide the others.
KEPT = 5


class Delivery(NamedTuple):
    """How a message came: how long it waited to be taken, s, and its publisher's number of it."""

    waited_s: float
    number: int | None


class Polled(ReentrantCallbackGroup):
    """A callback group whose subscriptions wake no executor; `take` calls back instead.

    A node that acts on one input needs the others at that moment only, and each message that wakes
    it in between costs more than taking it. While that input is away a timer takes them.

        others = Polled(node)
        others.subscribe(Odometry, "odom", on_odom)
        node.create_subscription(Image, "depth", on_depth, SENSOR_QOS)

        def on_depth(message):
            others.take()
            ...

    Args:
        node: has `warn(key, text)`.
    """

    def __init__(self, node: Any) -> None:
        super().__init__()
        self._node = node
        self._subscriptions: list[tuple[Subscription, Callable[[Any, Delivery], None], int]] = []
        self._taken_s = time.monotonic()
        self._timer = node.create_timer(LOOK_S, self.take, clock=STEADY)

    def subscribe(
        self, kind: type, topic: str, callback: Callable[[Any, Delivery], None], depth: int = KEPT
    ) -> None:
        """Subscribe to a topic.

        Args:
            callback: called with each message and its delivery.
            depth: how many of the newest messages are kept until they are taken.
        """
        qos = QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)
        # Nothing waits for its events, and none can come: every quality of service fits this one,
        # and of another type Fast DDS reports nothing.
        events = SubscriptionEventCallbacks(use_default_callbacks=False)
        subscription = self._node.create_subscription(
            kind, topic, callback, qos, callback_group=self, event_callbacks=events
        )
        self._subscriptions.append((subscription, callback, depth))

    def unsubscribe(self) -> None:
        """Destroy the subscriptions."""
        for subscription, *_ in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def can_execute(self, entity: Any) -> bool:
        """Return False: the executor waits for none of them."""
        return False

    def take(self) -> None:
        """Call back with all messages that have come: topic by topic, oldest first.

        A topic whose messages the middleware cannot give is named, and left for this time.
        """
        self._timer.reset()
        now_s = time.monotonic()
        most_s = now_s - self._taken_s
        for subscription, callback, depth in self._subscriptions:
            # No more than are kept: a flood must not keep the node from its work.
            for _ in range(depth):
                try:
                    with subscription.handle:
                        found = subscription.handle.take_message(subscription.msg_type, False)
                except RCLError as error:
                    self._node.warn("middleware", f"{subscription.topic}: {error}")
                    break
                if found is None:
                    break
                message, info = found
                waited_s = 0.0
                # rmw_cyclonedds does not say when a message came.
                if (came_ns := info["received_timestamp"]) > 0:
                    # What waited longer would have been taken before: the system's clock was set.
                    waited_s = min(max(0.0, (time.time_ns() - came_ns) * 1e-9), most_s)
                callback(message, Delivery(waited_s, info["publication_sequence_number"]))
        self._taken_s = now_s

    def as_of(self, now_s: float) -> float:
        """Return as of when inputs can be judged, at most LOOK_S ago: what waits may be new."""
        return min(now_s, max(self._taken_s, now_s - LOOK_S))
