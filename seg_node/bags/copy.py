"""A bag written again: every message of it as it is, and further topics beside them."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

from rosbags import rosbag2
from rosbags.convert.converter import create_connections_converters
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_typestore

from seg_node.bags.reader import BagError, BagReader

_NO_HASH = "RIHS01_" + "0" * 64
"""For a type whose definition is neither in the bag nor known here: rosbag2 plays such a topic all the same."""


class BagCopy:
    """A new rosbag2 (mcap) that takes the messages of another bag; a context manager. Times are in nanoseconds.

    Serialised messages of a rosbag2 are copied byte for byte, with their definitions and QoS. Those of a ROS 1 bag are
    converted to what ROS 2 has under the same name. What was written stays where it is when writing fails.

    Args:
        source: the other bag, open.
        path: folder to create.

    Raises:
        BagError: the folder exists or cannot be made, or a message type of a ROS 1 bag cannot be converted.
    """

    def __init__(self, source: BagReader, path: Path):
        self.path = path
        self.store = get_typestore(Stores.ROS2_JAZZY)
        """Types of the messages that ``write`` takes."""
        self._source = source
        self._added: dict[str, Connection] = {}
        self._copied: dict[int, Connection] = {}
        self._converters: dict[str, Callable] = {}

    def __enter__(self) -> "BagCopy":
        try:
            self._writer = rosbag2.Writer(self.path, version=9, storage_plugin=rosbag2.StoragePlugin.MCAP)
            self._writer.open()
        except (OSError, rosbag2.WriterError) as error:
            raise BagError(f"{self.path} cannot be created: {error}") from error
        try:
            if self._source.ros1:
                self._add_ros1_topics()
            else:
                self._add_topics()
        except BaseException:
            self._writer.abort()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._writer.close()
        else:
            self._writer.abort()

    def copy(self, connection: Connection, log_time: int, data: bytes) -> None:
        """Write a message as ``BagReader.raw_messages`` gives it."""
        converter = self._converters.get(connection.msgtype)
        self._writer.write(self._copied[connection.id], log_time, converter(data) if converter else data)

    def write(self, topic: str, msgtype: str, log_time: int, message: object) -> None:
        """Write a further message, made of the types in ``store``."""
        if topic not in self._added:
            self._added[topic] = self._writer.add_connection(topic, msgtype, typestore=self.store)
        self._writer.write(self._added[topic], log_time, self.store.serialize_cdr(message, msgtype))

    def _add_topics(self) -> None:
        # Several publishers of one topic are several connections in some bags, which a writer takes as one.
        same: dict[str, Connection] = {}
        for connection in self._source.connections:
            key = repr((connection.topic, connection.msgtype, connection.ext))
            if key not in same:
                same[key] = self._writer.add_connection(
                    connection.topic,
                    connection.msgtype,
                    serialization_format=connection.ext.serialization_format,
                    offered_qos_profiles=connection.ext.offered_qos_profiles,
                    **self._definition(connection),
                )
            self._copied[connection.id] = same[key]

    def _definition(self, connection: Connection) -> dict:
        """Definition and hash of a message type: the bag's, else the known ones, else none."""
        if connection.msgdef.data and connection.digest:
            return {"msgdef": connection.msgdef.data, "rihs01": connection.digest}
        if connection.msgtype in self.store.fielddefs:
            return {"typestore": self.store}
        return {"msgdef": connection.msgdef.data, "rihs01": connection.digest or _NO_HASH}

    def _add_ros1_topics(self) -> None:
        try:
            # The converter prints which types it has to convert.
            with AnyReader([self._source.path]) as reader, contextlib.redirect_stdout(io.StringIO()):
                connections, self._converters = create_connections_converters(
                    reader.connections, self.store, reader, self._writer
                )
        except Exception as error:
            # rosbags raises errors of many types on definitions that it cannot read.
            raise BagError(f"{self._source.path}: a message type cannot be converted to ROS 2: {error}") from error
        self._copied = {number: connection for (number, _), connection in connections.items()}
