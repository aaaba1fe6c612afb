"""Serialised messages taken and published by rcl's own functions."""

import gc
import os
import select
import time
from pathlib import Path

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from rclpy.qos import QoSProfile  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

from seg_node.ros.transfer.rclpy_gaps import announce_messages  # noqa: E402
from seg_node.ros.transfer.serialized_transfer import SerializedTaker, publish_serialized  # noqa: E402

pytestmark = pytest.mark.ros


@pytest.fixture
def node(ros):
    node = rclpy.create_node(f"transfer_{time.monotonic_ns()}")
    yield node
    node.destroy_node()


@pytest.fixture
def ends(node):
    """A publisher, and a subscription that no executor serves."""
    topic = f"transfer_{time.monotonic_ns()}"
    publisher = node.create_publisher(Image, topic, QoSProfile(depth=10))
    subscription = node.create_subscription(Image, topic, lambda data: None, QoSProfile(depth=10), raw=True)
    deadline = time.monotonic() + 90
    while not publisher.get_subscription_count():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return publisher, subscription


@pytest.fixture
def taker(ends):
    return SerializedTaker(ends[1])


def _take(taker):
    deadline = time.monotonic() + 90
    while (taken := taker.take()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return taken


def test_what_was_published_is_taken(ends, taker):
    publisher, _ = ends
    assert taker.take() is None
    message = serialize_message(Image(height=2, width=3, data=bytes(range(6))))
    before = time.time_ns()
    publish_serialized(publisher, np.frombuffer(message, np.uint8))
    data, published = _take(taker)
    assert data.tobytes() == message
    assert before <= published <= time.time_ns()
    assert data.flags.writeable, "OpenVINO copies what it might not write to"
    assert taker.take() is None


@pytest.mark.parametrize("message", [b"", b"\0", b"\0\1\0\0", b"no message at all"])
def test_bytes_that_are_no_message_come_as_they_are(ends, taker, message):
    publisher, _ = ends
    publish_serialized(publisher, np.frombuffer(message, np.uint8))
    assert _take(taker)[0].tobytes() == message


def test_the_memory_is_the_array_s_own_and_freed_with_it(node, ends, taker):
    publisher, subscription = ends
    sent = np.arange(2**22, dtype=np.uint32).view(np.uint8)
    publish_serialized(publisher, sent)
    rest = _take(taker)[0][2**20 :]
    grown = -_resident()
    for _ in range(30):
        publish_serialized(publisher, sent)
        _take(taker)
    grown += _resident()
    assert grown < 10 * sent.size, "of 30 messages"
    node.destroy_subscription(subscription)
    gc.collect()
    assert np.array_equal(rest, sent[2**20 :])


def test_memory_is_used_again_once_nobody_refers_to_it(ends, taker):
    publisher, _ = ends

    def take(number: int) -> np.ndarray:
        publish_serialized(publisher, np.full(2**16, number, np.uint8))
        return _take(taker)[0]

    held = [take(number) for number in range(10)]
    assert len({array.ctypes.data for array in held}) == 10
    assert all((array == number).all() for number, array in enumerate(held))
    freed = {array.ctypes.data for array in held}
    held.clear()
    assert {take(number).ctypes.data for number in range(10)} <= freed


def test_messages_are_announced_until_they_are_no_longer(ends, taker):
    publisher, subscription = ends
    message = np.zeros(64, np.uint8)
    news = os.eventfd(0, os.EFD_NONBLOCK)
    announce_messages(subscription, news)
    publish_serialized(publisher, message)
    assert select.select([news], [], [], 20)[0]
    assert os.eventfd_read(news) == 1
    announce_messages(subscription, None)
    publish_serialized(publisher, message)
    for _ in range(2):
        _take(taker)
    assert not select.select([news], [], [], 0.1)[0]
    os.close(news)


def _resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_failure_says_what_rcl_says(node, ends):
    class Nothing:
        """What rclpy would hand out for a publisher or a subscription that does not exist."""

        pointer = None
        __enter__ = __exit__ = lambda *_: None

        @property
        def handle(self):
            return self

    with pytest.raises(RuntimeError, match="cannot take a message: rcl says 400: .*subscription"):
        SerializedTaker(Nothing()).take()
    with pytest.raises(RuntimeError, match="cannot publish: rcl says 300: .*publisher"):
        publish_serialized(Nothing(), np.zeros(4, np.uint8))
