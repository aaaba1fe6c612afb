"""Writes down what segmentation nodes publish, in a process that shares nothing with them, the camera or the referee.

    python reliability/observer.py FILE NODE... [--confidence] [--now] [--projection NODE]

A line of FILE is JSON: ``kind`` (``mask``, ``record``, ``report``, with --now ``mask_now`` and ``record_now``, and with
--projection ``cloud`` and ``grid``, with their ``stamp``),
``node``, ``at`` (``time.monotonic_ns``), and of a mask ``stamp``, ``size`` and ``category`` (of all pixels, -1 if they
differ); of a record ``stamp``, ``outcome``, ``model``, ``detail`` and ``age``, of one of a mask of now ``values`` in
place of model and age; of a report on ``/diagnostics`` ``level``, ``message`` and ``values``. It ends with stdin.
"""

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import OccupancyGrid
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, PointCloud2

from seg_node.core.timing import stamp_ns

# Deep and reliable: what is missing at the end was not published.
_LOSSLESS_QOS = QoSProfile(depth=1000)


class Observer(Node):
    """Subscribes to the topics of several nodes.

    Args:
        log: file for the lines.
        nodes: fully qualified names.
        confidence: subscribe to that, too, so that it is computed.
        now: subscribe to the mask of now and its records, too, so that it is computed.
        projection: fully qualified name of a projection node; empty for none.
    """

    def __init__(self, log: Path, nodes: list[str], confidence: bool, now: bool, projection: str = ""):
        super().__init__(f"observer_{os.getpid()}", start_parameter_services=False)
        self._log = log.open("w", buffering=1)
        self._nodes = {f"{node}: segmentation": node for node in nodes}
        for node in nodes:
            for suffix in ("", "_now") if now else ("",):
                self._watch(node, suffix)
            if confidence:
                self.create_subscription(Image, f"{node}/confidence", lambda _: None, _LOSSLESS_QOS)
        if projection:
            self._nodes[f"{projection}: projection"] = projection
            for kind, topic, message in (("cloud", "points", PointCloud2), ("grid", "grid", OccupancyGrid)):
                self._watch_stamps(kind, projection, topic, message)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, _LOSSLESS_QOS)

    def _watch(self, node: str, suffix: str) -> None:
        mask, record = f"mask{suffix}", f"record{suffix}"
        self.create_subscription(Image, f"{node}/{mask}", lambda m: self._on_mask(mask, node, m), _LOSSLESS_QOS)
        self.create_subscription(
            DiagnosticArray, f"{node}/timing{suffix}", lambda m: self._on_record(record, node, m), _LOSSLESS_QOS
        )

    def _watch_stamps(self, kind: str, node: str, topic: str, message: type) -> None:
        def on_message(message: PointCloud2 | OccupancyGrid) -> None:
            self._write(kind, node, stamp=stamp_ns(message.header))

        self.create_subscription(message, f"{node}/{topic}", on_message, _LOSSLESS_QOS)

    def _on_mask(self, kind: str, node: str, message: Image) -> None:
        pixels = bytes(message.data)
        uniform = pixels.count(pixels[0]) == len(pixels) == message.height * message.width
        size = message.height, message.width
        self._write(kind, node, stamp=stamp_ns(message.header), size=size, category=pixels[0] if uniform else -1)

    def _on_record(self, kind: str, node: str, message: DiagnosticArray) -> None:
        status = message.status[0]
        values = {pair.key: pair.value for pair in status.values}
        age = float(values["age"]) if "age" in values else None
        about = {"values": values} if kind == "record_now" else {"model": status.hardware_id, "age": age}
        detail = values.get("detail", "")
        self._write(kind, node, stamp=stamp_ns(message.header), outcome=status.message, detail=detail, **about)

    def _on_report(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name in self._nodes:
                values = {pair.key: pair.value for pair in status.values}
                level = int.from_bytes(status.level, "little")
                self._write("report", self._nodes[status.name], level=level, message=status.message, values=values)

    def _write(self, kind: str, node: str, **values: object) -> None:
        line = json.dumps({"kind": kind, "node": node, "at": time.monotonic_ns(), **values})
        self._log.write(line + "\n")


def main() -> None:
    """Observe until stdin is closed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path)
    parser.add_argument("nodes", nargs="+")
    parser.add_argument("--confidence", action="store_true", help="subscribe to it, so that it is computed")
    parser.add_argument("--now", action="store_true", help="subscribe to the mask of now, so that it is computed")
    parser.add_argument("--projection", default="", metavar="NODE", help="subscribe to clouds and grids of this node")
    options = parser.parse_args()
    rclpy.init(args=[])
    observer = Observer(options.log, options.nodes, options.confidence, options.now, options.projection)
    executor = SingleThreadedExecutor()
    executor.add_node(observer)

    def listen() -> None:
        sys.stdin.read()
        rclpy.try_shutdown()

    threading.Thread(target=listen, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        executor.spin()


if __name__ == "__main__":
    main()
