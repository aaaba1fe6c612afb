"""A recorded drive in memory: the images of one camera of a bag, with calibration and ground truth."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from seg_node.bags.reader import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    VIDEO_PACKETS,
    BagError,
    BagReader,
    Topic,
    TopicQos,
    video_advice,
)
from seg_node.core.images import EncodedPixels, RawPixels
from seg_node.core.taxonomy import EIGHT, NO_LABEL
from seg_node.core.timing import stamp_ns


@dataclass(frozen=True)
class Frame:
    """One image message of a drive."""

    log_time: int
    """When the recorder received it, in nanoseconds."""
    stamp: int
    """Header stamp, in nanoseconds."""
    frame_id: str
    image: RawPixels | EncodedPixels

    @property
    def kind(self) -> str:
        """``image`` or ``compressed``."""
        return "image" if isinstance(self.image, RawPixels) else "compressed"


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
    """Ground truth by header stamp in nanoseconds: uint8 [H, W], categories and 255 (no label), decoded on access.

    Args:
        images: by header stamp.
        count: number of categories.
    """

    def __init__(self, images: dict[int, RawPixels | EncodedPixels], count: int = len(EIGHT)):
        self._images, self._count = images, count

    def of(self, count: int) -> "Masks":
        """The same as ground truth of so many categories."""
        return Masks(self._images, count)

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
        if isinstance(image, EncodedPixels):
            mask = cv2.imdecode(image.data, cv2.IMREAD_UNCHANGED)
        elif image.encoding in ("mono8", "8UC1") and image.data.size >= image.height * image.step:
            rows = image.data[: image.height * image.step].reshape(image.height, image.step)
            mask = np.ascontiguousarray(rows[:, : image.width])
        else:
            mask = None
        if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
            raise BagError(f"the mask stamped {stamp} ns is no 8-bit single-channel image; expected PNG or mono8")
        unknown = mask[(mask >= self._count) & (mask != NO_LABEL)]
        if unknown.size:
            last = self._count - 1
            raise BagError(f"the mask stamped {stamp} ns holds {unknown[0]}; expected 0..{last} or {NO_LABEL}")
        return mask


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
    qos: TopicQos | None = None
    """What the camera's driver offered; None where the bag does not say."""
    notes: tuple[str, ...] = ()
    """What was left out of the bag, and what is odd about it, for people."""

    @property
    def duration(self) -> float:
        """From the first frame to the last, by log time, in seconds."""
        return (self.frames[-1].log_time - self.frames[0].log_time) / 1e9

    @property
    def rate(self) -> float:
        """Mean rate in Hz; 0 where all frames share one time."""
        return (len(self.frames) - 1) / self.duration if self.duration > 0 else 0.0


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

    Example:
        >>> drive = open_drive("rosbags/synthetic_drive", duration=2.0)
        >>> drive.topic, drive.frames[0].kind, round(drive.rate)
        ('/camera/image/compressed', 'compressed', 30)
        >>> first = drive.frames[0]
        >>> drive.masks[first.stamp].shape  # the ground truth of that frame
        (360, 640)
    """
    if start < 0 or (duration is not None and duration <= 0):
        raise BagError(f"start must be at least 0 s and duration more than 0 s, not {start:g} and {duration}")
    with BagReader(path) as bag:
        camera = bag.topic(image_topic) if image_topic else only_image_topic(bag)
        truth_topic = bag.topic(mask_topic) if mask_topic else _mask_topic(bag.topics, camera.name)
        info_topic = _camera_info_topic(bag.topics, camera.name)

        begin = bag.start_time + round(start * 1e9) if start else None
        end = None if duration is None else bag.start_time + round((start + duration) * 1e9)
        frames = [
            Frame(log_time, stamp_ns(message.header), message.header.frame_id, _image(topic, message))
            for topic, log_time, message in bag.messages([camera], begin, end)
        ]
        if not frames and camera.count and (begin or end):
            raise bag.error(f"topic {camera.name} has no messages from {start:g} s" + f" for {duration} s" * bool(end))
        if not frames:
            reason = "; ".join(bag.notes)
            raise bag.error(f"topic {camera.name} has no messages" + f" ({reason})" * bool(reason))
        stamps = Counter(frame.stamp for frame in frames)
        truth: dict[int, RawPixels | EncodedPixels] = {}
        camera_info = None
        for topic, _, message in bag.messages([topic for topic in (truth_topic, info_topic) if topic]):
            if topic == info_topic:
                camera_info = camera_info or _camera_info(message)
                continue
            stamp = stamp_ns(message.header)
            if stamp in truth:
                stamps[stamp] += 1
            if stamps[stamp] == 1:
                truth[stamp] = _image(topic, message)
        truth = {stamp: image for stamp, image in truth.items() if stamps[stamp] == 1}
        qos = bag.qos(camera.name)
    frames.sort(key=lambda frame: frame.log_time)
    mask_name = truth_topic.name if truth_topic else None
    return Drive(Path(path), camera.name, frames, camera_info, mask_name, Masks(truth), qos, tuple(bag.notes))


def open_drives(
    path: str | Path, topics: Sequence[str], start: float = 0.0, duration: float | None = None
) -> list[Drive]:
    """Load several cameras of a bag; see ``open_drive``."""
    return [open_drive(path, topic, start=start, duration=duration) for topic in topics]


def only_image_topic(bag: BagReader) -> Topic:
    """The one camera topic that a bag holds; topics without a message do not count where others have some.

    Raises:
        BagError: there is none, or there are several.
    """
    cameras = _cameras(bag.topics)
    if not cameras:
        videos = [topic for topic in bag.topics if topic.type in VIDEO_PACKETS]
        advice = f", but {videos[0].name} {video_advice(videos[0])}" if videos else ""
        raise bag.error(f"there is no image topic{advice}")
    if len(cameras) > 1:
        names = ", ".join(topic.name for topic in cameras)
        raise bag.error(f"there are {len(cameras)} image topics ({names}), choose one")
    return cameras[0]


def _cameras(topics: list[Topic]) -> list[Topic]:
    """Image topics of cameras; those without a message, and those of distances, only where there are no others.

    A recorder that takes all topics takes those, too, that image_transport announces and nobody has ever asked for.
    """
    cameras = [topic for topic in topics if topic.is_image and not topic.is_mask and not topic.is_output]
    cameras = [topic for topic in cameras if topic.count] or cameras
    return [topic for topic in cameras if not topic.is_depth] or cameras


def _mask_topic(topics: list[Topic], image_topic: str) -> Topic | None:
    masks = [topic for topic in topics if topic.is_mask and topic.count and topic.name != image_topic]
    if len(masks) > 1 or len(_cameras(topics)) > 1:
        # /left/mask/compressed belongs to /left/image/compressed.
        masks = [topic for topic in masks if image_topic.startswith(topic.name.rpartition("/mask")[0] + "/")]
    return masks[0] if len(masks) == 1 else None


def _camera_info_topic(topics: list[Topic], image_topic: str) -> Topic | None:
    """The ``camera_info`` beside the image topic, as image_transport places it, or the bag's only one."""
    infos = {topic.name: topic for topic in topics if topic.type == CAMERA_INFO and topic.is_ros}
    beside = [str(parent / "camera_info") for parent in PurePosixPath(image_topic).parents]
    only = next(iter(infos.values())) if len(infos) == 1 else None
    return next((infos[name] for name in beside if name in infos), only)


def _image(topic: Topic, message: object) -> RawPixels | EncodedPixels:
    # Copies: the arrays that rosbags returns may be views that keep whole chunks of the file in memory.
    data = np.array(message.data, np.uint8)
    if topic.type == COMPRESSED_IMAGE:
        return EncodedPixels(message.format, data)
    m = message
    return RawPixels(m.height, m.width, m.encoding, int(m.is_bigendian), m.step, data)


def _camera_info(message: object) -> CameraInfo:
    # ROS 1 and ROS 2 differ in the case of these names.
    d, k, r, p = (
        np.array(getattr(message, name) if hasattr(message, name) else getattr(message, name.upper()))
        for name in "dkrp"
    )
    return CameraInfo(message.height, message.width, k, message.distortion_model, d, r, p)
