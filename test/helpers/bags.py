"""Bags of every kind, as recorders, converters and people leave them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np
from mcap.writer import CompressionType, IndexType, Writer
from rosbags import rosbag1, rosbag2
from rosbags.typesys import Stores, get_typestore

ROS1, ROS2 = get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.ROS2_JAZZY)
IMAGE, JPEG, STRING = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "std_msgs/msg/String"
TOPIC = "/front/image/compressed"
START, STEP = 1_700_000_000 * 10**9, 10**8

Messages = Iterable[tuple[int, bytes]]
"""Log time in nanoseconds and serialised message."""


def as_ros1(source: Path, path: Path) -> Path:
    """Copy a rosbag2 into a ROS 1 bag, message by message."""

    def header(message):
        return ROS1.types["std_msgs/msg/Header"](7, message.header.stamp, message.header.frame_id)

    with rosbag2.Reader(source) as reader, rosbag1.Writer(path) as writer:
        connections = {c.topic: writer.add_connection(c.topic, c.msgtype, typestore=ROS1) for c in reader.connections}
        for connection, time, data in reader.messages():
            m = ROS2.deserialize_cdr(data, connection.msgtype)
            if connection.msgtype.endswith("CameraInfo"):
                fields = (m.height, m.width, m.distortion_model, m.d, m.k, m.r, m.p, m.binning_x, m.binning_y, m.roi)
            else:
                fields = (m.format, m.data)
            copy = ROS1.types[connection.msgtype](header(m), *fields)
            writer.write(connections[connection.topic], time, ROS1.serialize_ros1(copy, connection.msgtype))
    return path


def picture(index: int) -> np.ndarray:
    """uint8 [24, 32, 3] BGR that tells its index."""
    image = np.full((24, 32, 3), (200, 120, 40), np.uint8)
    image[:, index : index + 6] = (30, 60, 220)
    return image


def jpeg(index: int) -> bytes:
    """A picture's file."""
    return cv2.imencode(".jpg", picture(index))[1].tobytes()


def header(stamp: int, store=ROS2, sequence: int = 0):
    """Header of a stamp in nanoseconds, of ROS 2 or, with its types, of ROS 1."""
    time = store.types["builtin_interfaces/msg/Time"](*divmod(stamp, 10**9))
    return store.types["std_msgs/msg/Header"](*([sequence] if store is ROS1 else []), time, "front")


def compressed(stamp: int, data: bytes, image_format: str = "jpeg") -> bytes:
    """CompressedImage of ROS 2."""
    message = ROS2.types[JPEG](header(stamp), image_format, np.frombuffer(data, np.uint8))
    return bytes(ROS2.serialize_cdr(message, JPEG))


def frames(count: int = 4) -> list[tuple[int, bytes]]:
    """Camera images."""
    return [(START + i * STEP, compressed(START + i * STEP, jpeg(i))) for i in range(count)]


def ros1_frames(count: int = 4) -> list[tuple[int, bytes]]:
    """The same images, serialised as ROS 1 does."""
    found = []
    for i in range(count):
        message = ROS1.types[JPEG](header(START + i * STEP, ROS1, i), "jpeg", np.frombuffer(jpeg(i), np.uint8))
        found.append((START + i * STEP, bytes(ROS1.serialize_ros1(message, JPEG))))
    return found


def strings(texts: Iterable[str]) -> list[tuple[int, bytes]]:
    """Messages of std_msgs/String."""
    cdr = [bytes(ROS2.serialize_cdr(ROS2.types[STRING](text), STRING)) for text in texts]
    return [(START + i * STEP, data) for i, data in enumerate(cdr)]


def write_mcap(
    path: Path,
    topics: Mapping[str, tuple[str, Messages]],
    *,
    profile: str = "ros2",
    chunked: bool = True,
    summary: bool = True,
    compression: CompressionType = CompressionType.NONE,
    chunk_size: int = 2**20,
    qos: str = "",
    foreign: Iterable[tuple[str, str, str, bytes, str, Messages]] = (),
    order=lambda messages: messages,
) -> Path:
    """Write an MCAP file with Foxglove's library.

    Args:
        path: file to write.
        topics: type and messages by topic, as ROS 2 serialises them.
        profile: of the header.
        chunked: whether messages stand in chunks.
        summary: whether index and counts stand at the end.
        compression: of the chunks.
        chunk_size: bytes of a chunk.
        qos: text of the channels' offered profiles.
        foreign: topic, name, encoding and text of a schema, message encoding and messages.
        order: arranges all messages, each of which is a channel's number, log time and bytes.
    """
    with path.open("wb") as file:
        writer = Writer(
            file,
            chunk_size,
            compression,
            index_types=IndexType.ALL if summary else IndexType.NONE,
            repeat_channels=summary,
            repeat_schemas=summary,
            use_chunking=chunked,
            use_statistics=summary,
            use_summary_offsets=summary,
        )
        writer.start(profile, "test")
        channels = [
            (topic, kind, "ros2msg", ROS2.generate_msgdef(kind)[0].encode(), "cdr", messages)
            for topic, (kind, messages) in topics.items()
        ]
        messages = []
        for topic, kind, encoding, schema, serialised, content in (*channels, *foreign):
            number = writer.register_schema(kind, encoding, schema)
            channel = writer.register_channel(topic, serialised, number, {"offered_qos_profiles": qos})
            messages += [(channel, time, data) for time, data in content]
        for sequence, (channel, time, data) in enumerate(order(messages)):
            writer.add_message(channel, time, data, time, sequence)
        writer.finish()
    return path
