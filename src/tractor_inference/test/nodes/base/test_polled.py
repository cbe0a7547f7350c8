"""What is taken when it is needed: messages of a real publisher, which call nobody."""

import time
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.ros

WAIT_S = 10.0


class Received:
    """Takes what is said on a topic of a node; `texts` and `deliveries` hold what came."""

    def __init__(self, graph, topic="said", depth=10, others=None):
        from std_msgs.msg import String

        from tractor_inference.nodes.base.polled import Polled

        self._graph, self.texts, self.deliveries = graph, [], []
        self.others = others or Polled(graph.node)
        self.others.subscribe(String, topic, self._take, depth)
        self._publisher = graph.node.create_publisher(String, topic, 1000)
        graph.until(lambda: self._publisher.get_subscription_count() > 0)

    def _take(self, message, delivery):
        self.texts.append(message.data)
        self.deliveries.append(delivery)

    def say(self, *texts):
        from std_msgs.msg import String

        for text in texts:
            self._publisher.publish(String(data=text))

    def take_until(self, last):
        end_s = time.monotonic() + WAIT_S
        while last not in self.texts:
            assert time.monotonic() < end_s, f"{last} never came, only {self.texts}"
            self.others.take()


def spin(graph, seconds):
    end_s = time.monotonic() + seconds
    graph.until(lambda: time.monotonic() > end_s)


def test_calls_back_when_asked_only_and_in_order(ros_graph):
    received = Received(ros_graph)
    received.say("one", "two", "three")
    spin(ros_graph, 0.3)
    assert not received.texts
    received.take_until("three")
    assert received.texts == ["one", "two", "three"]


@pytest.mark.parametrize("depth", [1, 10])
def test_a_flood_leaves_the_newest_and_does_not_hold_the_node(ros_graph, depth):
    received = Received(ros_graph, depth=depth)
    received.say(*map(str, range(300)))
    spin(ros_graph, 0.3)
    received.take_until("299")
    assert len(received.texts) < 300
    assert received.texts[-depth:] == [str(n) for n in range(300 - depth, 300)]


def test_gives_the_publishers_number_of_a_message(ros_graph):
    received = Received(ros_graph)
    received.say("one", "two")
    received.take_until("two")
    numbers = [delivery.number for delivery in received.deliveries]
    assert numbers[1] == numbers[0] + 1


def test_says_how_long_a_message_waited(ros_graph):
    received = Received(ros_graph)
    received.others.take()
    received.say("one")
    spin(ros_graph, 0.3)
    received.take_until("one")
    assert 0.2 < received.deliveries[0].waited_s < 0.3 + WAIT_S


@pytest.mark.parametrize("set_s", [-3600.0, 3600.0])
def test_a_clock_that_was_set_makes_no_message_wait_longer_than_since_the_last_look(
    ros_graph, monkeypatch, set_s
):
    from tractor_inference.nodes.base import polled

    received = Received(ros_graph)
    now_ns = time.time_ns
    received.others.take()
    began_s = time.monotonic()
    monkeypatch.setattr(polled.time, "time_ns", lambda: now_ns() + round(set_s * 1e9))
    received.say("one")
    received.take_until("one")
    assert 0.0 <= received.deliveries[0].waited_s <= time.monotonic() - began_s


def test_a_topic_that_the_middleware_cannot_give_is_named_and_holds_up_no_other(ros_graph):
    from rclpy._rclpy_pybind11 import RCLError

    from tractor_inference.nodes.base.polled import Polled

    class Broken:
        def __enter__(self):
            raise RCLError("failed to take message from subscription")

        def __exit__(self, *_):
            pass

    warnings = []

    def create_subscription(*args, **kwargs):
        subscription = ros_graph.node.create_subscription(*args, **kwargs)
        if args[1] == "said":
            return subscription
        return SimpleNamespace(handle=Broken(), topic=args[1])

    from std_msgs.msg import String

    others = Polled(
        SimpleNamespace(
            warn=lambda *said: warnings.append(said), create_subscription=create_subscription
        )
    )
    others.subscribe(String, "broken", pytest.fail)
    received = Received(ros_graph, others=others)
    received.say("one")
    received.take_until("one")
    assert warnings[0] == ("middleware", "broken: failed to take message from subscription")


def test_is_silent_once_unsubscribed(ros_graph):
    received = Received(ros_graph)
    received.say("one")
    received.take_until("one")
    received.others.unsubscribe()
    received.say("two")
    received.others.take()
    assert received.texts == ["one"]
    assert not [s for s in ros_graph.node.subscriptions if s.topic_name == "/said"]


@pytest.mark.parametrize(("waited_s", "taken"), [(0.1, True), (0.0, False)])
def test_what_came_in_time_is_not_late_for_having_waited(ros_graph, waited_s, taken):
    from sensor_msgs.msg import LaserScan

    from tractor_inference.nodes.base.sensor_inputs import SensorInputs

    warnings = []
    node = SimpleNamespace(
        get_clock=ros_graph.node.get_clock, warn=lambda *said: warnings.append(said)
    )
    inputs = SensorInputs(node, SimpleNamespace(use_tf=False), required=("scan",))
    inputs.open(max_age_s=0.3)
    stamp_ns = ros_graph.node.get_clock().now().nanoseconds - 350_000_000
    message = LaserScan()
    message.header.frame_id = "laser"
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    found = inputs.receive("scan", lambda message: message, message, waited_s=waited_s)
    assert (found is not None) is taken and bool(warnings) is not taken
