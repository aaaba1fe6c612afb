"""A node that answers every image at once with an empty mask: what is left is the time of the harness itself.

    python -m seg_node.rig.echo --ros-args -r __node:=segmentation

It speaks the segmentation node's topics without its work. ``seg_node.rig.loopback`` measures it.
"""

import contextlib
import signal
import sys
import time

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from seg_node.core.slot import Accounting
from seg_node.core.timing import FrameRecord, Outcome, Stage
from seg_node.ros.messages import diagnostics, serialized_record
from seg_node.ros.transfer.path import publish_serialized, receive
from seg_node.ros.transfer.serialized_image import SerializedImage, serialized_mono8

# Deep: a frame that waits for its turn is the harness's to count, not to lose.
_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)
_CAMERA_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)


class EchoNode(Node):
    """Answers Image messages as they come."""

    def __init__(self):
        super().__init__("segmentation", start_parameter_services=False)
        self._accounting = Accounting()
        self._mask = np.zeros((0, 0), np.uint8)
        self._masks = self.create_publisher(Image, "~/mask", _QOS)
        self._timing = self.create_publisher(DiagnosticArray, "~/timing", _QOS)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", _QOS)
        self._receiver = receive(self, Image, "image", self._on_image, _CAMERA_QOS)
        self.create_timer(0.5, self._publish_diagnostics)

    def _on_image(self, data: np.ndarray, published: int) -> None:
        began = time.monotonic_ns()
        self._accounting.receive()
        message = SerializedImage(data)
        header, image = message.header, message.raw()
        if self._mask.shape != (image.height, image.width):
            self._mask = np.zeros((image.height, image.width), np.uint8)
        publish_serialized(self._masks, serialized_mono8(self._mask, header))
        took = (time.monotonic_ns() - began) / 1e6
        self._accounting.settle(Outcome.MASKED)
        record = FrameRecord(Outcome.MASKED, "echo", {Stage.PUBLISH: took}, took)
        publish_serialized(self._timing, serialized_record(record, header, self.get_fully_qualified_name()))

    def _publish_diagnostics(self) -> None:
        values = {name: str(count) for name, count in self._accounting.snapshot().items()} | {"engine": "none"}
        name = f"{self.get_fully_qualified_name()}: segmentation"
        self._diagnostics.publish(diagnostics(Header(), name, DiagnosticStatus.OK, "active", "echo", values))


def main(arguments: list[str]) -> int:
    """Answer until interrupted."""
    # rclpy's own handlers take the context away while the executor uses it.
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    # A background job of a shell would ignore the signal by which it is stopped.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    node = EchoNode()
    with contextlib.suppress(KeyboardInterrupt):
        rclpy.spin(node)
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
