"""Decoding of every image encoding, and the messages that go out."""

import array
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from builtin_interfaces.msg import Time  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from helpers.images import encode
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from sensor_msgs.msg import CompressedImage  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from seg_node.core.errors import UndecodableError  # noqa: E402
from seg_node.core.images import ENCODINGS, to_bgr  # noqa: E402
from seg_node.core.timing import FrameRecord, Outcome, Stage  # noqa: E402
from seg_node.ros.messages import (  # noqa: E402
    bgr8_image,
    frame_record,
    mono8_image,
    read_mono8,
    record_to_diagnostics,
    serialized_record,
)

pytestmark = pytest.mark.ros

COLOUR = (40, 90, 200)


# The names in sensor_msgs/image_encodings.hpp of Jazzy that are not deprecated there, but for two channels.
NAMES = [
    *(f"{order}{bits}" for order in ("rgb", "rgba", "bgr", "bgra", "mono") for bits in (8, 16)),
    *(f"bayer_{pattern}{bits}" for pattern in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)),
    *(f"{kind}C{n}" for kind in ("8U", "8S", "16U", "16S", "32S", "32F", "64F") for n in (1, 3, 4)),
    *("uyvy", "yuyv", "nv12", "nv21", "nv24"),
]


def test_every_name_of_ros_and_the_old_ones_are_decoded():
    assert sorted(ENCODINGS) == sorted([*NAMES, "yuv422", "yuv422_yuy2"])
    for kind in ("8U", "8S", "16U", "16S", "32S", "32F", "64F"):
        with pytest.raises(UndecodableError, match=f"^{kind}C2 image: two channels are no picture; yuyv and uyvy"):
            to_bgr(_image(encoding=f"{kind}C2"))
        assert np.array_equal(
            *(
                to_bgr(_image(encoding=name, step=48, data=array.array("B", bytes(192))))
                for name in (f"{kind}C", f"{kind}C1")
            )
        )


def test_old_and_new_names_are_one_encoding():
    bgr = np.random.default_rng(4).integers(0, 256, (10, 16, 3), np.uint8)
    for old, new in (("yuv422", "uyvy"), ("yuv422_yuy2", "yuyv")):
        message = encode(bgr, new)
        decoded = to_bgr(message)
        message.encoding = old
        assert np.array_equal(to_bgr(message), decoded)


@pytest.mark.parametrize(
    ("encoding", "value", "text"),
    [
        ("32FC1", 7.5, "32FC1 image holds values from 7.5 to 7.5; as brightness they are 0 to 1. Depths and the like"),
        ("64FC1", np.nan, "from nan to nan"),
        ("16SC1", -3, "from -3 to -3; as brightness they are 0 to 32767"),
        ("8SC1", -128, "from -128 to -128"),
    ],
)
def test_numbers_that_are_no_brightness(encoding, value, text):
    dtype = {"32F": "<f4", "64F": "<f8", "16S": "<i2", "8SC": "i1"}[encoding[:3]]
    rows = np.full((4, 6), value, dtype)
    message = _image(encoding=encoding, step=rows.strides[0], data=array.array("B", rows.tobytes()))
    with pytest.raises(UndecodableError, match=text):
        to_bgr(message)


def _expected(bgr, encoding):
    if encoding in ("mono8", "mono16") or encoding.endswith("C1"):
        return np.repeat(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)[..., None], 3, axis=2)
    return bgr


@pytest.mark.parametrize("bigendian", [False, True])
@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings(encoding, padding, bigendian):
    lossless = not encoding.startswith(("bayer", "yuv", "uyvy", "yuyv", "nv"))
    if lossless:
        bgr = np.random.default_rng(1).integers(0, 256, (10, 16, 3), np.uint8)
    else:
        # Colour subsampling loses detail but no area of one colour, and swapped channels would show.
        bgr = np.empty((12, 16, 3), np.uint8)
        bgr[:] = COLOUR
    decoded = to_bgr(encode(bgr, encoding, padding, bigendian))
    assert decoded.flags.c_contiguous
    difference = np.abs(decoded.astype(int) - _expected(bgr, encoding))
    # Seven bits hold half of the values of eight.
    allowed = 1 if encoding.startswith("8S") else 0 if lossless or encoding.startswith("bayer") else 3
    assert difference.max() <= allowed


@pytest.mark.parametrize("encoding", [e for e in ENCODINGS if e.startswith(("yuv", "uyvy", "nv"))])
def test_subsampled_encodings_keep_places(encoding):
    bgr = np.full((12, 16, 3), COLOUR, np.uint8)
    bgr[4:8, 6:10] = (200, 30, 60)
    decoded = to_bgr(encode(bgr, encoding, 4))
    assert np.abs(decoded.astype(int) - bgr).max() <= 3


def _image(**changes):
    message = encode(np.zeros((4, 6, 3), np.uint8), "bgr8")
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (_image(width=0), "0x4"),
        (_image(height=0), "6x0"),
        (_image(step=17), "step is 17 bytes, but a row of 6 bgr8 pixels takes 18"),
        (_image(step=0), "step is 0"),
        (_image(data=array.array("B", bytes(71))), "data is 71 bytes, but 4 rows of step 18 take 72"),
        (_image(data=array.array("B", bytes(73))), "data is 73 bytes"),
        (_image(data=array.array("B")), "data is 0 bytes"),
        (_image(width=2**32 - 1), "image is 4294967295x4; at most 67108864 pixels and 16384 on a side"),
        (_image(height=2**32 - 1), "image is 6x4294967295"),
        (_image(width=16385), "image is 16385x4"),
        (_image(width=16384, height=4097), "image is 16384x4097"),
        (_image(width=16384), "a row of 16384 bgr8 pixels takes 49152"),
        (_image(step=2**32 - 1), "4 rows of step 4294967295 take 17179869180"),
        (_image(encoding="nv12", width=5), "5x4"),
        (_image(encoding="nv12", height=3), "6x3"),
        (_image(encoding="nv21", width=5), "nv21 image is 5x4"),
        (_image(encoding="nv24", step=5), "step is 5 bytes, but a row of 6 nv24 pixels takes 6"),
        (_image(encoding="nv24", step=6, data=array.array("B", bytes(71))), "12 rows of step 6 take 72"),
        (_image(encoding="uyvy", width=5), "5 wide"),
        (_image(encoding="yuv422", width=5), "5 wide"),
        (_image(encoding="bayer_rggb8", width=1, height=1, step=1, data=array.array("B", b"1")), "1x1"),
    ],
)
def test_contradicting_images_are_refused(message, text):
    with pytest.raises(UndecodableError, match=text):
        to_bgr(message)


def test_unknown_encoding_names_those_there_are():
    try:
        import cv_bridge  # noqa: F401
    except ImportError:
        with pytest.raises(UndecodableError, match="'32FC7' needs cv_bridge.*bgr8.*nv12"):
            to_bgr(_image(encoding="32FC7"))
    else:
        with pytest.raises(UndecodableError, match="32FC7"):
            to_bgr(_image(encoding="32FC7"))


def test_rare_encodings_go_through_cv_bridge(monkeypatch):
    """A stand-in for cv_bridge: what it is asked for, and that whatever it raises is a refusal."""
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)

    class CvBridge:
        def imgmsg_to_cv2(self, message, desired_encoding):
            if message.encoding != "32FC5":
                raise TypeError(message.encoding)
            assert desired_encoding == "bgr8"
            return image[:, ::-1]

    monkeypatch.setitem(sys.modules, "cv_bridge", SimpleNamespace(CvBridge=CvBridge))
    decoded = to_bgr(_image(encoding="32FC5"))
    assert np.array_equal(decoded, image[:, ::-1]) and decoded.flags.c_contiguous
    with pytest.raises(UndecodableError, match="^cv_bridge cannot convert '32FC7': 32FC7$"):
        to_bgr(_image(encoding="32FC7"))


@pytest.mark.parametrize(
    "encoding", ["bgr8", "rgb8", "bgra8", "rgba8", "mono8", "8UC3", "8UC1", "bayer_rggb8", "yuv422"]
)
def test_agreement_with_cv_bridge(encoding):
    cv_bridge = pytest.importorskip("cv_bridge", reason="cv_bridge is missing: it comes with a ROS 2 installation")
    bgr = np.random.default_rng(2).integers(0, 256, (10, 16, 3), np.uint8)
    message = encode(bgr, encoding)
    reference = cv_bridge.CvBridge().imgmsg_to_cv2(message)
    if encoding in ("8UC1", "8UC3"):
        reference = reference if encoding == "8UC3" else np.repeat(reference[..., None], 3, axis=2)
    else:
        reference = cv_bridge.CvBridge().imgmsg_to_cv2(message, "bgr8")
    assert np.array_equal(to_bgr(message), reference)


@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_compressed(extension):
    bgr = np.zeros((20, 30, 3), np.uint8)
    bgr[:, 15:] = COLOUR
    data = cv2.imencode(extension, bgr)[1].tobytes()
    decoded = to_bgr(CompressedImage(format=extension[1:], data=array.array("B", data)))
    assert np.abs(decoded.astype(int) - bgr)[:, 20:].max() <= (0 if extension == ".png" else 4)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", bytes(100), b"no image at all"])
def test_undecodable_compressed(data):
    with pytest.raises(UndecodableError, match=rf"{len(data)} bytes of format 'jpeg'"):
        to_bgr(CompressedImage(format="jpeg", data=array.array("B", data)))


def test_mask_message():
    header = Header(frame_id="camera")
    header.stamp.sec, header.stamp.nanosec = 12, 34
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    message = mono8_image(mask, header)
    assert (message.height, message.width, message.step, message.encoding) == (3, 4, 4, "mono8")
    assert bytes(message.data) == mask.tobytes()
    assert message.header == header


@pytest.mark.parametrize(
    ("outcome", "late", "level"),
    [
        (Outcome.MASKED, False, DiagnosticStatus.OK),
        (Outcome.MASKED, True, DiagnosticStatus.WARN),
        (Outcome.SUPERSEDED, False, DiagnosticStatus.WARN),
        (Outcome.STALE, False, DiagnosticStatus.WARN),
        (Outcome.UNDECODABLE, False, DiagnosticStatus.ERROR),
        (Outcome.FAILED, False, DiagnosticStatus.ERROR),
    ],
)
def test_timing_message(outcome, late, level):
    header = Header(frame_id="camera")
    record = FrameRecord(outcome, "fpn", {Stage.WAIT: 1.5, Stage.DECODE: 0.25}, total=1.75, age=9.0, late=late)
    message = record_to_diagnostics(record, header, "/segmentation")
    (status,) = message.status
    assert message.header == header
    assert status.name == "/segmentation: frame"
    assert (status.level, status.message, status.hardware_id) == (level, outcome.value, "fpn")
    assert {pair.key: pair.value for pair in status.values} == {
        "wait": "1.500",
        "decode": "0.250",
        "total": "1.750",
        "age": "9.000",
        "late": str(late).lower(),
    }


def test_picture_message():
    header = Header(frame_id="camera")
    picture = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    message = bgr8_image(picture, header)
    assert (message.height, message.width, message.step, message.encoding) == (2, 5, 15, "bgr8")
    assert bytes(message.data) == picture.tobytes()
    assert message.header is header


def test_mask_is_read_without_its_padding():
    message = _image(height=2, width=3, encoding="mono8", step=4, data=array.array("B", [1, 2, 3, 99, 4, 5, 6, 99]))
    mask = read_mono8(message)
    assert mask.dtype == np.uint8 and mask.flags.c_contiguous
    assert mask.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert read_mono8(mono8_image(mask, Header())).tolist() == mask.tolist()
    one = _image(height=1, width=1, encoding="mono8", step=1, data=array.array("B", [7]))
    assert read_mono8(one).tolist() == [[7]]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"encoding": "bgr8"}, "^encoding is 'bgr8'; a mask is mono8$"),
        ({"encoding": "x" * 41}, f"^encoding is '{'x' * 40}'; a mask"),
        ({"height": 0, "data": array.array("B")}, "^a mask of 6x0 and step 6 has 0 bytes$"),
        ({"width": 0}, "^a mask of 0x4 and step 6 has 24 bytes$"),
        ({"width": 7}, "^a mask of 7x4 and step 6 has 24 bytes$"),
        ({"data": array.array("B", bytes(23))}, "has 23 bytes"),
        ({"data": array.array("B", bytes(25))}, "has 25 bytes"),
    ],
)
def test_masks_that_cannot_be_read(changes, text):
    with pytest.raises(UndecodableError, match=text):
        read_mono8(_image(**{"encoding": "mono8", "step": 6, "data": array.array("B", bytes(24))} | changes))


@pytest.mark.parametrize(
    "record",
    [
        FrameRecord(Outcome.MASKED, "m", {stage: 1.5 for stage in Stage}, 9.25, 12.125, late=True),
        FrameRecord(Outcome.FAILED, "m", {Stage.WAIT: 0.5}, 1.0, detail="why"),
        FrameRecord(Outcome.SUPERSEDED, "m", {}, 0.0, -3.0),
    ],
)
def test_timing_message_is_read_back(record):
    assert frame_record(record_to_diagnostics(record, Header(), "/node").status[0]) == record


@pytest.mark.parametrize("detail", ["", "why", "größer"])
@pytest.mark.parametrize("frame_id", ["", "a", "camera", "front_left"])
@pytest.mark.parametrize("outcome", Outcome)
def test_timing_messages_are_written_as_rclpy_writes_them(outcome, frame_id, detail):
    header = Header(stamp=Time(sec=-5, nanosec=2**32 - 1), frame_id=frame_id)
    record = FrameRecord(outcome, "fpn", {Stage.WAIT: 1.5, Stage.DECODE: 0.25}, 1.75, 9.0, detail=detail)
    message = record_to_diagnostics(record, header, "/segmentation")
    written = serialized_record(record, serialize_message(header), "/segmentation").tobytes()
    assert deserialize_message(written, DiagnosticArray) == message
    assert len(written) == len(serialize_message(message))


def test_a_timing_message_of_what_is_no_text_can_be_read():
    record = FrameRecord(Outcome.FAILED, "m", {}, 1.0, detail="no file \udcff")
    message = deserialize_message(
        serialized_record(record, serialize_message(Header()), "/n").tobytes(), DiagnosticArray
    )
    assert frame_record(message.status[0]).detail == "no file ?"


def test_what_is_no_timing_message():
    (status,) = record_to_diagnostics(FrameRecord(Outcome.MASKED, "m", {}, 1.0), Header(), "/node").status
    status.name = "x" * 81
    status.values = [pair for pair in status.values if pair.key != "late"]
    assert not frame_record(status).late
    status.message = "no outcome"
    with pytest.raises(ValueError, match="no outcome"):
        frame_record(status)
    status.values = []
    with pytest.raises(ValueError, match=f"^a timing record without total: '{'x' * 80}'$"):
        frame_record(status)
