"""What the segmentation node publishes of each frame: mask, confidence and timing record."""

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from seg_node.core.timing import FrameRecord
from seg_node.ros.messages import serialized_record
from seg_node.ros.transfer.path import publish_serialized
from seg_node.ros.transfer.serialized_image import serialized_mono8

MASK_QOS = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
TIMING_QOS = QoSProfile(depth=100, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)


class Outputs:
    """Publishers of one segmentation node, from its configuration until it is cleaned up.

    Args:
        node: whose private topics they are.
    """

    def __init__(self, node: LifecycleNode):
        self._node = node
        self._mask = node.create_lifecycle_publisher(Image, "~/mask", MASK_QOS)
        self._confidence = node.create_lifecycle_publisher(Image, "~/confidence", MASK_QOS)
        # Not a lifecycle publisher: a frame that comes in the instant of deactivation has its record, too.
        self._timing = node.create_publisher(DiagnosticArray, "~/timing", TIMING_QOS)

    def destroy(self) -> None:
        """Take the topics back."""
        for publisher in (self._mask, self._confidence):
            self._node.destroy_lifecycle_publisher(publisher)
        self._node.destroy_publisher(self._timing)

    def wants_confidence(self) -> bool:
        """Whether anybody listens to the confidence."""
        return self._confidence.get_subscription_count() > 0

    def publish(self, header: bytes, mask: np.ndarray, confidence: np.ndarray | None) -> None:
        """Publish a mask and, if it was computed, its confidence; nothing while the node is not active.

        Args:
            header: of the frame, as ``seg_node.ros.transfer.serialized_image.SerializedImage.header``.
            mask: uint8 [H, W], contiguous.
            confidence: like the mask.

        Raises:
            RuntimeError: the middleware does not take it.
        """
        for publisher, pixels in ((self._mask, mask), (self._confidence, confidence)):
            if pixels is not None and publisher.is_activated:
                publish_serialized(publisher, serialized_mono8(pixels, header))

    def report(self, header: bytes, record: FrameRecord) -> None:
        """Publish the record of a frame, while somebody listens.

        Raises:
            RuntimeError: the middleware does not take it.
        """
        if self._timing.get_subscription_count() > 0:
            publish_serialized(self._timing, serialized_record(record, header, self._node.get_fully_qualified_name()))
