"""Hears what a segmentation node publishes during a run, in a process of its own so that it delays no player.

    python -m seg_node.rig.monitor /segmentation [PID] [--now]

Started by ``MonitorProcess``, which documents what goes over stdin and stdout.
"""

import json
import os
import sys
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from seg_node.core.memory import keep_what_is_there, let_go_of_what_is_there
from seg_node.core.timing import stamp_ns
from seg_node.rig.frames import ArrivedMask, UsageSample
from seg_node.rig.monitor_process import Seen
from seg_node.rig.recording import Observed
from seg_node.rig.usage import ProcessUsage
from seg_node.ros.mask_of_now import now_record
from seg_node.ros.messages import frame_record
from seg_node.ros.transfer.path import receive
from seg_node.ros.transfer.serialized_image import SerializedImage

R = TypeVar("R")

# Deep and reliable: what is missing at the end was not published.
_LOSSLESS_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1000, reliability=ReliabilityPolicy.RELIABLE)

_PERIOD_S = 0.2
"""Seconds between two samples of the usage, and about two of the reports of what was seen."""

_RAW_BYTES = 512 * 2**20
"""Masks are held as they came, and compressed at the end, until they fill so much memory."""


class Monitor(Node):
    """Collects masks, timing records and diagnostics of one segmentation node, without an executor.

    What it does while frames come takes processor time from the node that is measured. So it only notes the time and
    keeps the serialised message: reading and compressing wait for the end.

    Args:
        target: fully qualified name of the segmentation node.
        pid: of its process, where it runs on this machine.
        now: listen to the mask of now, too, which makes the node compute it.
    """

    def __init__(self, target: str, pid: int | None, now: bool = False):
        super().__init__(f"monitor_{os.getpid()}", start_parameter_services=False)
        self._usage = ProcessUsage(pid) if pid else None
        self._status_name = f"{target}: segmentation"
        self._counted, self._status, self._model = 0, {}, ""
        self._newest = 0
        self._lock = threading.Lock()
        # Source timestamps are of the system's clock.
        self._since_epoch = time.time_ns() - time.monotonic_ns()
        self.begin()
        self._status_receiver = receive(self, DiagnosticArray, "/diagnostics", self._on_diagnostics, _LOSSLESS_QOS)
        self._watched = [
            receive(self, Image, f"{target}/mask", self._on_mask, _LOSSLESS_QOS),
            receive(self, DiagnosticArray, f"{target}/timing", self._on_timing, _LOSSLESS_QOS),
        ]
        if now:
            self._watched += [
                receive(self, Image, f"{target}/mask_now", self._on_mask_now, _LOSSLESS_QOS),
                receive(self, DiagnosticArray, f"{target}/timing_now", self._on_timing_now, _LOSSLESS_QOS),
            ]

    def destroy_node(self) -> None:
        """See ``rclpy.node.Node``; nothing is received any more."""
        for receiver in (self._status_receiver, *self._watched):
            receiver.stop()
        super().destroy_node()

    def begin(self) -> None:
        """Forget what was seen so far."""
        with self._lock:
            self._raw_masks: deque[tuple[list[tuple[int, ArrivedMask]], int, int, np.ndarray]] = deque()
            self._arrived_bytes = self._compressed_bytes = 0
            self._masks: list[tuple[int, ArrivedMask]] = []
            self._mask_count = 0
            self._records: list[tuple[int, np.ndarray]] = []
            self._nows: list[tuple[int, ArrivedMask]] = []
            self._now_records: list[tuple[int, np.ndarray]] = []
            self._samples: list[UsageSample] = []

    def seen(self) -> Seen:
        """What there is so far."""
        return Seen(
            matched=bool(self._status) and all(receiver.publishers for receiver in self._watched),
            masks=self._mask_count,
            records=len(self._records),
            now_records=len(self._now_records),
            newest=self._newest,
            counted=self._counted,
            status=self._status,
            model=self._model,
        )

    def sample(self) -> None:
        """Measure the usage of the node's process now."""
        if self._usage and (sample := self._usage.sample()):
            self._samples.append(sample)

    def shrink(self) -> None:
        """Compress the oldest masks while they fill too much memory."""
        while self._arrived_bytes - self._compressed_bytes > _RAW_BYTES:
            with self._lock:
                self._compress_oldest()

    def observed(self) -> Observed:
        """What was seen since ``begin``, read and compressed."""
        with self._lock:
            while self._raw_masks:
                self._compress_oldest()
        records = _read(self._records, frame_record)
        return Observed(self._masks, records, self._samples, self._nows, _read(self._now_records, now_record))

    def _compress_oldest(self) -> None:
        if not self._raw_masks:
            return
        masks, arrived, source_time, data = self._raw_masks.popleft()
        self._compressed_bytes += len(data)
        message = SerializedImage(data)
        image = message.raw()
        rows = np.frombuffer(image.data, np.uint8).reshape(image.height, image.step)[:, : image.width]
        published = source_time - self._since_epoch if source_time else None
        mask = ArrivedMask(arrived, (image.height, image.width), zlib.compress(rows.tobytes(), 1), published)
        masks.append((message.stamp, mask))

    def _on_mask(self, data: np.ndarray, published: int) -> None:
        self._newest = arrived = time.monotonic_ns()
        with self._lock:
            self._mask_count += 1
            self._arrived_bytes += len(data)
            self._raw_masks.append((self._masks, arrived, published, data))

    def _on_mask_now(self, data: np.ndarray, published: int) -> None:
        arrived = time.monotonic_ns()
        with self._lock:
            self._arrived_bytes += len(data)
            self._raw_masks.append((self._nows, arrived, published, data))

    def _on_timing(self, data: np.ndarray, published: int) -> None:
        self._newest = arrived = time.monotonic_ns()
        with self._lock:
            self._records.append((arrived, data))

    def _on_timing_now(self, data: np.ndarray, published: int) -> None:
        self._newest = arrived = time.monotonic_ns()
        with self._lock:
            self._now_records.append((arrived, data))

    def _on_diagnostics(self, data: np.ndarray, published: int) -> None:
        for status in deserialize_message(data.tobytes(), DiagnosticArray).status:
            if status.name == self._status_name:
                self._status = {item.key: item.value for item in status.values}
                # Nodes of earlier versions named it as their hardware.
                self._model = self._status.get("model", status.hardware_id)
                self._counted = time.monotonic_ns()


def _read(messages: list[tuple[int, np.ndarray]], reader: Callable[[DiagnosticStatus], R]) -> list[tuple[int, int, R]]:
    """Stamp, arrival and record of serialised messages with one record each."""
    records = []
    for arrived, data in messages:
        message = deserialize_message(data.tobytes(), DiagnosticArray)
        records.append((stamp_ns(message.header), arrived, reader(message.status[0])))
    return records


class _Reporter:
    """Writes lines to stdout, from several threads."""

    def __init__(self):
        self._lock = threading.Lock()

    def write(self, event: str, **values: object) -> None:
        with self._lock:
            print(json.dumps({"event": event, **values}), flush=True)


def _watch(monitor: Monitor, reporter: _Reporter) -> None:
    """Report and sample until the process ends."""
    reported: dict[str, object] = {}
    for tick in range(sys.maxsize):
        if tick % 2 == 0:
            monitor.sample()
        monitor.shrink()
        seen = vars(monitor.seen())
        if changed := {name: value for name, value in seen.items() if reported.get(name) != value}:
            reporter.write("seen", **changed)
        reported = seen
        time.sleep(_PERIOD_S / 2)


def main(arguments: list[str]) -> int:
    """Run until stdin is closed; returns the exit status."""
    now = "--now" in arguments
    target, *rest = [argument for argument in arguments if argument != "--now"]
    pid = int(rest[0]) if rest else None
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    monitor = Monitor(target, pid, now)
    reporter = _Reporter()
    threading.Thread(target=_watch, args=(monitor, reporter), name="watch", daemon=True).start()
    try:
        for line in sys.stdin:
            command, *rest = line.split(maxsplit=1)
            if command == "begin":
                # A full collection stops all threads, and the masks that come meanwhile would be noted as late.
                let_go_of_what_is_there()
                keep_what_is_there()
                monitor.begin()
                monitor.sample()
                reporter.write("begun")
                continue
            monitor.sample()
            file = Path(rest[0].strip())
            try:
                monitor.observed().save(file)
            except OSError as error:
                # Not only to the log, which may lie on the same full disk.
                reporter.write("failed", reason=f"cannot write {file}: {error.strerror or error}")
            else:
                reporter.write("ended")
    except KeyboardInterrupt:
        pass
    let_go_of_what_is_there()
    # The parent has what it wants or is gone. Shared memory would outlive the process; threads that wait do not.
    monitor.destroy_node()
    rclpy.try_shutdown()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
