"""Camera images with their masks and timing records, from the topics of a camera and of a segmentation node."""

from collections.abc import Callable

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from seg_node.core.errors import UndecodableError
from seg_node.core.frame_join import Frame, FrameJoin, NowJoin
from seg_node.core.images import to_bgr
from seg_node.core.timing import stamp_ns
from seg_node.ros.mask_of_now import now_record
from seg_node.ros.messages import frame_record, read_mono8

CAMERA_QOS = QoSProfile(depth=5, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Best effort fits every publisher; some depth, for the frame that is masked may come while another is drawn."""
MASK_QOS = QoSProfile(depth=5, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
TIMING_QOS = QoSProfile(depth=100, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)


SOURCES = ("mask", "mask_now")
"""Topics of a segmentation node that hold masks: of a frame whenever it is inferred, and of every frame."""


class FrameSource:
    """Joins the topics of one camera and one segmentation node, and costs nothing while nobody wants it.

    Args:
        node: that subscribes.
        camera: topic of the camera; of the type ``CompressedImage`` where it ends with /compressed.
        segmentation: name of the segmentation node, relative or absolute.
        on_frame: called with each complete frame, by the node's executor.
        source: one of ``SOURCES``.
    """

    def __init__(
        self, node: Node, camera: str, segmentation: str, on_frame: Callable[[Frame], None], source: str = "mask"
    ):
        now = source == "mask_now"
        self.source = source
        self.join: FrameJoin[Image | CompressedImage] = NowJoin() if now else FrameJoin()
        self.images = 0
        """Camera images that came so far."""
        self.unreadable = 0
        """Messages that nobody can make sense of."""
        self._node = node
        self._on_frame = on_frame
        self._read = now_record if now else frame_record
        self._subscriptions: list = []
        kind = CompressedImage if camera.endswith("/compressed") else Image
        self._topics = [
            (kind, camera, self._on_image, CAMERA_QOS),
            (Image, f"{segmentation}/{source}", self._on_mask, MASK_QOS),
            (DiagnosticArray, f"{segmentation}/{'timing_now' if now else 'timing'}", self._on_timing, TIMING_QOS),
        ]

    @property
    def subscribed(self) -> bool:
        """Whether it listens."""
        return bool(self._subscriptions)

    def want(self, wanted: bool) -> None:
        """Subscribe, or unsubscribe and forget the frames that wait."""
        if wanted and not self._subscriptions:
            self._subscriptions = [self._node.create_subscription(*topic) for topic in self._topics]
        elif not wanted and self._subscriptions:
            for subscription in self._subscriptions:
                self._node.destroy_subscription(subscription)
            self._subscriptions = []
            self.join.clear()

    def refuse(self, error: ValueError) -> None:
        """Count a message that cannot be read, and log it now and then."""
        self.unreadable += 1
        self._node.get_logger().warning(f"not readable: {error}", throttle_duration_sec=1.0)

    def _on_image(self, message: Image | CompressedImage) -> None:
        self.images += 1
        self._hand_on(self.join.add_image(stamp_ns(message.header), message))

    def _on_mask(self, message: Image) -> None:
        self._hand_on(self.join.add_mask(stamp_ns(message.header), message))

    def _on_timing(self, message: DiagnosticArray) -> None:
        for status in message.status:
            try:
                record = self._read(status)
            except ValueError as error:
                self.refuse(error)
            else:
                self._hand_on(self.join.add_record(stamp_ns(message.header), record))

    def _hand_on(self, frame: Frame | None) -> None:
        if frame is not None:
            self._on_frame(frame)


def decode_frame(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Image, uint8 [H, W, 3] BGR, and mask, uint8 [H, W], of a complete frame.

    Raises:
        UndecodableError: one of them cannot be read, or their sizes differ.
    """
    bgr, mask = to_bgr(frame.image), read_mono8(frame.mask)
    if mask.shape != bgr.shape[:2]:
        found = f"{mask.shape[1]}x{mask.shape[0]}"
        raise UndecodableError(f"the mask is {found} but its camera image {bgr.shape[1]}x{bgr.shape[0]}")
    return bgr, mask
