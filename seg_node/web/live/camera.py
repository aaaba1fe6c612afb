"""Plays a drive in a loop as a camera would send it: at its recorded pace, stamped now."""

import dataclasses
import threading
import time

from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

from seg_node.bags.drive import Drive
from seg_node.rig.player import publisher_qos, to_message
from seg_node.rig.schedule import RECORDED, make_schedule


class LoopedCamera:
    """A thread that publishes; a context manager that ends it.

    Args:
        node: gets the publisher.
        drive: what to play.
        topic: where to publish.
        offset: seconds by which each frame comes later, so that several cameras do not send at once.

    Raises:
        ValueError: the drive has no pace, see ``make_schedule``.
    """

    def __init__(self, node: Node, drive: Drive, topic: str, offset: float = 0.0):
        self._node, self._drive, self._offset = node, drive, offset
        once, twice = make_schedule(drive, RECORDED), make_schedule(drive, RECORDED, loops=2)
        self._due = once.due
        self._period = twice.due[len(once.due)] or 10**9
        kind = Image if drive.frames[0].kind == "image" else CompressedImage
        self._publisher = node.create_publisher(kind, topic, publisher_qos(drive))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, name="camera", daemon=True)

    def __enter__(self) -> "LoopedCamera":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _play(self) -> None:
        begun = time.monotonic_ns() + round(1e9 * self._offset)
        while True:
            for due, frame in zip(self._due, self._drive.frames, strict=True):
                if self._stop.wait(max((begun + due - time.monotonic_ns()) / 1e9, 0.0)):
                    return
                stamp = self._node.get_clock().now().nanoseconds
                self._publisher.publish(to_message(dataclasses.replace(frame, stamp=stamp)))
            begun += self._period
