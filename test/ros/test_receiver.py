"""The receiving thread by itself: nothing that a message or an event does may end it."""

import threading
import time

import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from seg_node.ros.transfer.receiver import Receiver  # noqa: E402

pytestmark = pytest.mark.ros

RELIABLE, BEST_EFFORT = (
    QoSProfile(depth=5, reliability=r) for r in (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT)
)


@pytest.fixture
def node(ros):
    node = rclpy.create_node(f"receiver_{time.monotonic_ns()}")
    yield node
    node.destroy_node()


def _wait(condition):
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_callback_that_raises_costs_its_message_only(node):
    seen = []

    def callback(data, published):
        seen.append(data)
        if len(seen) == 1:
            raise RuntimeError("as ordered")

    publisher = node.create_publisher(String, "receiver_topic", RELIABLE)
    receiver = Receiver(node, String, "receiver_topic", callback, RELIABLE)
    _wait(publisher.get_subscription_count)
    for text in ("first", "second"):
        publisher.publish(String(data=text))
    _wait(lambda: len(seen) == 2)
    assert b"second" in seen[1].tobytes()
    receiver.stop()
    publisher.publish(String(data="third"))
    time.sleep(0.1)
    assert len(seen) == 2


def test_an_event_whose_callback_raises_does_not_end_the_thread(node, monkeypatch):
    """A publisher whose QoS do not fit makes an event; messages of one that fits still come."""
    from rclpy.event_handler import SubscriptionEventCallbacks

    raised, seen = threading.Event(), threading.Event()

    def fail(*_):
        raised.set()
        raise RuntimeError("as ordered")

    create = SubscriptionEventCallbacks.create_event_handlers

    def create_failing(*arguments, **keywords):
        handlers = create(*arguments, **keywords)
        for handler in handlers:
            handler.callback = fail
        return handlers

    monkeypatch.setattr(SubscriptionEventCallbacks, "create_event_handlers", create_failing)
    receiver = Receiver(node, String, "receiver_events", lambda data, published: seen.set(), RELIABLE)
    node.create_publisher(String, "receiver_events", BEST_EFFORT)
    _wait(raised.is_set)
    publisher = node.create_publisher(String, "receiver_events", RELIABLE)
    _wait(publisher.get_subscription_count)
    publisher.publish(String(data="still here"))
    _wait(seen.is_set)
    receiver.stop()


def test_messages_gather_where_that_is_asked_for_and_none_is_lost(node):
    """What came while it rested is handed over at once, in order: fewer bursts than messages."""
    came, bursts = [], []
    deep = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)

    def gathering():
        bursts.append(len(came))
        return 0.04

    publisher = node.create_publisher(String, "gathered", deep)
    receiver = Receiver(node, String, "gathered", lambda data, _: came.append(data.tobytes()), deep, gathering)
    _wait(publisher.get_subscription_count)
    for number in range(40):
        publisher.publish(String(data=f"number {number:02}"))
        time.sleep(0.01)
    _wait(lambda: len(came) == 40)
    receiver.stop()
    assert [b"number %02d" % number in data for number, data in enumerate(came)] == [True] * 40
    assert len(set(bursts)) < 30
