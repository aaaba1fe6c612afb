"""Reading bags without ROS: rosbag2 of every storage, ROS 1 bags, and what recorders leave when they are killed."""

import functools
import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import zstandard
from rosbags.interfaces import Connection, QosDurability, QosHistory, QosReliability
from rosbags.typesys import Stores, get_typestore

from seg_node.bags.files import METADATA, ZSTD, NoBagError, decompressed, find_files, kind_of
from seg_node.bags.mcap_storage import McapStorage
from seg_node.bags.ros1_storage import Ros1Storage
from seg_node.bags.sqlite3_storage import Sqlite3Storage
from seg_node.bags.storage import DamagedError, Message, Storage, StorageError, encoding_of, is_ros1
from seg_node.core.errors import UserError

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"

VIDEO_PACKETS = {
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket": "ffmpeg",
    "foxglove_msgs/msg/CompressedVideo": "foxglove",
}
"""Types of messages that hold a video's packets, each with the name of its image transport."""


class BagError(UserError):
    """A bag cannot be read or written; the message says why and what the bag holds."""


@dataclass(frozen=True)
class Topic:
    """One topic of a bag."""

    name: str
    type: str
    """ROS 2 name of the message type, of a ROS 1 bag too."""
    count: int
    """Messages."""
    encoding: str = "cdr"
    """Serialisation of the messages: ``cdr`` of ROS 2, ``ros1``, or one that is not of ROS."""

    def __str__(self) -> str:
        encoding = "" if self.is_ros else f", {self.encoding}"
        return f"{self.name} ({self.type}{encoding}, {self.count} messages)"

    @property
    def is_ros(self) -> bool:
        """Whether its messages can be read; those of other encodings are left alone."""
        return self.encoding in ("cdr", "ros1")

    @property
    def is_image(self) -> bool:
        return self.is_ros and self.type in (IMAGE, COMPRESSED_IMAGE)

    @property
    def is_output(self) -> bool:
        """Whether a part of the name says that the images come from a segmentation node: no camera, no ground truth."""
        return self.is_image and "segmentation" in PurePosixPath(self.name).parts

    @property
    def is_mask(self) -> bool:
        """Whether a part of the name says that the images are ground truth."""
        return self.is_image and not self.is_output and "mask" in PurePosixPath(self.name).parts

    @property
    def is_depth(self) -> bool:
        """Whether a part of the name says that the images hold distances."""
        return self.is_image and any("depth" in part for part in PurePosixPath(self.name).parts)


@dataclass(frozen=True)
class TopicQos:
    """The part of a recorded publisher's QoS that a player can have, too."""

    reliability: str
    """``reliable`` or ``best_effort``."""
    durability: str
    """``volatile`` or ``transient_local``."""
    depth: int
    """0 where everything was kept."""


class BagReader:
    """A bag open for reading, a context manager; turns whatever a broken file causes into ``BagError``.

    The files are the truth: topics are told apart by name and type, whatever a recorder wrote of their QoS, and
    ``metadata.yaml`` only names the files.

    Args:
        path: rosbag2 folder, or one file of a rosbag2 or of ROS 1.
        recover: read what is whole of files that are not, and say in ``notes`` what is missing.

    Attributes:
        topics: by name; of several types under one name each has its own.
        connections: publishers of the topics whose messages can be read, with definitions of their types.
        notes: what was left out and what is odd about the files, for people.
        start_time: log time of the first message of all topics in nanoseconds, 0 without one.

    Raises:
        BagError: the path is missing, no bag, or a damaged one.
    """

    def __init__(self, path: str | Path, recover: bool = False):
        self.path = Path(path)
        self._recover = recover
        self._storages: list[tuple[Path, Storage]] = []
        if not self.path.exists():
            raise BagError(f"{self.path} does not exist")
        with ExitStack() as opened:
            try:
                files = find_files(self.path)
                self.notes = files.notes
                for file in files.paths:
                    self._open(file, opened)
            except NoBagError as error:
                raise BagError(f"{self.path}: {error}") from error
            except OSError as error:
                raise BagError(f"{error.filename or self.path} cannot be read: {error.strerror or error}") from error
            self._opened = opened.pop_all()
        self._merge()
        self._compare(files.counts)

    def __enter__(self) -> "BagReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _open(self, file: Path, opened: ExitStack) -> None:
        """Open one file of the bag."""
        try:
            whole = decompressed(file, opened)
            kind = kind_of(whole)
            if kind == "ros1":
                storage = Ros1Storage(whole)
            else:
                storage = {"mcap": McapStorage, "sqlite3": Sqlite3Storage}[kind](whole, self._recover)
        except DamagedError as error:
            raise self._damaged(file, error) from error
        except StorageError as error:
            raise BagError(f"{file}: {error}") from error
        opened.callback(storage.close)
        self._storages.append((file, storage))

    def _merge(self) -> None:
        """Make one list of connections of those of all files, with numbers of its own."""
        self.connections: list[Connection] = []
        self._numbers: list[dict[int, int]] = []
        known: dict[str, int] = {}
        foreign: Counter[tuple[str, str, str]] = Counter()
        for file, storage in self._storages:
            numbers = {}
            for connection in storage.connections:
                # A topic has one publisher or several; all of one kind are the same here.
                key = repr((connection.topic, connection.msgtype, connection.ext, connection.msgdef))
                number = known.setdefault(key, len(known))
                if number == len(self.connections):
                    self.connections.append(connection._replace(id=number, msgcount=0))
                count = self.connections[number].msgcount + connection.msgcount
                self.connections[number] = self.connections[number]._replace(msgcount=count)
                numbers[connection.id] = number
            self._numbers.append(numbers)
            for connection in storage.foreign:
                foreign[connection.topic, connection.msgtype, encoding_of(connection)] += connection.msgcount
            self.notes += [f"{file.name}: {note}" for note in storage.notes]
        counts: Counter[tuple[str, str, str]] = Counter(foreign)
        for connection in self.connections:
            counts[connection.topic, connection.msgtype, encoding_of(connection)] += connection.msgcount
        self.topics = [Topic(name, kind, count, encoding) for (name, kind, encoding), count in sorted(counts.items())]
        for (name, kind, encoding), count in sorted(foreign.items()):
            self.notes.append(f"left out: {count} messages of {name}, {kind}: they are {encoding}, not of ROS")
        times = [storage.start_time for _, storage in self._storages if storage.start_time is not None]
        self.start_time = min(times, default=0)

    def _compare(self, announced: Counter[tuple[str, str]] | None) -> None:
        """Say where ``metadata.yaml`` and the files differ."""
        held: Counter[tuple[str, str]] = Counter()
        for topic in self.topics:
            held[topic.name, topic.type] += topic.count
        for name, kind in sorted(set(announced or ()) | set(held)) if announced is not None else ():
            if announced[name, kind] != held[name, kind]:
                said = f"{METADATA} says {announced[name, kind]} messages of {name}, {kind}"
                self.notes.append(f"{said}; the files hold {held[name, kind]}")

    def _damaged(self, file: Path, error: DamagedError) -> BagError:
        path = self.path
        if file.suffix == ".bag":
            advice = f"`rosbag reindex {file}` of ROS 1 may repair it"
        else:
            advice = f"`seg_node bag copy --recover {path} OUT` writes what is whole of it as a new bag"
        held = "; ".join(str(topic) for topic in self._whole_topics())
        return BagError(f"{file}: {error}{f'; as far as it can be read it holds {held}' if held else ''}; {advice}")

    def _whole_topics(self) -> list[Topic]:
        """What a damaged bag holds as far as it can be read."""
        if self._recover:
            return []
        try:
            with BagReader(self.path, recover=True) as bag:
                return bag.topics
        except BagError:
            return []

    def error(self, problem: str) -> BagError:
        """An error that ends with what the bag holds."""
        held = "; ".join(map(str, self.topics)) or "no topics"
        return BagError(f"{self.path}: {problem}; the bag holds {held}")

    def topic(self, name: str) -> Topic:
        """The image topic of a name.

        Raises:
            BagError: there is no such topic, or it has no images that can be decoded one by one.
        """
        found = [topic for topic in self.topics if topic.name == name]
        images = [topic for topic in found if topic.is_image]
        if images:
            return max(images, key=lambda topic: topic.count)
        if not found:
            raise self.error(f"there is no topic {name}")
        if found[0].type in VIDEO_PACKETS:
            raise self.error(f"topic {name} {video_advice(found[0])}")
        raise self.error(f"topic {name} is {found[0].type}, not {IMAGE} or {COMPRESSED_IMAGE}")

    def messages(
        self, topics: Collection[Topic], start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[Topic, int, Any]]:
        """Topic, log time and content of the messages of some topics, as the files have them.

        A message that cannot be deserialised is left out and counted in ``notes``.

        Args:
            topics: of ``self.topics``.
            start: log time in nanoseconds of the first message.
            stop: log time before which the last message was recorded.

        Raises:
            BagError: a file is damaged, or holds fewer messages than it says.
        """
        by_name = {(topic.name, topic.type): topic for topic in topics}
        count, broken = Counter(), {}
        chosen = [c for c in self.connections if (c.topic, c.msgtype) in by_name]
        for connection, log_time, data in self._read(chosen, start, stop):
            topic = by_name[connection.topic, connection.msgtype]
            count[topic] += 1
            try:
                message = deserialize(connection, data)
            except BagError as error:
                broken.setdefault(topic, []).append(f"the first at {log_time} ns: {error}")
                continue
            yield topic, log_time, message
        for topic, faults in broken.items():
            self.notes.append(
                f"left out: {len(faults)} messages of {topic.name}, {topic.type}: they are no such ones, {faults[0]}"
            )
        if start is None and stop is None and not self._recover:
            for topic in topics:
                if count[topic] != topic.count:
                    raise self.error(f"only {count[topic]} of {topic.count} messages of {topic.name} can be read")

    def qos(self, name: str) -> TopicQos | None:
        """What the recorded publisher of a topic offered; None where the bag does not say."""
        for connection in self.connections:
            for offered in getattr(connection.ext, "offered_qos_profiles", []) if connection.topic == name else []:
                reliable = offered.reliability == QosReliability.RELIABLE
                latched = offered.durability == QosDurability.TRANSIENT_LOCAL
                return TopicQos(
                    "reliable" if reliable else "best_effort",
                    "transient_local" if latched else "volatile",
                    offered.depth if offered.history == QosHistory.KEEP_LAST else 0,
                )
        return None

    def raw_messages(self) -> Iterator[Message]:
        """All messages of ``connections`` as the files have them: connection, log time and serialised message.

        Raises:
            BagError: a file is damaged.
        """
        return self._read(self.connections)

    def _read(
        self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
    ) -> Iterator[Message]:
        chosen = {connection.id for connection in connections}
        for (file, storage), numbers in zip(self._storages, self._numbers, strict=True):
            ids = [own for own, number in numbers.items() if number in chosen]
            if not ids:
                continue
            try:
                for connection, log_time, data in storage.messages(ids, start, stop):
                    shared = self.connections[numbers[connection.id]]
                    # Compressed one by one: CDR begins with a zero byte.
                    if data[: len(ZSTD)] == ZSTD and not is_ros1(shared):
                        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
                    yield shared, log_time, data
            except (DamagedError, zstandard.ZstdError) as error:
                raise self._damaged(file, error) from error
            except StorageError as error:
                raise BagError(f"{file}: {error}") from error


@functools.cache
def _deserializer(ros1: bool):
    """Deserialiser of fixed definitions, not of the bag's own.

    Image messages are alike in every distribution, and the definition of some unrelated topic cannot make the bag
    unreadable.
    """
    if ros1:
        return get_typestore(Stores.ROS1_NOETIC).deserialize_ros1
    return get_typestore(Stores.ROS2_JAZZY).deserialize_cdr


def deserialize(connection: Connection, data: bytes) -> Any:
    """A message from its serialised form, with the names of its fields in ROS 2 or, of ROS 1, in that.

    Raises:
        BagError: the bytes are no message of the connection's type.
    """
    try:
        return _deserializer(is_ros1(connection))(data, connection.msgtype)
    except Exception as error:
        # rosbags raises errors of many types on bytes that are none.
        raise BagError(f"{len(data)} bytes are no {connection.msgtype}: {error or type(error).__name__}") from error


def video_advice(topic: Topic) -> str:
    """What to do with a topic of video packets, as the end of a sentence that begins with its name."""
    transport = VIDEO_PACKETS[topic.type]
    return (
        f"holds the packets of a video ({topic.type}), which are no images one by one; republish them as images with"
        f" the {transport} transport (`ros2 run image_transport republish`) and record those"
    )


def list_topics(path: str | Path) -> list[Topic]:
    """Topics of a bag, by name.

    Raises:
        BagError: the path is missing, or no bag, or a damaged one.
    """
    with BagReader(path) as bag:
        return bag.topics


def bag_hash(path: str | Path) -> str:
    """Hash of all that a bag holds: sha256 over name and content of each of its files by name, hexadecimal.

    The name of the folder, or of a bag that is one file, does not matter.

    Raises:
        BagError: a file cannot be read.
    """
    path = Path(path)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    total = hashlib.sha256()
    try:
        for file in files:
            digest = hashlib.sha256()
            with file.open("rb") as content:
                while block := content.read(1 << 20):
                    digest.update(block)
            total.update(f"{digest.hexdigest()} {file.relative_to(path).as_posix()}\n".encode())
    except OSError as error:
        raise BagError(f"{error.filename} cannot be read: {error.strerror}") from error
    return total.hexdigest()
