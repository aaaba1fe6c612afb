"""Plays a drive's images into a topic, on time."""

import array
import time
from collections.abc import Callable

from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from seg_node.replay.bag import Drive, Frame

# As camera drivers publish: nothing waits for a slow subscriber.
_SENSOR_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


class Player:
    """Publishes the frames of a drive with their header stamps and frame ids untouched.

    Args:
        node: ROS node that gets the publisher.
        drive: what to play; all images are of one kind.
        topic: where to publish.
    """

    def __init__(self, node: Node, drive: Drive, topic: str):
        self._drive = drive
        kind = Image if drive.frames[0].kind == "image" else CompressedImage
        self._publisher = node.create_publisher(kind, topic, _SENSOR_QOS)

    @property
    def matched(self) -> bool:
        """Whether somebody subscribes."""
        return self._publisher.get_subscription_count() > 0

    def play(self, rate: float | None = None, after_frame: Callable[[int], None] | None = None) -> dict[int, int]:
        """Play the drive once.

        Frames are due at absolute times on a steady clock, so that delays do not add up. A frame that is overdue is
        published at once.

        Args:
            rate: Hz; None for the intervals at which the drive was recorded.
            after_frame: called after each frame with the number of frames published so far.

        Returns:
            ``time.monotonic_ns`` just before publishing, by header stamp in nanoseconds.
        """
        frames = self._drive.frames
        first = frames[0].log_time
        due = [round(i * 1e9 / rate) if rate else frame.log_time - first for i, frame in enumerate(frames)]
        published: dict[int, int] = {}
        message = to_message(frames[0])
        start = time.monotonic_ns()
        for i, frame in enumerate(frames):
            wait = start + due[i] - time.monotonic_ns()
            if wait > 0:
                time.sleep(wait / 1e9)
            published[frame.stamp] = time.monotonic_ns()
            self._publisher.publish(message)
            if i + 1 < len(frames):
                # Built while the next frame is not due yet: all of them at once would double the memory.
                message = to_message(frames[i + 1])
            if after_frame:
                after_frame(i + 1)
        return published


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
