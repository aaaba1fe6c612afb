"""Hears what the node publishes during a replay and matches it to the frames by their header stamps."""

import contextlib
import threading
import time
import zlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from seg_node.core.timing import FrameRecord, Outcome, Stage
from seg_node.replay.bag import stamp_ns

# Deep and reliable: what is missing at the end was not published.
_LOSSLESS_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1000, reliability=ReliabilityPolicy.RELIABLE)


@dataclass(frozen=True)
class ArrivedMask:
    """A mask as it arrived, compressed."""

    arrived: int
    """``time.monotonic_ns`` of the arrival."""
    shape: tuple[int, int]
    """Height and width."""
    data: bytes
    """zlib-compressed rows without padding."""

    def decode(self) -> np.ndarray:
        """The mask, uint8 [H, W]."""
        return np.frombuffer(zlib.decompress(self.data), np.uint8).reshape(self.shape)


class Monitor:
    """Collects masks, timing records and diagnostics of one segmentation node, in a thread of its own.

    Args:
        node: ROS node that gets the subscriptions; the monitor spins it.
        target: fully qualified name of the segmentation node.

    Attributes:
        masks: by header stamp in nanoseconds.
        records: timing records by header stamp in nanoseconds.
        outcomes: how many records there are of each outcome.
        repeated: how many masks and records came for a stamp that had one already.
        counters: values of the node's latest status on ``/diagnostics``, empty before the first.
        counted: ``time.monotonic_ns`` at which it arrived.
    """

    def __init__(self, node: Node, target: str):
        self.masks: dict[int, ArrivedMask] = {}
        self.records: dict[int, FrameRecord] = {}
        self.outcomes: Counter[Outcome] = Counter()
        self.repeated = 0
        self.counters: dict[str, str] = {}
        self.counted = 0
        self._status_name = f"{target}: segmentation"
        self._subscriptions = [
            node.create_subscription(Image, f"{target}/mask", self._on_mask, _LOSSLESS_QOS),
            node.create_subscription(DiagnosticArray, f"{target}/timing", self._on_timing, _LOSSLESS_QOS),
        ]
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, _LOSSLESS_QOS)
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._spin, name="monitor", daemon=True)
        self._thread.start()

    @property
    def matched(self) -> bool:
        """Whether the node's publishers are connected and its first diagnostics have arrived."""
        return bool(self.counters) and all(s.get_publisher_count() > 0 for s in self._subscriptions)

    def settled(self, since: int) -> bool:
        """Whether the node says, later than ``since`` (``time.monotonic_ns``), that no frame is under way in it."""
        received = self.counters.get("received")
        return self.counted > since and self.counters.get("pending") == "0" and received == str(len(self.records))

    def close(self) -> None:
        """Stop listening."""
        self._executor.shutdown()
        self._thread.join()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def _on_mask(self, message: Image) -> None:
        arrived = time.monotonic_ns()
        stamp = stamp_ns(message.header)
        if stamp in self.masks:
            self.repeated += 1
            return
        rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)[:, : message.width]
        data = zlib.compress(rows.tobytes(), 1)
        self.masks[stamp] = ArrivedMask(arrived, (message.height, message.width), data)

    def _on_timing(self, message: DiagnosticArray) -> None:
        stamp = stamp_ns(message.header)
        if stamp in self.records:
            self.repeated += 1
            return
        record = self.records[stamp] = frame_record(message.status[0])
        self.outcomes[record.outcome] += 1

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self._status_name:
                self.counters = {item.key: item.value for item in status.values}
                self.counted = time.monotonic_ns()


def frame_record(status: DiagnosticStatus) -> FrameRecord:
    """Read the status of a message of ``~/timing``."""
    values = {item.key: item.value for item in status.values}
    return FrameRecord(
        outcome=Outcome(status.message),
        model=status.hardware_id,
        stages={stage: float(values[stage.value]) for stage in Stage if stage.value in values},
        total=float(values["total"]),
        age=float(values["age"]) if "age" in values else None,
        late=values.get("late") == "true",
        detail=values.get("detail", ""),
    )
