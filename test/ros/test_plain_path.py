"""Plain rclpy where the fast path of a message does not work: said with its reason, and no other byte comes."""

import sys
import threading
import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from helpers.blue_bundle import blue_bundle, blue_mask  # noqa: E402
from helpers.camera import Camera  # noqa: E402
from helpers.images import encode  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from std_msgs.msg import UInt8MultiArray  # noqa: E402

from seg_node.ros.messages import read_mono8  # noqa: E402
from seg_node.ros.transfer import path, rclpy_gaps, serialized_transfer  # noqa: E402

pytestmark = pytest.mark.ros

TAKE = rclpy_gaps.take_message


class Heard:
    """Stands for a node's logger."""

    def __init__(self):
        self.warnings = []

    def warning(self, text):
        self.warnings.append(text)


@pytest.fixture
def node(ros, monkeypatch):
    monkeypatch.delenv(path.FORCED_BY, raising=False)
    path.forget()
    node = rclpy.create_node(f"path_{time.monotonic_ns()}")
    yield node
    node.destroy_node()
    path.forget()


@pytest.fixture
def heard(node, monkeypatch):
    heard = Heard()
    monkeypatch.setattr(node, "get_logger", lambda: heard)
    return heard


def _no_symbol(monkeypatch):
    class Library:
        def __getattr__(self, name):
            raise AttributeError(f"undefined symbol: {name}")

    monkeypatch.setattr(rclpy_gaps, "_rcutils", Library())


def _no_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "seg_node.ros.transfer.rclpy_gaps", None)


def _another_layout(monkeypatch):
    class Message(rclpy_gaps.SerializedMessage):
        _fields_ = [("more", rclpy_gaps.ctypes.c_size_t)]

    def message_of(address=0, size=0):
        message = Message(address, size, size, rclpy_gaps._ALLOCATOR)
        message.capacity = 7
        return message

    def initialise(*_):
        return 0

    monkeypatch.setattr(rclpy_gaps, "message_of", message_of)
    monkeypatch.setattr(rclpy_gaps._rcutils, "rcutils_uint8_array_init", initialise, raising=False)
    monkeypatch.setattr(rclpy_gaps._rcutils, "rcutils_uint8_array_resize", initialise, raising=False)


def _changed_message(monkeypatch):
    def take(subscription, message):
        published = TAKE(subscription, message)
        if published is not None:
            rclpy_gaps.ctypes.memset(message.buffer + message.length - 5, 1, 1)
            rclpy_gaps.ctypes.memset(message.buffer + message.length - 6, 2, 1)
        return published

    monkeypatch.setattr(serialized_transfer, "take_message", take)


def _no_message(monkeypatch):
    monkeypatch.setattr(serialized_transfer, "take_message", lambda *_: None)
    monkeypatch.setattr(path, "_TRIAL_S", 0.3)


def _no_handles(monkeypatch):
    def publish(publisher, message):
        raise AttributeError("'Publisher' object has no attribute 'handle'")

    monkeypatch.setattr(serialized_transfer, "publish_message", publish)


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [
        (_no_symbol, "undefined symbol: rcutils_uint8_array_init"),
        (_no_module, "rclpy_gaps"),
        (_another_layout, "laid out otherwise"),
        (_changed_message, "came back changed"),
        (_no_message, "did not come back within 0.3 s"),
        (_no_handles, "has no attribute 'handle'"),
    ],
)
def test_what_does_not_work_is_replaced_and_said_once(node, heard, monkeypatch, breaks, reason):
    breaks(monkeypatch)
    assert reason in path.choose(node)
    assert path.choose(node) == path.choose(node)
    assert len(heard.warnings) == 1 and reason in heard.warnings[0] and "docs/performance.md" in heard.warnings[0]
    _bytes_come_as_they_are(node)


def test_the_fast_path_is_taken_where_it_works(node, heard):
    assert path.choose(node) == "" and not heard.warnings
    _bytes_come_as_they_are(node)


def test_it_can_be_forced(node, heard, monkeypatch):
    for value in ("", "0"):
        monkeypatch.setenv(path.FORCED_BY, value)
        path.forget()
        assert path.choose(node) == ""
    monkeypatch.setenv(path.FORCED_BY, "1")
    path.forget()
    assert path.choose(node) == "SEG_NODE_PLAIN_RCLPY is set"
    _bytes_come_as_they_are(node)


def _bytes_come_as_they_are(node):
    """Of a node without an executor, like the monitor's; what a callback raises costs its message only."""
    topic, came, all_came = f"path_{time.monotonic_ns()}", [], threading.Event()

    def keep(data, published):
        data[:1] = data[:1]
        came.append((bytes(data), published))
        if len(came) == 1:
            raise RuntimeError("as ordered")
        if len(came) == len(sent):
            all_came.set()

    rng = np.random.default_rng(3)
    sent = [serialize_message(UInt8MultiArray(data=rng.bytes(size))) for size in (0, 1, 300_000, 17)]
    publisher = node.create_publisher(UInt8MultiArray, topic, QoSProfile(depth=5))
    receiver = path.receive(node, UInt8MultiArray, topic, keep, QoSProfile(depth=5))
    node.get_logger().error = lambda *_, **__: None
    try:
        assert receiver.topic == f"/{topic}"
        for ready in (lambda: receiver.publishers, publisher.get_subscription_count):
            while not ready():
                time.sleep(0.005)
        for message in sent:
            path.publish_serialized(publisher, np.frombuffer(message, np.uint8))
        assert all_came.wait(30)
    finally:
        receiver.stop()
    assert [data for data, _ in came] == sent
    assert all(abs(published - time.time_ns()) < 60e9 for _, published in came)
    path.publish_serialized(publisher, np.frombuffer(sent[0], np.uint8))
    assert len(came) == len(sent)


def test_a_node_on_plain_rclpy_masks_as_ever(node_process, tmp_path):
    blue_bundle(tmp_path)
    parameters = {"model": str(tmp_path / "blue"), "engine": "onnxruntime", "warm_up_size": [48, 64]}
    process = node_process(parameters, environment={path.FORCED_BY: "1"})
    camera = Camera(reliable=True).connect()
    try:
        rng = np.random.default_rng(5)
        for _ in range(5):
            picture = rng.integers(0, 256, (48, 64, 3), np.uint8)
            record, mask = camera.segment(encode(picture, "bgr8"))
            assert np.array_equal(read_mono8(mask), blue_mask(picture))
            assert mask.header == record.header
        camera.wait(lambda: camera.diagnostics[-1].get("masked") == "5", "all are counted")
        assert camera.diagnostics[-1]["transfer"] == "plain rclpy: SEG_NODE_PLAIN_RCLPY is set"
        assert camera.diagnostics[-1]["received"] == "5"
        assert camera.change_state(Transition.TRANSITION_DEACTIVATE)
        assert not camera.change_state(Transition.TRANSITION_DEACTIVATE)
        camera.wait(lambda: camera.diagnostics[-1][""].message.startswith("inactive"), "the state is followed")
    finally:
        camera.close()
    assert "messages go by plain rclpy: SEG_NODE_PLAIN_RCLPY is set" in process.last_output(100)
