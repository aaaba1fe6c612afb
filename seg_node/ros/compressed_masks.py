"""Masks as PNG images, for those who are on another machine."""

import threading

import cv2
import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher

from seg_node.ros.transfer.path import publish_serialized
from seg_node.ros.transfer.serialized_image import serialized_compressed

FORMAT = "mono8; png compressed "
"""Format of the messages, as ``compressed_image_transport`` writes it for a grey image and its subscribers read it."""

# Runs of one value are what a mask consists of: a third of the default's size in half as much time again.
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]


class CompressedMasks:
    """Compresses masks in a thread of its own, so that nobody waits for it; while one is in work, the newest waits.

    Args:
        node: for its log.
        publisher: of ``sensor_msgs/CompressedImage``; nothing is done while it has no subscriber.
    """

    def __init__(self, node: Node, publisher: Publisher):
        self._node = node
        self._publisher = publisher
        self._waiting: tuple[bytes, np.ndarray] | None = None
        self._stopped = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="compressed masks", daemon=True)
        self._thread.start()

    def offer(self, header: bytes, mask: np.ndarray) -> None:
        """Take a mask to publish, in the place of one that still waits.

        Args:
            header: of the frame, as ``seg_node.ros.transfer.serialized_image.SerializedImage.header``.
            mask: uint8 [H, W]; not changed by anybody any more.
        """
        if self._publisher.get_subscription_count() > 0:
            with self._news:
                self._waiting = (header, mask)
                self._news.notify()

    def stop(self) -> None:
        """Publish what waits, and end."""
        with self._news:
            self._stopped = True
            self._news.notify()
        self._thread.join()

    def _take(self) -> tuple[bytes, np.ndarray] | None:
        with self._news:
            self._news.wait_for(lambda: self._waiting is not None or self._stopped)
            taken, self._waiting = self._waiting, None
            return taken

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            header, mask = taken
            try:
                publish_serialized(self._publisher, serialized_compressed(_png(mask), FORMAT, header))
            except Exception as error:
                # A middleware that does not take one mask may take the next; a context that has ended takes none.
                if self._node.context.ok():
                    reason = f"{self._publisher.topic_name}: {error}"
                    self._node.get_logger().warning(reason, throttle_duration_sec=1.0)


def _png(mask: np.ndarray) -> np.ndarray:
    done, data = cv2.imencode(".png", mask, _PNG)
    if not done:
        raise RuntimeError(f"a mask of {mask.shape[1]}x{mask.shape[0]} cannot be written as PNG")
    return data.ravel()
