"""A bag written again: every message of it as it is, further topics beside them, and a count of what arrived."""

import contextlib
import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from rosbags import rosbag2
from rosbags.convert.converter import create_connections_converters
from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from seg_node.bags.mcap_storage import McapStorage
from seg_node.bags.reader import BagError, BagReader
from seg_node.bags.storage import DamagedError, is_ros1

_NO_HASH = "RIHS01_" + "0" * 64
"""For a type whose definition is neither in the bag nor known here: rosbag2 plays such a topic all the same."""


@dataclass(frozen=True)
class Balance:
    """Messages of one topic on their way from a bag into another."""

    topic: str
    type: str
    held: int
    """Messages that the source says it holds; of a topic that was added, those that were written."""
    read: int
    """Messages that were taken from the source, or made."""
    written: int
    """Messages that the new bag holds, counted in its file."""
    added: bool = False
    """Whether the source has no such topic."""

    def __str__(self) -> str:
        counts = f"{self.read} made" if self.added else f"{self.held} held, {self.read} read"
        return f"{self.topic}, {self.type}: {counts}, {self.written} written"


class BagCopy:
    """A new rosbag2 (mcap) that takes the messages of another bag; a context manager. Times are in nanoseconds.

    Serialised messages of ROS 2 are copied byte for byte, with their definitions and QoS. Those of ROS 1 are converted
    to what ROS 2 has under the same name. What was written stays where it is when writing fails.

    Args:
        source: the other bag, open.
        path: folder to create.

    Attributes:
        store: types of the messages that ``write`` takes.
        balance: messages of each topic, in and out; there after the last message was written.

    Raises:
        BagError: the folder exists or cannot be made, a message type of ROS 1 cannot be converted, or, at the end, the
            new bag does not hold every message of the other; the message names the topics.
    """

    def __init__(self, source: BagReader, path: Path):
        self.path = path
        self.store = get_typestore(Stores.ROS2_JAZZY)
        self.balance: list[Balance] = []
        self._source = source
        self._added: dict[str, Connection] = {}
        self._copied: dict[int, Connection] = {}
        self._converters: dict[int, Callable] = {}
        self._read: Counter[int] = Counter()
        self._made: Counter[str] = Counter()

    def __enter__(self) -> "BagCopy":
        try:
            self._writer = rosbag2.Writer(self.path, version=9, storage_plugin=rosbag2.StoragePlugin.MCAP)
            self._writer.open()
        except (OSError, rosbag2.WriterError) as error:
            raise BagError(f"{self.path} cannot be created: {error}") from error
        try:
            self._add_topics([c for c in self._source.connections if not is_ros1(c)])
            self._add_ros1_topics([c for c in self._source.connections if is_ros1(c)])
        except BaseException:
            self._writer.abort()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._writer.close()
            self._settle()
        else:
            self._writer.abort()

    def copy(self, connection: Connection, log_time: int, data: bytes) -> None:
        """Write a message as ``BagReader.raw_messages`` gives it."""
        converter = self._converters.get(connection.id)
        self._read[connection.id] += 1
        self._writer.write(self._copied[connection.id], log_time, converter(data) if converter else data)

    def write(self, topic: str, msgtype: str, log_time: int, message: object) -> None:
        """Write a further message, made of the types in ``store``."""
        if topic not in self._added:
            self._added[topic] = self._writer.add_connection(topic, msgtype, typestore=self.store)
        self._made[topic] += 1
        self._writer.write(self._added[topic], log_time, self.store.serialize_cdr(message, msgtype))

    def _settle(self) -> None:
        """Count what is in the new file, and compare it with what went in."""
        written: Counter[tuple[str, str]] = Counter()
        (file,) = self.path.glob("*.mcap")
        try:
            storage = McapStorage(file, scan=True)
        except (OSError, DamagedError) as error:
            raise BagError(f"{self.path} was not written whole: {error}") from error
        with contextlib.closing(storage):
            for connection in storage.connections:
                written[connection.topic, connection.msgtype] += connection.msgcount
        held: Counter[tuple[str, str]] = Counter()
        read: Counter[tuple[str, str]] = Counter()
        for connection in self._source.connections:
            target = self._copied[connection.id]
            held[target.topic, target.msgtype] += connection.msgcount
            read[target.topic, target.msgtype] += self._read[connection.id]
        self.balance = [Balance(*key, held[key], read[key], written[key]) for key in sorted(held)]
        for topic, connection in sorted(self._added.items()):
            made = self._made[topic]
            out = written[topic, connection.msgtype]
            self.balance.append(Balance(topic, connection.msgtype, made, made, out, added=True))
        if lost := [entry for entry in self.balance if not entry.held == entry.read == entry.written]:
            raise BagError(f"{self.path} does not hold what went in: {'; '.join(map(str, lost))}")

    def _add_topics(self, connections: list[Connection]) -> None:
        # Several publishers of one topic are several connections in some bags, which a writer takes as one.
        same: dict[str, Connection] = {}
        for connection in connections:
            key = repr((connection.topic, connection.msgtype, connection.ext))
            if key not in same:
                same[key] = self._writer.add_connection(
                    connection.topic,
                    connection.msgtype,
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

    def _add_ros1_topics(self, connections: list[Connection]) -> None:
        if not connections:
            return
        try:
            types = get_typestore(Stores.EMPTY)
            for connection in connections:
                if connection.msgdef.format is not MessageDefinitionFormat.MSG:
                    raise ValueError(f"{connection.msgtype} of {connection.topic} has no definition")
                types.register(get_types_from_msg(connection.msgdef.data, connection.msgtype))
            # The converter asks its reader for no more than this, and prints which types it has to convert.
            reader = SimpleNamespace(typestore=types, is2=False)
            with contextlib.redirect_stdout(io.StringIO()):
                targets, converters = create_connections_converters(connections, self.store, reader, self._writer)
        except Exception as error:
            # rosbags raises errors of many types on definitions that it cannot read.
            raise BagError(f"{self._source.path}: a message type cannot be converted to ROS 2: {error}") from error
        for connection in connections:
            self._copied[connection.id] = targets[connection.id, connection.owner]
            self._converters[connection.id] = converters[connection.msgtype]


def copy_bag(source: str | Path, out: str | Path, recover: bool = False) -> tuple[list[Balance], list[str]]:
    """Write a bag again as a whole rosbag2 (mcap).

    Args:
        source: any bag that ``BagReader`` reads.
        out: folder to create.
        recover: take what is whole of a bag that is not.

    Returns:
        Messages of each topic in and out, and what was left out or is odd about the source.

    Raises:
        BagError: the source cannot be read or holds nothing whole, ``out`` exists, or it does not hold what went in.
    """
    with BagReader(source, recover) as reader:
        if recover and not any(connection.msgcount for connection in reader.connections):
            raise BagError(
                f"{source}: nothing of it can be recovered: {'; '.join(reader.notes) or 'it holds no message'}"
            )
        with BagCopy(reader, Path(out)) as copy:
            for message in reader.raw_messages():
                copy.copy(*message)
        return copy.balance, reader.notes
