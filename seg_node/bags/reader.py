"""Reading bags without ROS: rosbag2 (sqlite3, mcap) and ROS 1 bags, through ``rosbags``."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rosbags import rosbag1, rosbag2
from rosbags.interfaces import Connection, QosDurability, QosHistory, QosReliability
from rosbags.typesys import Stores, get_typestore

from seg_node.bags.salvage import readable_topics, repair
from seg_node.core.errors import UserError

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"


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

    def __str__(self) -> str:
        return f"{self.name} ({self.type}, {self.count} messages)"

    @property
    def is_image(self) -> bool:
        return self.type in (IMAGE, COMPRESSED_IMAGE)

    @property
    def is_output(self) -> bool:
        """Whether a part of the name says that the images come from a segmentation node: no camera, no ground truth."""
        return self.is_image and "segmentation" in PurePosixPath(self.name).parts

    @property
    def is_mask(self) -> bool:
        """Whether a part of the name says that the images are ground truth."""
        return self.is_image and not self.is_output and "mask" in PurePosixPath(self.name).parts


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

    Attributes:
        topics: by name.
        ros1: whether it is a bag of ROS 1.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.exists():
            raise BagError(f"{self.path} does not exist")
        if self.path.is_dir() and not (self.path / "metadata.yaml").is_file():
            raise BagError(
                f"{self.path} is no whole rosbag2 folder: it has no metadata.yaml (`{repair(self.path)}` makes one);"
                f" {self._salvaged()}"
            )
        if self.path.is_file() and self.path.suffix not in (".bag", ".mcap", ".db3"):
            raise BagError(f"{self.path} is no bag; expected a rosbag2 folder or a .mcap, .db3 or .bag file")
        # Fixed definitions instead of the bag's own: image messages are alike in every distribution, and the
        # definition of some unrelated topic cannot make the bag unreadable.
        self.ros1 = self.path.suffix == ".bag" and self.path.is_file()
        if self.ros1:
            self._deserialize = get_typestore(Stores.ROS1_NOETIC).deserialize_ros1
            reader = rosbag1.Reader
        else:
            self._deserialize = get_typestore(Stores.ROS2_JAZZY).deserialize_cdr
            reader = rosbag2.Reader
        try:
            self._reader = reader(self.path)
            self._reader.open()
            # In a damaged database a topic may have no name.
            topics = sorted(self._reader.topics.items())
        except Exception as error:
            raise self._broken(error) from error
        self.topics = [Topic(name, info.msgtype or "several types", info.msgcount) for name, info in topics]

    def __enter__(self) -> "BagReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def _broken(self, error: Exception) -> BagError:
        # rosbags raises errors of many types on damaged files, failed assertions and struct.error among them.
        reason = str(error).rstrip(".") or type(error).__name__
        return BagError(
            f"{self.path} cannot be read, it is no bag or was cut off: {reason}; {self._salvaged()}."
            f" If it was cut off, `{repair(self.path)}` may repair it"
        )

    def _salvaged(self) -> str:
        topics = [Topic(name, *about) for name, about in sorted(readable_topics(self.path).items())]
        return f"as far as it can be read it holds {'; '.join(map(str, topics)) or 'nothing'}"

    def error(self, problem: str) -> BagError:
        """An error that ends with what the bag holds."""
        held = "; ".join(map(str, self.topics)) or "no topics"
        return BagError(f"{self.path}: {problem}; the bag holds {held}")

    def topic(self, name: str) -> Topic:
        for topic in self.topics:
            if topic.name == name:
                if not topic.is_image:
                    raise self.error(f"topic {name} is {topic.type}, not {IMAGE} or {COMPRESSED_IMAGE}")
                return topic
        raise self.error(f"there is no topic {name}")

    def messages(
        self, names: set[str], start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[str, str, int, Any]]:
        """Topic, type, log time and content of the messages of some topics, in the order of recording.

        Args:
            names: of the topics.
            start: log time in nanoseconds of the first message.
            stop: log time before which the last message was recorded.
        """
        connections = [c for c in self._reader.connections if c.topic in names]
        if not connections:
            return
        count = 0
        try:
            for connection, log_time, data in self._reader.messages(connections, start, stop):
                # SQLite keeps values of any type in any column.
                if not isinstance(log_time, int):
                    raise ValueError(f"a log time is {log_time!r:.40}")
                yield connection.topic, connection.msgtype, log_time, self._deserialize(data, connection.msgtype)
                count += 1
        except Exception as error:
            raise self._broken(error) from error
        counted = sum(topic.count for topic in self.topics if topic.name in names)
        if start is None and stop is None and count < counted:
            raise self.error(f"only {count} of {counted} messages of {', '.join(sorted(names))} can be read")

    @property
    def start_time(self) -> int:
        """Log time of the first message of all topics, in nanoseconds."""
        return self._reader.start_time

    def qos(self, name: str) -> TopicQos | None:
        """What the recorded publisher of a topic offered; None where the bag does not say."""
        for connection in self._reader.connections:
            for offered in getattr(connection.ext, "offered_qos_profiles", []) if connection.topic == name else []:
                reliable = offered.reliability == QosReliability.RELIABLE
                latched = offered.durability == QosDurability.TRANSIENT_LOCAL
                return TopicQos(
                    "reliable" if reliable else "best_effort",
                    "transient_local" if latched else "volatile",
                    offered.depth if offered.history == QosHistory.KEEP_LAST else 0,
                )
        return None

    @property
    def connections(self) -> list[Connection]:
        """Topics as ``rosbags`` gives them, with their message definitions."""
        return self._reader.connections

    def raw_messages(self) -> Iterator[tuple[Connection, int, bytes]]:
        """All messages in the order of recording: topic, log time in nanoseconds and serialised message."""
        try:
            yield from self._reader.messages()
        except Exception as error:
            raise self._broken(error) from error

    def deserialize(self, connection: Connection, data: bytes) -> Any:
        """A message from its serialised form, with the names of its fields in ROS 2 or, in a bag of it, ROS 1."""
        try:
            return self._deserialize(data, connection.msgtype)
        except Exception as error:
            raise self._broken(error) from error


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
