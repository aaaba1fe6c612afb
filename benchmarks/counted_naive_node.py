"""The naive node with the records that the harness needs; all that it adds comes after the mask has been published.

python benchmarks/counted_naive_node.py --ros-args -p model:=fpn_resnet50
"""

import contextlib
import sys
import time
from collections.abc import Callable

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from naive_node import NaiveNode
from rclpy.executors import ExternalShutdownException
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from seg_node.core.slot import Accounting
from seg_node.core.timing import FrameRecord, Outcome, Stage
from seg_node.ros.messages import diagnostics, record_to_diagnostics

_DRAINED_S = 1.0
"""Longer than any inference here. The middleware's queue is out of sight, so it counts as drained after this."""


class CountedNaiveNode(NaiveNode):
    """Publishes ``~/timing`` and ``/diagnostics`` as the segmentation node does, for frames that reach the callback."""

    def __init__(self):
        super().__init__()
        self._accounting = Accounting()
        self._last = 0.0
        self._timing = self.create_publisher(DiagnosticArray, "~/timing", 100)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(0.5, self._publish_diagnostics)

    def on_image(self, message: Image) -> None:
        """See ``NaiveNode``."""
        self._count(super().on_image, message)

    def on_compressed(self, message: CompressedImage) -> None:
        """See ``NaiveNode``."""
        self._count(super().on_compressed, message)

    def _count(self, segment: Callable[[Image | CompressedImage], None], message: Image | CompressedImage) -> None:
        self._accounting.receive()
        began = time.monotonic()
        segment(message)
        self._last = time.monotonic()
        took = 1e3 * (self._last - began)
        self._accounting.settle(Outcome.MASKED)
        record = FrameRecord(Outcome.MASKED, "naive", {Stage.INFERENCE: took}, took)
        self._timing.publish(record_to_diagnostics(record, message.header, self.get_fully_qualified_name()))

    def _publish_diagnostics(self) -> None:
        counts = self._accounting.snapshot()
        counts["pending"] = int(time.monotonic() - self._last < _DRAINED_S)
        values = {name: str(count) for name, count in counts.items()} | {"engine": "torch eager fp32"}
        name = f"{self.get_fully_qualified_name()}: segmentation"
        self._diagnostics.publish(diagnostics(Header(), name, DiagnosticStatus.OK, "active", "naive", values))


def main() -> None:
    """Run until interrupted."""
    rclpy.init(args=sys.argv)
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(CountedNaiveNode())
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
