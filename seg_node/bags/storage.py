"""What the files of a bag have in common, whatever their format."""

from collections.abc import Collection, Iterator
from typing import Protocol

import yaml
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag1,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
    Qos,
)
from rosbags.rosbag2.metadata import parse_qos

from seg_node.core.errors import UserError

Message = tuple[Connection, int, bytes]
"""Connection, log time in nanoseconds and serialised message."""

NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, "")


class StorageError(UserError):
    """A file that cannot be read; the message says why, without the file's name."""


class DamagedError(StorageError):
    """A file that is not whole: it was cut off, was never finished, or some of its bytes are wrong."""


class Storage(Protocol):
    """A file of a bag, open for reading.

    Attributes:
        connections: publishers of topics whose messages can be deserialised, with the number of their messages. The
            ``ext`` of one says whether its messages are those of ROS 1 or ROS 2.
        foreign: those whose messages are none of ROS, or of no known type; their messages are left out.
        start_time: log time of the first message in nanoseconds; None without one.
        notes: what was left out, each with the reason.
    """

    connections: list[Connection]
    foreign: list[Connection]
    start_time: int | None
    notes: list[str]

    def messages(self, ids: Collection[int], start: int | None, stop: int | None) -> Iterator[Message]:
        """Messages of some connections as the file has them, from ``start`` until before ``stop``, in nanoseconds.

        Raises:
            DamagedError: the file is not whole.
        """

    def close(self) -> None:
        """Release the file."""


def ros2_connection(
    number: int,
    topic: str,
    kind: str,
    encoding: str,
    count: int = 0,
    *,
    definition: MessageDefinition = NO_DEFINITION,
    digest: str = "",
    qos: str = "",
) -> Connection:
    """A connection with messages of ROS 2, or of no ROS at all, as ``encoding`` says."""
    ext = ConnectionExtRosbag2(encoding, read_qos(qos))
    return Connection(number, topic, ros2_name(kind), definition, digest, count, ext, None)


def ros1_connection(
    number: int, topic: str, kind: str, count: int, definition: MessageDefinition, latching: bool
) -> Connection:
    """A connection with messages of ROS 1."""
    ext = ConnectionExtRosbag1(None, int(latching))
    return Connection(number, topic, ros2_name(kind), definition, "", count, ext, None)


def is_ros1(connection: Connection) -> bool:
    """Whether the messages of a connection are those of ROS 1."""
    return isinstance(connection.ext, ConnectionExtRosbag1)


def encoding_of(connection: Connection) -> str:
    """Name of a connection's serialisation: ``ros1``, ``cdr``, or what a foreign one says."""
    return "ros1" if is_ros1(connection) else connection.ext.serialization_format


def ros2_name(kind: str) -> str:
    """Name of a message type as ROS 2 writes it: ``sensor_msgs/msg/Image`` for ``sensor_msgs/Image`` of ROS 1."""
    package, slash, name = kind.partition("/")
    return f"{package}/msg/{name}" if slash and "/" not in name else kind


def read_qos(text: object) -> list[Qos]:
    """Profiles from the text in a file or the list in ``metadata.yaml``; empty where they cannot be understood.

    Recorders of every distribution write these in another way, and people edit them; no message depends on them.
    """
    try:
        return parse_qos(text if isinstance(text, list) else yaml.safe_load(str(text or "")) or [])
    except Exception:
        # rosbags and YAML raise errors of many types on what is none.
        return []
