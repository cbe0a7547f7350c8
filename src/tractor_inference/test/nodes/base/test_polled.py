"""What is taken when it is needed: messages of a real publisher, which call nobody."""

import time

import pytest

pytestmark = pytest.mark.ros

WAIT_S = 10.0


class Received:
    def __init__(self, graph, with_info=False):
        from std_msgs.msg import String

        from tractor_inference.nodes.base.polled import Polled

        self._graph, self.texts = graph, []
        self.others = Polled(graph.node)
        take = (lambda m, info: self.texts.append((m.data, info))) if with_info else self._take
        self.others.subscribe(String, "said", take, with_info)
        self._publisher = graph.node.create_publisher(String, "said", 100)
        graph.until(lambda: self._publisher.get_subscription_count() > 0)

    def _take(self, message):
        self.texts.append(message.data)

    def say(self, *texts):
        from std_msgs.msg import String

        for text in texts:
            self._publisher.publish(String(data=text))

    def take_until(self, last):
        end_s = time.monotonic() + WAIT_S
        while last not in self.texts:
            assert time.monotonic() < end_s, f"{last} never came, only {self.texts}"
            self.others.take()


def test_calls_back_when_asked_only_and_in_order(ros_graph):
    received = Received(ros_graph)
    received.say("one", "two", "three")
    end_s = time.monotonic() + 0.3
    ros_graph.until(lambda: time.monotonic() > end_s)
    assert not received.texts
    received.take_until("three")
    assert received.texts == ["one", "two", "three"]


def test_a_flood_leaves_the_newest_and_does_not_hold_the_node(ros_graph):
    from tractor_inference.nodes.base.polled import POLLED_QOS

    received = Received(ros_graph)
    received.say(*map(str, range(300)))
    received.take_until("299")
    assert len(received.texts) < 300
    assert received.texts[-POLLED_QOS.depth :] == [str(n) for n in range(290, 300)]


def test_gives_what_the_middleware_says_of_a_message(ros_graph):
    received = Received(ros_graph, with_info=True)
    received.say("one", "two")
    end_s = time.monotonic() + WAIT_S
    while len(received.texts) < 2 and time.monotonic() < end_s:
        received.others.take()
    numbers = [info["publication_sequence_number"] for _, info in received.texts]
    assert numbers[1] == numbers[0] + 1


def test_is_silent_once_unsubscribed(ros_graph):
    received = Received(ros_graph)
    received.say("one")
    received.take_until("one")
    received.others.unsubscribe()
    received.say("two")
    received.others.take()
    assert received.texts == ["one"]
    assert not [s for s in ros_graph.node.subscriptions if s.topic_name == "/said"]
