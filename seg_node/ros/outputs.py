"""What the segmentation node publishes of each frame: mask, confidence and timing record."""

import copy

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.duration import Duration
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from seg_node.core.timing import FrameRecord
from seg_node.ros.cameras.names import CameraName
from seg_node.ros.compressed_masks import CompressedMasks
from seg_node.ros.messages import serialized_record
from seg_node.ros.qos_watch import QosWatch
from seg_node.ros.transfer.path import publish_serialized
from seg_node.ros.transfer.serialized_image import serialized_mono8

MASK_QOS = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
TIMING_QOS = QoSProfile(depth=100, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)


class Outputs:
    """Publishers of one camera's masks, from the node's configuration until it is cleaned up.

    Args:
        name: of the camera, under which the topics are, and whose parameters hold.
        qos: makes the publishers.

    Raises:
        UserError: see ``QosWatch.offer``.
    """

    def __init__(self, name: CameraName, qos: QosWatch):
        self._name, self._qos = name, qos
        mask_qos = copy.copy(MASK_QOS)
        mask_qos.deadline = Duration(nanoseconds=round(1e6 * name.value("mask_deadline_ms")))
        self._mask = qos.offer(Image, name.topic("~/mask"), mask_qos, lifecycle=True)
        self._confidence = qos.offer(Image, name.topic("~/confidence"), MASK_QOS, lifecycle=True)
        # Not lifecycle publishers: a frame that comes in the instant of deactivation has its record, too, and a mask
        # that was published in time is compressed after it.
        self._timing = qos.offer(DiagnosticArray, name.topic("~/timing"), TIMING_QOS)
        self._png = qos.offer(CompressedImage, name.topic("~/mask/compressed"), MASK_QOS)
        self._compressed = CompressedMasks(name.node, self._png)

    def destroy(self) -> None:
        """Take the topics back."""
        self._compressed.stop()
        self._qos.withdraw(self._mask, self._confidence, self._timing, self._png)

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
        if self._mask.is_activated:
            self._compressed.offer(header, mask)

    def report(self, header: bytes, record: FrameRecord) -> None:
        """Publish the record of a frame, while somebody listens.

        Raises:
            RuntimeError: the middleware does not take it.
        """
        if self._timing.get_subscription_count() > 0:
            publish_serialized(self._timing, serialized_record(record, header, self._name.full_name))
