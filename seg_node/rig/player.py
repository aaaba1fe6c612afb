"""Plays a drive's images into a topic, on time."""

import array
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from seg_node.bags.drive import Drive, Frame
from seg_node.rig.schedule import Schedule
from seg_node.ros.transfer.path import choose, publish_serialized

_DEPTH = 5
_CLOCK_S = 0.025
"""Seconds between two messages on ``/clock``, as ``ros2 bag play`` does it by default (40 Hz)."""
_MEMORY_SHARE = 0.25
"""Share of the free memory that messages built in advance may take."""


@dataclass(frozen=True)
class Sent:
    """One publication. Times are ``time.monotonic_ns``."""

    frame: int
    """Index in ``Drive.frames``."""
    due: int
    at: int
    """Just before it was published."""


class Player:
    """Publishes the frames of a drive with their header stamps and frame ids untouched.

    Messages are serialised in advance, as far as a quarter of the free memory goes, and otherwise each one after the
    frame before it was published.

    Args:
        node: ROS node that gets the publishers.
        drive: what to play; all images are of one kind.
        topic: where to publish.
        qos: ``recorded`` (as the camera driver's that the bag remembers, best effort where it does not),
            ``best_effort`` or ``reliable``.
        clock: publish ``/clock``, too: the log time of the frame that is due.
        alongside: other drives and their topics, each played at the same times; a shorter one starts again.
    """

    def __init__(
        self,
        node: Node,
        drive: Drive,
        topic: str,
        qos: str = "recorded",
        clock: bool = False,
        alongside: Sequence[tuple[Drive, str]] = (),
    ):
        choose(node)
        self.drive = drive
        self.qos = publisher_qos(drive, qos)
        """Profile of the publisher."""
        self._clock = node.create_publisher(Clock, "/clock", 10) if clock else None
        self._tracks = []
        room = _MEMORY_SHARE * _free_memory()
        for one, name in [(drive, topic), *alongside]:
            size = sum(frame.image.data.nbytes for frame in one.frames)
            built = [serialized(frame) for frame in one.frames] if size <= room else None
            room -= size if built else 0
            kind = Image if one.frames[0].kind == "image" else CompressedImage
            self._tracks.append((one.frames, built, node.create_publisher(kind, name, publisher_qos(one, qos))))

    @property
    def matched(self) -> bool:
        """Whether somebody subscribes."""
        return self._tracks[0][2].get_subscription_count() > 0

    def play(self, schedule: Schedule, after_frame: Callable[[int], None] | None = None) -> list[Sent]:
        """Play as planned. A frame that is late is published at once, and those after it are still due when they were.

        Args:
            schedule: of ``make_schedule`` for the drive.
            after_frame: called after each frame with the number of frames published.

        Returns:
            Every publication, in order.
        """
        sent: list[Sent] = []
        log_times = [self.drive.frames[index].log_time for index in schedule.frames]
        start = time.monotonic_ns()
        for i, index in enumerate(schedule.frames):
            # Built while it is not due yet.
            messages = [self._message(track, index) for track in self._tracks]
            due = start + schedule.due[i]
            self._wait(start, i, schedule.due, log_times)
            if self._clock:
                self._tick(log_times[i])
            sent.append(Sent(index, due, time.monotonic_ns()))
            for (_, _, publisher), message in zip(self._tracks, messages, strict=True):
                publish_serialized(publisher, message)
            if after_frame:
                after_frame(i + 1)
        return sent

    def _message(self, track: tuple, index: int) -> np.ndarray:
        frames, built, _ = track
        index %= len(frames)
        return built[index] if built else serialized(frames[index])

    def _wait(self, start: int, i: int, due: Sequence[int], log_times: Sequence[int]) -> None:
        """Until frame ``i`` is due, with the clock going on from the frame before."""
        until = start + due[i]
        while (left := until - time.monotonic_ns()) > 0:
            if self._clock and i:
                passed = (time.monotonic_ns() - start - due[i - 1]) / (due[i] - due[i - 1])
                step = log_times[i] - log_times[i - 1]
                # At the start of a loop the clock stands until it jumps back.
                self._tick(log_times[i - 1] + round(min(max(passed, 0.0), 1.0) * max(step, 0)))
            time.sleep(min(left / 1e9, _CLOCK_S) if self._clock else left / 1e9)

    def _tick(self, nanoseconds: int) -> None:
        sec, nanosec = divmod(nanoseconds, 10**9)
        self._clock.publish(Clock(clock=Time(sec=sec, nanosec=nanosec)))


def publisher_qos(drive: Drive, qos: str = "recorded") -> QoSProfile:
    """QoS to publish a drive with; see ``Player``."""
    reliability, durability, depth = "best_effort", "volatile", _DEPTH
    if qos != "recorded":
        reliability = qos
    elif drive.qos:
        reliability, durability, depth = drive.qos.reliability, drive.qos.durability, drive.qos.depth or _DEPTH
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy[reliability.upper()],
        durability=DurabilityPolicy[durability.upper()],
    )


def serialized(frame: Frame) -> np.ndarray:
    """The serialised ROS message of a frame, uint8 [size]."""
    return np.frombuffer(serialize_message(to_message(frame)), np.uint8)


def to_message(frame: Frame) -> Image | CompressedImage:
    """The ROS message of a frame."""
    sec, nanosec = divmod(frame.stamp, 10**9)
    header = Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=frame.frame_id)
    image = frame.image
    # rclpy takes an array of type B as it is, and checks and converts anything else byte by byte.
    data = array.array("B", image.data.tobytes())
    if frame.kind == "compressed":
        return CompressedImage(header=header, format=image.format, data=data)
    return Image(
        header=header,
        height=image.height,
        width=image.width,
        encoding=image.encoding,
        is_bigendian=image.is_bigendian,
        step=image.step,
        data=data,
    )


def _free_memory() -> int:
    """Bytes that can be taken without swapping; 1 GiB where the system does not say."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 2**30
