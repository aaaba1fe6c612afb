"""A node that does to each frame what a table says, and writes down when: what the harness must find out by itself.

    python test/helpers/fake_node.py TABLE LOG --ros-args -r __node:=segmentation

TABLE is JSON: by header stamp in nanoseconds, one row for each time that the frame comes: ``[outcome, delay in ms]``.
The outcome is one of ``Outcome`` or ``unseen``: a frame that the node is to know nothing of, as if it was lost on its
way. A row may have a third item: ``no mask`` (only the record goes out), ``no record``, ``twice`` (mask and record go
out twice) or ``die``. LOG gets a line per published mask: stamp and ``time.monotonic_ns`` just before. The variable
FAKE_NODE_TRANSPORTS says to which of raw and compressed it subscribes: to both by default.
"""

import contextlib
import heapq
import itertools
import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from seg_node.core.slot import Accounting
from seg_node.core.timing import FrameRecord, Outcome, Stage, stamp_ns
from seg_node.ros.messages import diagnostics, mono8_image, record_to_diagnostics

RELIABLE = QoSProfile(depth=1000)


class FakeNode(Node):
    """Speaks the topics of the segmentation node."""

    def __init__(self, table: Path, log: Path):
        super().__init__("segmentation", start_parameter_services=False)
        self._table = {int(stamp): rows for stamp, rows in json.loads(table.read_text()).items()}
        self._log = log.open("w", buffering=1)
        self._came: Counter[int] = Counter()
        self._accounting = Accounting()
        self._planned: list[tuple] = []
        self._order = itertools.count()
        self._wake = threading.Condition()
        self._masks = self.create_publisher(Image, "~/mask", RELIABLE)
        self._timing = self.create_publisher(DiagnosticArray, "~/timing", RELIABLE)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", RELIABLE)
        topics = {"raw": (Image, "image"), "compressed": (CompressedImage, "image/compressed")}
        for transport in os.environ.get("FAKE_NODE_TRANSPORTS", "raw compressed").split():
            self.create_subscription(*topics[transport], self._on_image, RELIABLE)
        self.create_timer(0.2, self._publish_diagnostics)
        threading.Thread(target=self._work, daemon=True).start()

    def _on_image(self, message: Image | CompressedImage) -> None:
        received = time.monotonic_ns()
        stamp = stamp_ns(message.header)
        outcome, delay, *note = self._table[stamp][self._came[stamp]]
        self._came[stamp] += 1
        if outcome == "unseen":
            return
        self._accounting.receive()
        with self._wake:
            planned = (received + round(delay * 1e6), next(self._order), received, message.header, outcome, note)
            heapq.heappush(self._planned, planned)
            self._wake.notify()

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._planned)
                left = self._planned[0][0] - time.monotonic_ns()
                if left > 10**6:
                    self._wake.wait((left - 10**6) / 1e9)
                    continue
                due, _, received, header, outcome, note = heapq.heappop(self._planned)
            while time.monotonic_ns() < due:
                pass
            self._settle(received, header, Outcome(outcome), note)

    def _settle(self, received: int, header: Header, outcome: Outcome, note: list[str]) -> None:
        if "die" in note:
            print("dying as told", flush=True)
            os._exit(3)
        times = 2 if "twice" in note else 1
        if outcome is Outcome.MASKED and "no mask" not in note:
            mask = mono8_image(np.full((6, 8), header.stamp.sec % 8, np.uint8), header)
            self._log.write(f"{stamp_ns(header)} {time.monotonic_ns()}\n")
            for _ in range(times):
                self._masks.publish(mask)
        self._accounting.settle(outcome)
        total = (time.monotonic_ns() - received) / 1e6
        record = FrameRecord(outcome, "fake", {Stage.WAIT: 0.5, Stage.INFERENCE: total}, total)
        for _ in range(times * ("no record" not in note)):
            self._timing.publish(record_to_diagnostics(record, header, self.get_fully_qualified_name()))

    def _publish_diagnostics(self) -> None:
        values = {name: str(count) for name, count in self._accounting.snapshot().items()} | {"engine": "none"}
        name = f"{self.get_fully_qualified_name()}: segmentation"
        self._diagnostics.publish(diagnostics(Header(), name, DiagnosticStatus.OK, "active", "fake", values))


if __name__ == "__main__":
    rclpy.init(args=sys.argv[3:])
    node = FakeNode(Path(sys.argv[1]), Path(sys.argv[2]))
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)
    node.destroy_node()
