"""What is taken when it is needed: messages of a real publisher, which call nobody."""

import time
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.ros

WAIT_S = 10.0


class Unlooked:
    """A node whose timers never fire; `warnings` are what was warned of."""

    def __init__(self, node):
        self._node, self.warnings = node, []

    def __getattr__(self, name):
        return getattr(self._node, name)

    def create_timer(self, *_, **__):
        return SimpleNamespace(reset=lambda: None)

    def warn(self, *said):
        self.warnings.append(said)


class Received:
    """Takes what is said on a topic of a node; `texts` and `deliveries` hold what came."""

    def __init__(self, graph, topic="said", depth=10, others=None):
        from std_msgs.msg import String

        from tractor_inference.nodes.base.polled import Polled

        self._graph, self.texts, self.deliveries = graph, [], []
        self.others = others or Polled(Unlooked(graph.node))
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


def test_a_node_that_acts_on_nothing_takes_them_by_itself(ros_graph):
    from tractor_inference.nodes.base.polled import LOOK_S, Polled

    others = Polled(ros_graph.node)
    received = Received(ros_graph, others=others)
    received.say("one")
    ros_graph.until(lambda: received.texts == ["one"])
    now_s = time.monotonic()
    assert others.as_of(now_s + LOOK_S) == now_s  # nothing was looked at since
    ros_graph.until(lambda: others.as_of(now_s + LOOK_S) > now_s)
    # Where nothing looks any more, what has come may not keep the rover driving.
    assert others.as_of(now_s + 5.0) == pytest.approx(now_s + 5.0 - LOOK_S)


def test_one_who_sends_behind_another_does_not_hide_it(ros_graph):
    from std_msgs.msg import String

    received = Received(ros_graph, depth=5)
    stranger = ros_graph.node.create_publisher(String, "said", 10)
    ros_graph.until(lambda: stranger.get_subscription_count() > 0)
    received.say("ours")
    stranger.publish(String(data="theirs"))
    received.take_until("theirs")
    received.take_until("ours")


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


def test_where_the_middleware_says_nothing_of_it_a_message_came_when_it_is_taken(ros_graph):
    received = Received(ros_graph)
    [(subscription, *rest)] = received.others._subscriptions
    handle = subscription.handle

    class Silent:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def take_message(self, *args):
            found = handle.take_message(*args)
            return found and (found[0], found[1] | {"received_timestamp": 0})

    silent = SimpleNamespace(handle=Silent(), msg_type=subscription.msg_type, topic="said")
    received.others._subscriptions[:] = [(silent, *rest)]
    received.say("one")
    spin(ros_graph, 0.1)
    received.take_until("one")
    assert received.deliveries[0].waited_s == 0.0


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

    from std_msgs.msg import String

    node = Unlooked(ros_graph.node)
    others = Polled(node)
    node.create_subscription = lambda *_, **__: SimpleNamespace(handle=Broken(), topic="broken")
    others.subscribe(String, "broken", pytest.fail)
    del node.create_subscription
    received = Received(ros_graph, others=others)
    received.say("one")
    received.take_until("one")
    assert node.warnings[0] == ("middleware", "broken: failed to take message from subscription")


def test_is_silent_once_unsubscribed(ros_graph):
    received = Received(ros_graph)
    received.say("one")
    received.take_until("one")
    received.others.unsubscribe()
    received.say("two")
    received.others.take()
    assert received.texts == ["one"]
    assert not [s for s in ros_graph.node.subscriptions if s.topic_name == "/said"]


def inputs_of(graph, clock=None, as_of=lambda now_s: now_s):
    """Return the inputs of a node with this clock, and what it is warned of."""
    from tractor_inference.nodes.base.sensor_inputs import SensorInputs

    node = Unlooked(graph.node)
    if clock is not None:
        node.get_clock = lambda: clock
    inputs = SensorInputs(
        node, SimpleNamespace(use_tf=False), SimpleNamespace(as_of=as_of), required=("scan",)
    )
    inputs.open(max_age_s=0.3)
    return inputs, node.warnings


def scan_of(graph, age_s):
    from sensor_msgs.msg import LaserScan

    message = LaserScan()
    message.header.frame_id = "laser"
    stamp_ns = graph.node.get_clock().now().nanoseconds - round(age_s * 1e9)
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    return message


def as_it_is(message):
    return message


@pytest.mark.parametrize(("waited_s", "taken"), [(0.1, True), (0.0, False)])
def test_what_came_in_time_is_not_late_for_having_waited(ros_graph, waited_s, taken):
    inputs, warnings = inputs_of(ros_graph)
    found = inputs.receive("scan", as_it_is, scan_of(ros_graph, 0.35), waited_s=waited_s)
    assert (found is not None) is taken and bool(warnings) is not taken


def test_a_simulated_clock_says_only_what_it_is_now(ros_graph):
    """It may run at a tenth of a steady one, or ten times as fast."""
    now = ros_graph.node.get_clock().now()
    clock = SimpleNamespace(ros_time_is_active=True, now=lambda: now)
    inputs, warnings = inputs_of(ros_graph, clock)
    assert inputs.receive("scan", as_it_is, scan_of(ros_graph, 0.0), waited_s=0.2) is not None
    assert not warnings


def test_inputs_are_judged_as_of_the_last_look(ros_graph):
    """What waits to be taken may be new."""
    looked_s = time.monotonic() + 0.04
    inputs, _ = inputs_of(ros_graph, as_of=lambda now_s: looked_s)
    assert inputs.receive("scan", as_it_is, scan_of(ros_graph, 0.25), waited_s=0.0) is not None
    assert inputs.problem(looked_s + 0.03) is None
    looked_s += 0.3
    assert "scan" in inputs.problem(looked_s)
