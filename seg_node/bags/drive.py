"""Reading and writing recorded drives without ROS: rosbag2 (sqlite3, mcap) and ROS 1 bags, through ``rosbags``."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from rosbags import rosbag1, rosbag2
from rosbags.interfaces import Connection, QosDurability, QosHistory, QosReliability
from rosbags.typesys import Stores, get_typestore

from seg_node.bags.salvage import readable_topics, repair
from seg_node.core.taxonomy import NO_LABEL, Category
from seg_node.core.timing import stamp_ns

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"

IMAGE_TOPIC = "/camera/image/compressed"
RAW_IMAGE_TOPIC = "/camera/image"
CAMERA_INFO_TOPIC = "/camera/camera_info"
MASK_TOPIC = "/camera/mask/compressed"


class BagError(ValueError):
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
class RawImage:
    """Fields of ``sensor_msgs/Image`` besides the header."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    """Bytes of a row."""
    data: np.ndarray
    """uint8 [height * step]."""


@dataclass(frozen=True)
class CompressedImage:
    """Fields of ``sensor_msgs/CompressedImage`` besides the header."""

    format: str
    data: np.ndarray
    """uint8 [N], the file's bytes."""


@dataclass(frozen=True)
class Frame:
    """One image message of a drive."""

    log_time: int
    """When the recorder received it, in nanoseconds."""
    stamp: int
    """Header stamp, in nanoseconds."""
    frame_id: str
    image: RawImage | CompressedImage

    @property
    def kind(self) -> str:
        """``image`` or ``compressed``."""
        return "image" if isinstance(self.image, RawImage) else "compressed"


@dataclass(frozen=True)
class CameraInfo:
    """Calibration of the camera as ``sensor_msgs/CameraInfo`` gives it."""

    height: int
    width: int
    k: np.ndarray
    """float64 [9], the row-major intrinsic matrix: fx 0 cx, 0 fy cy, 0 0 1, in pixels."""
    distortion_model: str = "plumb_bob"
    d: np.ndarray = field(default_factory=lambda: np.zeros(5))
    """float64 [N], the model's coefficients."""
    r: np.ndarray = field(default_factory=lambda: np.eye(3).ravel())
    """float64 [9], rectification."""
    p: np.ndarray | None = None
    """float64 [12], projection; made from ``k`` where None."""


class Masks(Mapping[int, np.ndarray]):
    """Ground truth by header stamp in nanoseconds: uint8 [H, W], categories and 255 (no label), decoded on access."""

    def __init__(self, images: dict[int, RawImage | CompressedImage]):
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[int]:
        return iter(self._images)

    def __contains__(self, stamp: object) -> bool:
        return stamp in self._images

    def __getitem__(self, stamp: int) -> np.ndarray:
        """Decode one mask.

        Raises:
            KeyError: no mask has this stamp.
            BagError: the image is no single-channel 8-bit image, or a value is no category.
        """
        image = self._images[stamp]
        if isinstance(image, CompressedImage):
            mask = cv2.imdecode(image.data, cv2.IMREAD_UNCHANGED)
        elif image.encoding in ("mono8", "8UC1") and image.data.size >= image.height * image.step:
            rows = image.data[: image.height * image.step].reshape(image.height, image.step)
            mask = np.ascontiguousarray(rows[:, : image.width])
        else:
            mask = None
        if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
            raise BagError(f"the mask stamped {stamp} ns is no 8-bit single-channel image; expected PNG or mono8")
        unknown = mask[(mask > max(Category)) & (mask != NO_LABEL)]
        if unknown.size:
            raise BagError(f"the mask stamped {stamp} ns holds {unknown[0]}; expected 0..{max(Category)} or {NO_LABEL}")
        return mask


@dataclass(frozen=True)
class TopicQos:
    """The part of a recorded publisher's QoS that a player can have, too."""

    reliability: str
    """``reliable`` or ``best_effort``."""
    durability: str
    """``volatile`` or ``transient_local``."""
    depth: int
    """0 where everything was kept."""


@dataclass(frozen=True)
class Drive:
    """The images of one camera of a bag, in memory, in the order in which they were recorded."""

    path: Path
    topic: str
    frames: list[Frame]
    camera_info: CameraInfo | None
    """The bag's first message of the camera's ``camera_info`` topic."""
    mask_topic: str | None
    masks: Masks
    """Ground truth; empty where the bag has none."""
    qos: "TopicQos | None" = None
    """What the camera's driver offered; None where the bag does not say."""

    @property
    def duration(self) -> float:
        """From the first frame to the last, by log time, in seconds."""
        return (self.frames[-1].log_time - self.frames[0].log_time) / 1e9

    @property
    def rate(self) -> float:
        """Mean rate in Hz; 0 where all frames share one time."""
        return (len(self.frames) - 1) / self.duration if self.duration > 0 else 0.0


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


def open_drive(
    path: str | Path,
    image_topic: str | None = None,
    mask_topic: str | None = None,
    start: float = 0.0,
    duration: float | None = None,
) -> Drive:
    """Load one camera's images of a bag into memory.

    Header stamps may repeat or go backward. A stamp that several frames or several masks bear has no ground truth: it
    does not say which mask is whose.

    Args:
        path: rosbag2 folder, or one ``.mcap``, ``.db3`` or (ROS 1) ``.bag`` file.
        image_topic: topic of type Image or CompressedImage; None takes the only one that is no mask.
        mask_topic: topic with ground truth, category ids as mono8 Image or PNG CompressedImage; None takes the only
            image topic that has ``mask`` as a part of its name, if there is one, and in a bag of several cameras or
            masks only one in the camera's namespace.
        start: seconds by log time from the bag's first message of any topic; frames before are left out.
        duration: seconds from there; None goes on to the end.

    Raises:
        BagError: the path is missing, no bag or a damaged one; a topic is missing, ambiguous, without messages or not
            of an image type; there is no frame between ``start`` and its end. The message lists what the bag holds.
    """
    if start < 0 or (duration is not None and duration <= 0):
        raise BagError(f"start must be at least 0 s and duration more than 0 s, not {start:g} and {duration}")
    with BagReader(path) as bag:
        image_topic = bag.topic(image_topic).name if image_topic else only_image_topic(bag)
        mask_topic = bag.topic(mask_topic).name if mask_topic else _mask_topic(bag.topics, image_topic)
        info_topic = _camera_info_topic(bag.topics, image_topic)

        begin = bag.start_time + round(start * 1e9) if start else None
        end = None if duration is None else bag.start_time + round((start + duration) * 1e9)
        frames = [
            Frame(log_time, stamp_ns(message.header), message.header.frame_id, _image(msgtype, message))
            for _, msgtype, log_time, message in bag.messages({image_topic}, begin, end)
        ]
        if not frames and (begin or end):
            raise bag.error(f"topic {image_topic} has no messages from {start:g} s" + f" for {duration} s" * bool(end))
        if not frames:
            raise bag.error(f"topic {image_topic} has no messages")
        stamps = Counter(frame.stamp for frame in frames)
        truth: dict[int, RawImage | CompressedImage] = {}
        camera_info = None
        for topic, msgtype, _, message in bag.messages({mask_topic, info_topic} - {None}):
            if topic == info_topic:
                camera_info = camera_info or _camera_info(message)
                continue
            stamp = stamp_ns(message.header)
            if stamp in truth:
                stamps[stamp] += 1
            if stamps[stamp] == 1:
                truth[stamp] = _image(msgtype, message)
        truth = {stamp: image for stamp, image in truth.items() if stamps[stamp] == 1}
        qos = bag.qos(image_topic)
    frames.sort(key=lambda frame: frame.log_time)
    return Drive(Path(path), image_topic, frames, camera_info, mask_topic, Masks(truth), qos)


def open_drives(
    path: str | Path, topics: Sequence[str], start: float = 0.0, duration: float | None = None
) -> list[Drive]:
    """Load several cameras of a bag; see ``open_drive``."""
    return [open_drive(path, topic, start=start, duration=duration) for topic in topics]


def only_image_topic(bag: BagReader) -> str:
    """Name of the one camera topic that a bag holds.

    Raises:
        BagError: there is none, or there are several.
    """
    images = [topic.name for topic in bag.topics if topic.is_image and not topic.is_mask and not topic.is_output]
    if not images:
        raise bag.error("there is no image topic")
    if len(images) > 1:
        raise bag.error(f"there are {len(images)} image topics ({', '.join(images)}), choose one")
    return images[0]


def _mask_topic(topics: list[Topic], image_topic: str) -> str | None:
    masks = [topic.name for topic in topics if topic.is_mask and topic.name != image_topic]
    cameras = [topic.name for topic in topics if topic.is_image and not topic.is_mask and not topic.is_output]
    if len(masks) > 1 or len(cameras) > 1:
        # /left/mask/compressed belongs to /left/image/compressed.
        masks = [name for name in masks if image_topic.startswith(name.rpartition("/mask")[0] + "/")]
    return masks[0] if len(masks) == 1 else None


def _camera_info_topic(topics: list[Topic], image_topic: str) -> str | None:
    """The ``camera_info`` beside the image topic, as image_transport places it, or the bag's only one."""
    names = [topic.name for topic in topics if topic.type == CAMERA_INFO]
    beside = [str(parent / "camera_info") for parent in PurePosixPath(image_topic).parents]
    return next((name for name in beside if name in names), names[0] if len(names) == 1 else None)


def _image(msgtype: str, message: object) -> RawImage | CompressedImage:
    # Copies: the arrays that rosbags returns may be views that keep whole chunks of the file in memory.
    data = np.array(message.data, np.uint8)
    if msgtype == COMPRESSED_IMAGE:
        return CompressedImage(message.format, data)
    m = message
    return RawImage(m.height, m.width, m.encoding, int(m.is_bigendian), m.step, data)


def _camera_info(message: object) -> CameraInfo:
    # ROS 1 and ROS 2 differ in the case of these names.
    d, k, r, p = (
        np.array(getattr(message, name) if hasattr(message, name) else getattr(message, name.upper()))
        for name in "dkrp"
    )
    return CameraInfo(message.height, message.width, k, message.distortion_model, d, r, p)


class BagWriter:
    """Writes one camera's drive as a rosbag2 folder; a context manager. Times are in nanoseconds.

    A bag whose writing fails is removed.

    Args:
        path: folder to create.
        image_topic: for the images, compressed or raw.
        camera_info_topic: for the calibration.
        mask_topic: for the ground truth.
        frame_id: of every header.
        quality: of the JPEG images, 1..100.
        storage: ``mcap`` or ``sqlite3``.

    Raises:
        BagError: the path exists, or the quality is out of range.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        image_topic: str = IMAGE_TOPIC,
        camera_info_topic: str = CAMERA_INFO_TOPIC,
        mask_topic: str = MASK_TOPIC,
        frame_id: str = "camera",
        quality: int = 90,
        storage: str = "mcap",
    ):
        self.path = Path(path)
        if not 1 <= quality <= 100:
            raise BagError(f"the JPEG quality must be in 1..100, not {quality}")
        if self.path.exists():
            raise BagError(f"{self.path} exists already; remove it or choose another name")
        self.image_topic, self.camera_info_topic, self.mask_topic = image_topic, camera_info_topic, mask_topic
        self.frame_id = frame_id
        self.quality = quality
        self._store = get_typestore(Stores.ROS2_JAZZY)
        self._writer = rosbag2.Writer(self.path, version=9, storage_plugin=rosbag2.StoragePlugin[storage.upper()])
        self._connections: dict[str, object] = {}

    def __enter__(self) -> "BagWriter":
        try:
            self._writer.open()
        except OSError as error:
            raise BagError(f"{self.path} cannot be created: {error.strerror}") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if kind is None:
            self._writer.close()
        else:
            self._writer.abort()
            shutil.rmtree(self.path)

    def write_image(self, stamp: int, bgr: np.ndarray) -> None:
        """Write a JPEG CompressedImage from uint8 [H, W, 3] BGR."""
        data = _encode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        self._write_compressed(self.image_topic, stamp, "bgr8; jpeg compressed bgr8", data)

    def write_raw_image(self, stamp: int, pixels: np.ndarray, encoding: str = "bgr8") -> None:
        """Write an Image from uint8 [H, W] or [H, W, C]; ``encoding`` must fit the array."""
        height, width = pixels.shape[:2]
        message = self._type(IMAGE)(
            header=self._header(stamp),
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=pixels[0].size,
            data=np.ascontiguousarray(pixels).ravel(),
        )
        self._write(self.image_topic, IMAGE, stamp, message)

    def write_mask(self, stamp: int, mask: np.ndarray) -> None:
        """Write ground truth, uint8 [H, W] of categories, as a PNG CompressedImage (lossless)."""
        # Level 9 pays: a mask shrinks by a fifth against the default, and is written once.
        self._write_compressed(self.mask_topic, stamp, "mono8; png compressed mono8", _encode(".png", mask, _PNG))

    def write_camera_info(self, stamp: int, info: CameraInfo) -> None:
        """Write the camera's calibration."""
        k = np.asarray(info.k, np.float64)
        p = np.column_stack([k.reshape(3, 3), np.zeros(3)]).ravel() if info.p is None else info.p
        roi = self._type("sensor_msgs/msg/RegionOfInterest")(0, 0, 0, 0, False)
        d, r, p = (np.asarray(values, np.float64) for values in (info.d, info.r, p))
        message = self._type(CAMERA_INFO)(
            self._header(stamp), info.height, info.width, info.distortion_model, d, k, r, p, 0, 0, roi
        )
        self._write(self.camera_info_topic, CAMERA_INFO, stamp, message)

    def _write_compressed(self, topic: str, stamp: int, image_format: str, data: np.ndarray) -> None:
        message = self._type(COMPRESSED_IMAGE)(self._header(stamp), image_format, data)
        self._write(topic, COMPRESSED_IMAGE, stamp, message)

    def _write(self, topic: str, msgtype: str, stamp: int, message: object) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, msgtype, typestore=self._store)
        self._writer.write(self._connections[topic], stamp, self._store.serialize_cdr(message, msgtype))

    def _header(self, stamp: int) -> object:
        time = self._type("builtin_interfaces/msg/Time")(*divmod(stamp, 10**9))
        return self._type("std_msgs/msg/Header")(time, self.frame_id)

    def _type(self, name: str) -> type:
        return self._store.types[name]


_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 9]


def _encode(extension: str, pixels: np.ndarray, options: list[int]) -> np.ndarray:
    encoded, data = cv2.imencode(extension, pixels, options)
    if not encoded:
        raise BagError(f"an image of shape {pixels.shape} and type {pixels.dtype} cannot be encoded as {extension}")
    return data.ravel()
