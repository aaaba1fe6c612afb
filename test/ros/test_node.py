"""The real node as a process, over real DDS."""

import os
import platform
import re
import subprocess
import sys
import time
from collections import Counter

import cv2
import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from helpers.camera import Camera  # noqa: E402
from helpers.images import encode  # noqa: E402
from helpers.paths import DRIVE  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from rcl_interfaces.srv import DescribeParameters, GetParameters  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402

from seg_node.bags.drive import open_drive  # noqa: E402
from seg_node.core.bundle import load_bundle  # noqa: E402
from seg_node.core.engines import create_engine  # noqa: E402
from seg_node.core.images import ENCODINGS, to_bgr  # noqa: E402
from seg_node.core.taxonomy import CATEGORY_NAMES  # noqa: E402
from seg_node.core.timing import Outcome, Stage  # noqa: E402
from seg_node.ros.parameters import PARAMETERS  # noqa: E402

pytestmark = pytest.mark.ros

ENGINE = "onnxruntime"
SIZE = (96, 128)
COUNTS = ("received", "masked", "pending", "late")


@pytest.fixture
def camera(ros):
    """Make cameras that are closed after the test."""
    cameras = []

    def make(*args, **options):
        cameras.append(Camera(*args, **options))
        return cameras[-1]

    yield make
    for one in cameras:
        one.close()


@pytest.fixture(scope="module")
def picture():
    """A frame of the shipped drive, small, so that many fit into a test."""
    drive = open_drive(DRIVE)
    data = drive.frames[60].image.data
    return cv2.resize(cv2.imdecode(data, cv2.IMREAD_COLOR), SIZE[::-1], interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def golden():
    """The engine of the node in this process: what each mask must be."""
    return create_engine(load_bundle("fpn_resnet50"), ENGINE)


def _parameters(**changes):
    return {"model": "fpn_resnet50", "engine": ENGINE, "warm_up_size": list(SIZE)} | changes


def _mask(message):
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)[:, : message.width]


def _values(record):
    return {pair.key: pair.value for pair in record.status[0].values}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has heaps to count")
def test_the_libraries_of_a_node_share_one_heap():
    """By malloc_info(3), in a process whose node has been refused its parameters."""
    script = """if True:
        import ctypes
        from seg_node.ros.entry import segmentation
        assert segmentation(["--ros-args", "-p", "threads:=-1"]) == 2
        import onnxruntime
        libc = ctypes.CDLL(None)
        libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
        libc.fflush(None)
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.count("<heap nr=") == 1


def test_masks_of_every_encoding(node_process, camera, picture, golden):
    """Every encoding, padded and not, either endianness flag: the golden mask per pixel, camera-sized, same header.

    Of those that name a type of number, four: they share a way.
    """
    node_process(_parameters(), {"image": "front/image_raw"})
    source = camera(topic="front/image_raw").connect()
    sizes = set()
    types = {encoding for encoding in ENCODINGS if encoding[0].isdigit()} - {"8UC1", "8UC3", "16UC4", "32FC3"}
    for number, encoding in enumerate(encoding for encoding in ENCODINGS if encoding not in types):
        crop = picture[: SIZE[0] - 2 * (number % 3)]
        for padding, bigendian in ((0, False), (10, True)):
            message = encode(crop, encoding, padding, bigendian)
            record, mask = source.segment(message)
            assert record.status[0].message == "masked", (encoding, _values(record))
            assert mask.header == message.header == record.header
            assert (mask.encoding, mask.height, mask.width) == ("mono8", *crop.shape[:2])
            assert np.array_equal(_mask(mask), golden.infer(to_bgr(message))[0]), encoding
            sizes.add(crop.shape)
    assert len(sizes) == 3


def test_refusals_are_counted_and_survived(node_process, camera, picture):
    node_process(_parameters())
    source = camera().connect()
    bad = encode(picture, "bgr8")
    bad.encoding = "no_such_encoding"
    record, mask = source.segment(bad)
    assert record.status[0].message == "undecodable"
    assert "no_such_encoding" in _values(record)["detail"]
    assert mask is None
    short = encode(picture, "bgr8")
    short.step -= 1
    assert source.segment(short)[0].status[0].message == "undecodable"
    record, mask = source.segment(encode(picture, "bgr8"))
    assert record.status[0].message == "masked"
    assert {stage.value for stage in Stage} <= set(_values(record))
    source.wait(lambda: source.diagnostics[-1]["received"] == str(len(source.records)), "diagnostics")
    counts = source.diagnostics[-1]
    outcomes = Counter(record.status[0].message for record in source.records.values())
    assert outcomes.keys() == {"undecodable", "masked"}
    assert counts["dropped.undecodable"] == str(outcomes["undecodable"])
    assert counts["masked"] == str(outcomes["masked"])


def test_bytes_that_are_no_message_are_counted(node_process, camera, picture, golden):
    """Whoever can publish on the topic can publish anything."""
    node_process(_parameters())
    source = camera().connect()
    _, mask = source.segment(encode(picture, "bgr8"))
    message = encode(picture, "bgr8")
    rubbish = {(0, 0): b"\0\1\0\0" + b"\xff" * 64}
    # DDS pads what it carries to four bytes.
    for key, kept in (((7, 0), 40), ((8, 0), -8)):
        message.header.stamp.sec, message.header.stamp.nanosec = key
        rubbish[key] = serialize_message(message)[:kept]
    for key, data in rubbish.items():
        source.publisher.publish(data)
        source.wait(lambda key=key: key in source.records, "record")
        assert source.records[key].status[0].message == Outcome.UNDECODABLE.value
        assert "message is cut off" in _values(source.records[key])["detail"]
    _, again = source.segment(encode(picture, "bgr8"))
    assert np.array_equal(_mask(again), _mask(mask))


@pytest.mark.parametrize("reliable", [False, True])
def test_reliable_and_best_effort_publishers(node_process, camera, picture, golden, reliable):
    node_process(_parameters())
    source = camera(reliable=reliable).connect()
    record, mask = source.segment(encode(picture, "bgr8"))
    assert record.status[0].message == "masked"
    assert np.array_equal(_mask(mask), golden.infer(picture)[0])


def test_a_camera_that_does_not_offer_what_is_asked_for_is_named(node_process, camera):
    node = node_process(_parameters(**{"qos_overrides./image.subscription.reliability": "reliable"}))
    source = camera()
    source.wait(lambda: "incompatible QoS" in node.log.read_text(), "the node says so")
    assert re.search(r"topic 'image', offering incompatible QoS.*RELIABILITY", node.log.read_text())
    reason = f"/image: nothing comes from /{source.node.get_name()}: best effort publisher and reliable subscription"
    source.wait(lambda: source.diagnostics and reason in source.diagnostics[-1][""].message, "and /diagnostics says so")


def test_compressed_transport_and_confidence(node_process, camera, picture, golden):
    node_process(_parameters(image_transport="compressed"))
    source = camera(topic="image/compressed", message_type=CompressedImage).connect()
    message = CompressedImage(format="jpeg", data=cv2.imencode(".jpg", picture)[1].tobytes())
    record, mask = source.segment(message)
    decoded = to_bgr(message)
    assert np.array_equal(_mask(mask), golden.infer(decoded)[0])
    assert source.segment(CompressedImage(format="jpeg", data=b"junk"))[0].status[0].message == "undecodable"
    # The confidence is computed from when somebody listens.
    source.node.create_subscription(
        Image, "/segmentation/confidence", lambda m: source._keep(source.confidences, m), QoSProfile(depth=1000)
    )
    source.wait(lambda: source.node.count_publishers("/segmentation/confidence") > 0, "confidence is offered")

    def confident():
        source.segment(message)
        return source.confidences

    source.wait(confident, "a confidence")
    key, confidence = next(iter(source.confidences.items()))
    source.wait(lambda: key in source.masks and key in source.records, "its mask and record")
    expected_mask, expected = golden.infer(decoded, confidence=True)
    assert np.array_equal(_mask(source.masks[key]), expected_mask)
    assert np.array_equal(_mask(confidence), expected)
    assert confidence.header == source.records[key].header


def test_accounting_under_overload(node_process, camera, picture):
    """Three times as many frames as the node masks: one record per frame, and every frame accounted for."""
    node_process(_parameters(deadline_ms=1.0))
    source = camera().connect()
    totals = [float(_values(source.segment(encode(picture, "bgr8"))[0])["total"]) for _ in range(6)]
    period = np.median(totals) / 1000 / 3
    message = encode(picture, "bgr8")
    first, begun = len(source.records), time.monotonic()
    sent = set()
    for number in range(120):
        time.sleep(max(0.0, begun + number * period - time.monotonic()))
        sent.add(source.send(message))

    def counted():
        newest = source.diagnostics[-1]
        return {key: int(newest[key]) for key in newest if key.startswith("dropped.") or key in COUNTS}

    def settled():
        counts = counted()
        return len(source.diagnostics) > 2 and counts["pending"] == 0 and counts["received"] == len(source.records)

    source.diagnostics.clear()
    source.wait(lambda: source.diagnostics and settled(), "one record per frame")
    counts = counted()
    source.wait(lambda: counts["masked"] == len(source.masks), "one mask per record of one")
    dropped = sum(value for key, value in counts.items() if key.startswith("dropped."))
    assert counts["received"] == counts["masked"] + dropped + counts["pending"]
    assert (counts["received"], counts["masked"]) == (len(source.records), len(source.masks))
    assert counts["dropped.superseded"] == dropped > 0
    outcomes = [record.status[0].message for key, record in source.records.items() if key in sent]
    assert len(outcomes) == len(source.records) - first <= len(sent)
    assert outcomes.count("masked") == len(sent & set(source.masks))
    assert outcomes.count("superseded") == counts["dropped.superseded"]
    assert counts["late"] == counts["masked"], "a deadline of 1 ms is missed by every mask"
    # The newest frame is never the one that is dropped.
    assert max(source.records) in source.masks


def test_stale_frames(node_process, camera, picture):
    # A whole number, as people write it.
    node_process(_parameters(max_age_ms=1000))
    source = camera().connect()
    # Stamped in 1970.
    record, _ = source.segment(encode(picture, "bgr8"))
    assert record.status[0].message == "stale"
    assert float(_values(record)["age"]) > 1e9
    assert source.set("max_age_ms", 0).successful
    assert source.segment(encode(picture, "bgr8"))[0].status[0].message == "masked"


def test_lifecycle(node_process, camera, picture, golden):
    node = node_process(_parameters(autostart=False), state="unconfigured")
    source = camera()
    assert not source.change_state(Transition.TRANSITION_ACTIVATE), "activation before configuration"
    assert source.set("model", "no_such_model").successful, "it is looked at by configure"
    assert not source.change_state(Transition.TRANSITION_CONFIGURE)
    assert source.state() == "unconfigured"
    assert "no bundle 'no_such_model'" in node.last_output()
    assert source.set("model", "fpn_resnet50").successful
    for _ in range(2):
        assert source.change_state(Transition.TRANSITION_CONFIGURE)
        assert source.state() == "inactive"
        source.wait(lambda: source.publisher.get_subscription_count() == 0, "it does not subscribe yet")
        assert source.change_state(Transition.TRANSITION_ACTIVATE)
        source.connect()
        record, mask = source.segment(encode(picture, "bgr8"))
        assert np.array_equal(_mask(mask), golden.infer(picture)[0])
        assert source.change_state(Transition.TRANSITION_DEACTIVATE)
        source.wait(lambda: source.publisher.get_subscription_count() == 0, "the subscription is gone")
        assert source.change_state(Transition.TRANSITION_ACTIVATE)
        source.connect()
        assert source.segment(encode(picture, "bgr8"))[0].status[0].message == "masked"
        assert source.change_state(Transition.TRANSITION_DEACTIVATE)
        assert source.change_state(Transition.TRANSITION_CLEANUP)
        assert source.state() == "unconfigured"
    assert source.change_state(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert source.state() == "finalized"
    assert node.stop(60) == 0


def test_model_swap(node_process, camera, picture, golden):
    """A new model takes over between two frames; a bad one changes nothing."""
    node_process(_parameters())
    source = camera().connect()
    message = encode(picture, "bgr8")
    other = create_engine(load_bundle("fpn_convnextv2"), ENGINE)
    assert source.segment(message)[0].status[0].hardware_id == "fpn_resnet50"
    result = source.set("model", "no_such_model")
    assert not result.successful
    assert "no_such_model" in result.reason
    record, mask = source.segment(message)
    assert record.status[0].hardware_id == "fpn_resnet50"
    assert np.array_equal(_mask(mask), golden.infer(picture)[0])
    assert source.set("model", "fpn_convnextv2").successful

    def swapped():
        record, mask = source.segment(message)
        maker = record.status[0].hardware_id
        assert np.array_equal(_mask(mask), {"fpn_resnet50": golden, "fpn_convnextv2": other}[maker].infer(picture)[0])
        return maker == "fpn_convnextv2"

    source.wait(swapped, "the new model masks")
    record, mask = source.segment(message)
    assert record.status[0].hardware_id == "fpn_convnextv2"
    assert np.array_equal(_mask(mask), other.infer(picture)[0])


def test_parameters(node_process, camera):
    """Every parameter is described; bad values are refused with the reason."""
    node_process(_parameters())
    source = camera()
    names = list(PARAMETERS)
    descriptors = source.call(DescribeParameters, DescribeParameters.Request(names=names))
    assert all(descriptor.description for descriptor in descriptors.descriptors)
    values = source.call(GetParameters, GetParameters.Request(names=["category_names"])).values
    assert values[0].string_array_value == list(CATEGORY_NAMES)
    for name, value, reason in (
        ("engine", "tensorflow", "expected one of auto, onnxruntime, openvino, torch"),
        ("engine", "torch", "clean it up first"),
        ("image_transport", "smoke", "expected one of raw, compressed"),
        ("image_transport", "compressed", "deactivate it first"),
        ("max_age_ms", float("nan"), ""),
        ("max_age_ms", -1.0, ""),
        ("deadline_ms", "soon", ""),
        ("warm_up_size", [1], "expected [height, width]"),
        ("autostart", False, "read-only"),
    ):
        result = source.set(name, value)
        assert not result.successful, name
        assert result.reason, name
        assert reason in result.reason, name


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"engine": "tensorflow"}, "expected one of auto, onnxruntime, openvino, torch"),
        ({"warm_up_size": [0, 5]}, "expected \\[height, width\\]"),
        ({"max_age_ms": -5.0}, "max_age_ms"),
        ({"threads": "many"}, "threads"),
    ],
)
def test_bad_parameters_at_start(node_process, parameters, message):
    node = node_process(_parameters() | parameters, state=None)
    deadline = time.monotonic() + 60
    while node.exit_code is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert node.exit_code == 2
    output = node.last_output(50)
    assert re.search(message, output), output
    assert "Traceback" not in output
