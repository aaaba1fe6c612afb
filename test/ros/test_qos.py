"""Quality of service of the node's topics: who gets masks, who gets none and why, and masks as PNG."""

import threading
import time

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from builtin_interfaces.msg import Time  # noqa: E402
from helpers.camera import Camera  # noqa: E402
from helpers.images import encode  # noqa: E402
from helpers.paths import ROOT  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.duration import Duration  # noqa: E402
from rclpy.lifecycle import LifecycleNode  # noqa: E402
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from std_msgs.msg import Header, String  # noqa: E402

from seg_node.core.errors import UserError  # noqa: E402
from seg_node.ros import compressed_masks, qos_watch  # noqa: E402
from seg_node.ros.cameras.names import CameraName  # noqa: E402
from seg_node.ros.cameras.stream import CAMERA_QOS  # noqa: E402
from seg_node.ros.outputs import MASK_QOS, TIMING_QOS, Outputs  # noqa: E402
from seg_node.ros.parameters import declare_parameters  # noqa: E402
from seg_node.ros.qos_watch import QosWatch  # noqa: E402
from seg_node.ros.transfer.receiver import Receiver  # noqa: E402
from seg_node.ros.transfer.serialized_image import SerializedImage  # noqa: E402

pytestmark = pytest.mark.ros

SIZE = (96, 128)


def deadline(milliseconds: float, **options) -> QoSProfile:
    """Reliable, with a deadline."""
    return QoSProfile(depth=10, deadline=Duration(nanoseconds=round(1e6 * milliseconds)), **options)


@pytest.fixture
def picture():
    """A frame with more than one category in it, uint8 [H, W, 3]."""
    frame = np.full((*SIZE, 3), (235, 190, 150), np.uint8)
    cv2.fillPoly(frame, [np.array([(0, 95), (54, 48), (74, 48), (127, 95)])], (90, 90, 90))
    cv2.rectangle(frame, (0, 16), (36, 64), (60, 80, 140), -1)
    return frame


@pytest.fixture
def camera(ros):
    """A camera beside the node, closed after the test."""
    made = []

    def make(*args, **options):
        made.append(Camera(*args, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def parameters(**changes):
    return {"model": "fpn_resnet50", "engine": "onnxruntime", "warm_up_size": list(SIZE)} | changes


def test_deadlines_overrides_and_png_masks_of_a_running_node(ros, node_process, camera, picture):
    """In one node, for it is the start that takes time."""
    overrides = {
        "qos_overrides./segmentation/confidence.publisher.reliability": "best_effort",
        "qos_overrides./segmentation/confidence.publisher.lifespan": 500_000_000,
        "qos_overrides./segmentation/timing.publisher.liveliness": "manual_by_topic",
        "qos_overrides./segmentation/timing.publisher.liveliness_lease_duration": 60_000_000_000,
        "qos_overrides./segmentation/timing.publisher.depth": 1000,
        "qos_overrides./segmentation/mask_now.publisher.deadline": 200_000_000,
        "qos_overrides./segmentation/timing_now.publisher.deadline": 250_000_000,
    }
    node_process(parameters(mask_deadline_ms=300.0, camera_timeout_ms=0.0, **overrides))
    source = camera()
    source.connect()
    fitting, compressed = [], []
    source.node.create_subscription(Image, "/segmentation/mask", fitting.append, deadline(300.0))
    strict = ros.create_node("strict_supervisor", namespace="/watch")
    strict.create_subscription(Image, "/segmentation/mask", lambda message: None, deadline(100.0))
    try:
        source.wait(lambda: "strict_supervisor" in source.diagnostics[-1][""].message, "the conflict is reported")
        status = source.diagnostics[-1][""]
        assert status.level == b"\1"
        assert (
            "/segmentation/mask: /watch/strict_supervisor gets no messages: subscription deadline is less than"
            " publisher deadline (100 ms asked for, 300 ms offered); see qos_overrides and mask_deadline_ms"
        ) in status.message
    finally:
        strict.destroy_node()
    source.wait(lambda: "strict_supervisor" not in source.diagnostics[-1][""].message, "the conflict has gone")

    def masked():
        source.segment(encode(picture, "bgr8"))
        return fitting

    source.wait(masked, "a mask within the deadline that is offered")

    # What is compressed is what came uncompressed, and nothing is while nobody listens.
    assert source.node.count_publishers("/segmentation/mask/compressed") == 1
    source.node.create_subscription(CompressedImage, "/segmentation/mask/compressed", compressed.append, 10)
    source.wait(lambda: source.segment(encode(picture, "bgr8")) and compressed, "a compressed mask")
    message = compressed[0]
    mask = source.masks[(message.header.stamp.sec, message.header.stamp.nanosec)]
    pixels = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (message.format, message.header) == ("mono8; png compressed ", mask.header)
    assert bytes(message.data[:8]) == b"\x89PNG\r\n\x1a\n"
    assert (pixels.dtype, pixels.shape) == (np.uint8, SIZE)
    assert np.array_equal(pixels, np.frombuffer(mask.data, np.uint8).reshape(SIZE))
    assert len(np.unique(pixels)) > 1, "a mask of one value proves nothing"

    # No frame comes any more.
    source.wait(lambda: "deadline of 300 ms missed" in source.diagnostics[-1][""].message, "a missed deadline")
    assert source.diagnostics[-1][""].level == b"\1"
    assert int(source.diagnostics[-1]["missed_deadlines.mask"]) > 0
    assert source.diagnostics[-1]["lost_liveliness.timing"] == "0"

    offered = {
        topic: source.node.get_publishers_info_by_topic(f"/segmentation/{topic}")[0].qos_profile
        for topic in ("mask", "confidence", "timing", "mask_now", "timing_now", "mask/compressed")
    }
    assert offered["mask"].deadline.nanoseconds == 300_000_000
    assert offered["mask_now"].deadline.nanoseconds == 200_000_000
    assert offered["timing_now"].deadline.nanoseconds == 250_000_000
    assert offered["confidence"].lifespan.nanoseconds == 500_000_000
    assert offered["timing"].liveliness == LivelinessPolicy.MANUAL_BY_TOPIC
    assert offered["timing"].liveliness_lease_duration.nanoseconds == 60_000_000_000
    reliable = {topic for topic, qos in offered.items() if qos.reliability == ReliabilityPolicy.RELIABLE}
    assert reliable == offered.keys() - {"confidence"}, "an override is one topic's alone"


def test_a_node_whose_overrides_cannot_be_says_so(node_process, camera):
    node = node_process(parameters(**{"qos_overrides./segmentation/mask_now.publisher.depth": 0}), state=None)
    source = camera()
    source.wait(lambda: source.diagnostics and source.diagnostics[-1][""].level == b"\2", "an error", timeout=180)
    reason = "cannot configure: the quality of service of /segmentation/mask_now: depth is 0; expected at least 1"
    assert reason in source.diagnostics[-1][""].message
    assert reason in node.last_output(50)
    assert source.state() == "unconfigured"
    assert source.node.count_publishers("/segmentation/mask_now") == 0


class Watched:
    """A node of this process with a watch, and subscribers beside it."""

    def __init__(self, ros, **overrides):
        arguments = [
            word
            for name, value in overrides.items()
            for word in ("-p", f"qos_overrides./topic.publisher.{name}:={value}")
        ]
        self.node = LifecycleNode("offering", cli_args=["--ros-args", *arguments], start_parameter_services=False)
        self.watch = QosWatch(self.node)
        self.other = ros.create_node("asking", start_parameter_services=False)

    def offer(self, qos=MASK_QOS):
        return self.watch.offer(String, "/topic", qos)

    def wait(self, condition):
        """What ``look`` gives once the condition holds of it."""
        until = time.monotonic() + 30
        while not condition(found := self.watch.look()):
            assert time.monotonic() < until, found
            rclpy.spin_once(self.node, timeout_sec=0.02)
        return found


@pytest.fixture
def watched(ros):
    """Make ``Watched``; destroyed after the test."""
    made = []

    def make(**overrides):
        made.append(Watched(ros, **overrides))
        return made[-1]

    yield make
    for one in made:
        one.watch.withdraw()
        one.node.destroy_node()
        one.other.destroy_node()


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (deadline(250.0), "subscription has a deadline, but publisher does not (250 ms asked for, none offered)"),
        (
            QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
            "volatile publisher and transient local subscription",
        ),
        (
            QoSProfile(depth=1, liveliness_lease_duration=Duration(seconds=2)),
            "subscription has a liveliness lease duration, but publisher does not (2000 ms asked for, none offered)",
        ),
    ],
)
def test_who_gets_nothing_is_named_until_he_has_gone(watched, asked, reason):
    one = watched()
    one.offer()
    subscription = one.other.create_subscription(String, "/topic", print, asked)
    _, (warning,) = one.wait(lambda found: found[1])
    assert warning == f"/topic: /asking gets no messages: {reason}; see qos_overrides and mask_deadline_ms"
    one.other.destroy_subscription(subscription)
    one.wait(lambda found: not found[1])


def test_of_many_who_get_nothing_some_are_named(watched):
    one = watched(reliability="best_effort")
    one.offer()
    for milliseconds in range(5):
        one.other.create_subscription(String, "/topic", print, deadline(100.0 + milliseconds))
    _, warnings = one.wait(lambda found: found[1] and found[1][-1] == "and 2 more")
    assert len(warnings) == 4


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"depth": 0}, "depth is 0; expected at least 1"),
        ({"depth": -1}, "depth is -1; expected at least 1"),
        ({"depth": 3_000_000_000}, "depth is 3000000000; expected"),
        ({"depth": "many"}, "'many' of type 'STRING', expecting type 'INTEGER'"),
        ({"deadline": -1}, "deadline is -1; expected nanoseconds"),
        ({"lifespan": -7}, "lifespan is -7; expected nanoseconds"),
        ({"deadline": 0.3}, "'0.3' of type 'DOUBLE', expecting type 'INTEGER'"),
        ({"reliability": "sometimes"}, "`reliability`: `sometimes`"),
        ({"reliability": "unknown"}, "reliability is unknown; expected one of reliable, best_effort"),
        ({"liveliness": "unknown"}, "liveliness is unknown; expected one of"),
    ],
)
def test_overrides_that_cannot_be_are_refused_by_name(watched, overrides, reason):
    one = watched(**overrides)
    with pytest.raises(UserError, match="quality of service of /topic: ") as refused:
        one.offer()
    assert reason in str(refused.value)
    one.watch.withdraw()
    assert "/topic" not in {publisher.topic_name for publisher in one.node.publishers}


def test_missed_deadlines_and_leases_are_counted(watched):
    one = watched(deadline=20_000_000, liveliness="manual_by_topic", liveliness_lease_duration=30_000_000)
    publisher = one.offer()
    values, warnings = one.watch.look()
    assert values == {"missed_deadlines.topic": "0", "lost_liveliness.topic": "0"}
    assert not warnings
    publisher.publish(String())
    told = []

    def counted(found):
        told.extend(found[1])
        return all(int(count) > 0 for count in found[0].values())

    values, _ = one.wait(counted)
    assert any("/topic: deadline of 20 ms missed, " in text for text in told)
    assert any("/topic: no sign of life within the lease of 30 ms, " in text for text in told)
    one.watch.withdraw(publisher)
    assert one.watch.look() == ({}, [])


def test_a_middleware_without_such_events_is_no_hindrance(watched, monkeypatch):
    def unsupported(**_):
        raise qos_watch.UnsupportedEventTypeError("not by this one")

    monkeypatch.setattr(qos_watch, "EventHandler", unsupported)
    one = watched(deadline=20_000_000)
    publisher = one.offer()
    heard = []
    one.other.create_subscription(String, "/topic", heard.append, deadline(20.0))
    until = time.monotonic() + 30
    while not heard and time.monotonic() < until:
        publisher.publish(String(data="x"))
        rclpy.spin_once(one.other, timeout_sec=0.1)
    assert heard
    assert one.watch.look()[0] == {"missed_deadlines.topic": "not known"}


def test_nothing_is_promised_unasked(watched):
    one = watched()
    one.offer()
    assert one.watch.look() == ({}, [])


class Listener:
    """In the place of a publisher: how many subscribe, and what they got."""

    topic_name = "/mask/compressed"

    def __init__(self, subscribers: int):
        self.subscribers = subscribers
        self.got: list[tuple[int, np.ndarray]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def get_subscription_count(self) -> int:
        return self.subscribers

    def take(self, publisher, data: np.ndarray) -> None:
        self.begun.set()
        assert self.go_on.wait(60)
        message = SerializedImage(data)
        self.got.append((message.stamp, cv2.imdecode(np.asarray(message.encoded().data), cv2.IMREAD_UNCHANGED)))


def header_of(stamp: int) -> bytes:
    """A serialised header."""
    return serialize_message(Header(stamp=Time(nanosec=stamp), frame_id="camera"))


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (719, 1279)])
def test_any_mask_comes_back_from_png_and_the_newest_waits(monkeypatch, size):
    random = np.random.default_rng(3)
    masks = [random.integers(0, 256, size, np.uint8), *(np.full(size, value, np.uint8) for value in (1, 2, 255))]
    listener = Listener(1)
    monkeypatch.setattr(compressed_masks, "publish_serialized", listener.take)
    compressed = compressed_masks.CompressedMasks(None, listener)
    compressed.offer(header_of(0), masks[0])
    assert listener.begun.wait(60)
    for number in (1, 2, 3):
        compressed.offer(header_of(number), masks[number])
    listener.go_on.set()
    compressed.stop()
    assert [stamp for stamp, _ in listener.got] == [0, 3], "each that waits gives way to a newer one"
    for stamp, pixels in listener.got:
        assert (pixels.dtype, pixels.shape) == (np.uint8, size)
        assert np.array_equal(pixels, masks[stamp])


def test_nothing_is_compressed_for_nobody(monkeypatch):
    listener = Listener(0)
    monkeypatch.setattr(compressed_masks, "_png", lambda mask: pytest.fail("nobody listens"))
    monkeypatch.setattr(compressed_masks, "publish_serialized", listener.take)
    compressed = compressed_masks.CompressedMasks(None, listener)
    compressed.offer(header_of(0), np.zeros((2, 3), np.uint8))
    compressed.stop()
    assert not listener.begun.is_set()


def test_a_mask_that_cannot_be_published_is_not_the_last(ros, monkeypatch):
    tried = []

    def refuse_once(publisher, data):
        tried.append(data)
        if len(tried) == 1:
            raise RuntimeError("the middleware does not take it")

    monkeypatch.setattr(compressed_masks, "publish_serialized", refuse_once)
    node = ros.create_node("compressing", start_parameter_services=False)
    compressed = compressed_masks.CompressedMasks(node, Listener(1))
    until = time.monotonic() + 30
    while len(tried) < 2 and time.monotonic() < until:
        compressed.offer(header_of(0), np.zeros((2, 3), np.uint8))
        time.sleep(0.01)
    compressed.stop()
    node.destroy_node()
    assert len(tried) >= 2


def test_the_example_of_the_documents_holds(ros, tmp_path):
    section = (ROOT / "docs" / "node.md").read_text().split("## Quality of service\n", 1)[1].split("\n## ", 1)[0]
    file = tmp_path / "params.yaml"
    file.write_text(section.split("```yaml\n", 1)[1].split("```", 1)[0])
    arguments = ["--ros-args", "--params-file", str(file)]
    # A context of its own, for a lifecycle node stays in the graph until its context has gone.
    context = Context()
    ros.init(args=[], context=context)
    node = LifecycleNode("segmentation", context=context, cli_args=arguments, start_parameter_services=False)
    try:
        declare_parameters(node)
        watch = QosWatch(node)
        outputs = Outputs(CameraName(node), watch)
        now = watch.offer(Image, "~/mask_now", MASK_QOS)
        receiver = Receiver(node, Image, "/front/image_raw", print, CAMERA_QOS)
        receiver.stop()
        offered = {publisher.topic_name.rpartition("/")[2]: publisher.qos_profile for publisher in node.publishers}
        assert offered["mask"].deadline.nanoseconds == 300_000_000
        assert now.qos_profile.deadline.nanoseconds == 100_000_000
        assert now.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
        assert offered["timing"].liveliness == LivelinessPolicy.MANUAL_BY_TOPIC
        assert offered["timing"].liveliness_lease_duration.nanoseconds == 10**9
        assert receiver.qos.reliability == ReliabilityPolicy.RELIABLE
        # And the table above it.
        table = {
            row.split("|")[1].strip(): row.split("|")[2:4] for row in section.splitlines() if row.startswith("| `")
        }
        for row, (reliability, depth) in table.items():
            profile = CAMERA_QOS if "subscribed" in row else TIMING_QOS if "timing" in row else MASK_QOS
            assert profile.reliability.name.lower().replace("_", " ") == reliability.strip()
            assert profile.depth == int(depth)
        outputs.destroy()
        watch.withdraw()
    finally:
        node.destroy_node()
        context.shutdown()
