"""The shadow node: how two segmentation nodes agree on the same live topic, and how fast each is."""

from functools import partial

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from seg_node.core.timing import FrameRecord, stamp_ns
from seg_node.ros.messages import diagnostics, frame_record, mono8_image
from seg_node.shadow.pairing import SIDES, Agreement, Pair, Pairing, compare

_QOS = QoSProfile(depth=16, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)


class ShadowNode(Node):
    """Compares what two segmentation nodes publish; the sides are ``incumbent`` and ``challenger``.

    Subscribes to ``SIDE/mask`` and ``SIDE/timing``, which are remapped to the nodes' topics. Publishes

    * ``~/agreement`` for each frame that both have masked, with the frame's header: ``agreement``, percent of the
      pixels; ``iou.CATEGORY``, percent, of those that are in either mask; ``SIDE.model``, ``SIDE.total`` and
      ``SIDE.age`` in milliseconds, ``SIDE.late``, as in the side's timing record;
    * ``~/disagreement`` for the same frames, while somebody subscribes: mono8, 255 where the masks differ, else 0;
    * ``/diagnostics`` once a second: ``pairs`` (and how many of them were ``incomparable``, for their sizes),
      ``waiting`` and ``unpaired.SIDE.REASON`` since the start (see ``Pairing``), and of the frames since the last
      summary ``agreement.mean`` and ``.min``, ``SIDE.total.mean`` and ``.max``.
    """

    def __init__(self):
        super().__init__("shadow")
        self._pairing = Pairing()
        self._incomparable = 0
        # Since the last summary.
        self._agreements: list[float] = []
        self._totals: tuple[list[float], list[float]] = ([], [])
        self._agreement = self.create_publisher(DiagnosticArray, "~/agreement", _QOS)
        self._disagreement = self.create_publisher(Image, "~/disagreement", _QOS)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        for index, side in enumerate(SIDES):
            self.create_subscription(Image, f"{side}/mask", partial(self._on_mask, index), _QOS)
            self.create_subscription(DiagnosticArray, f"{side}/timing", partial(self._on_timing, index), _QOS)
        self.create_timer(1.0, self._summarise)

    def _on_mask(self, side: int, message: Image) -> None:
        rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
        pair = self._pairing.add_mask(side, stamp_ns(message.header), rows[:, : message.width])
        self._publish(pair, message.header)

    def _on_timing(self, side: int, message: DiagnosticArray) -> None:
        pair = self._pairing.add_record(side, stamp_ns(message.header), frame_record(message.status[0]))
        self._publish(pair, message.header)

    def _publish(self, pair: Pair | None, header: Header) -> None:
        if pair is None:
            return
        try:
            agreement = compare(pair)
        except ValueError as error:
            self._incomparable += 1
            self.get_logger().warning(f"masks cannot be compared: {error}", throttle_duration_sec=10.0)
            return
        self._agreements.append(agreement.pixels)
        for totals, record in zip(self._totals, pair.records, strict=True):
            totals.append(record.total)
        self._agreement.publish(
            diagnostics(
                header,
                f"{self.get_fully_qualified_name()}: frame",
                DiagnosticStatus.OK,
                f"{agreement.pixels:.1f} % of the pixels agree",
                " and ".join(record.model for record in pair.records),
                values_of(agreement, pair.records),
            )
        )
        if self._disagreement.get_subscription_count():
            differing = np.where(pair.masks[0] != pair.masks[1], np.uint8(255), np.uint8(0))
            self._disagreement.publish(mono8_image(differing, header))

    def _summarise(self) -> None:
        pairing, agreements = self._pairing, self._agreements
        values = {"pairs": pairing.pairs, "waiting": pairing.waiting, "incomparable": self._incomparable}
        values |= {f"unpaired.{reason}": count for reason, count in sorted(pairing.unpaired.items())}
        values = {name: str(count) for name, count in values.items()}
        if agreements:
            values |= {"agreement.mean": f"{np.mean(agreements):.3f}", "agreement.min": f"{min(agreements):.3f}"}
            for side, totals in zip(SIDES, self._totals, strict=True):
                values |= {f"{side}.total.mean": f"{np.mean(totals):.3f}", f"{side}.total.max": f"{max(totals):.3f}"}
        self._diagnostics.publish(
            diagnostics(
                Header(stamp=self.get_clock().now().to_msg()),
                f"{self.get_fully_qualified_name()}: shadow",
                DiagnosticStatus.OK if agreements else DiagnosticStatus.WARN,
                f"{len(agreements)} frames compared" if agreements else "no frame that both have masked",
                "",
                values,
            )
        )
        self._agreements, self._totals = [], ([], [])


def values_of(agreement: Agreement, records: tuple[FrameRecord, FrameRecord]) -> dict[str, str]:
    """Values of a message of ``~/agreement``: percent, and milliseconds."""
    values = {"agreement": f"{agreement.pixels:.3f}"}
    values |= {f"iou.{name}": f"{iou:.3f}" for name, iou in agreement.iou.items()}
    for side, record in zip(SIDES, records, strict=True):
        values |= {f"{side}.model": record.model, f"{side}.total": f"{record.total:.3f}"}
        if record.age is not None:
            values[f"{side}.age"] = f"{record.age:.3f}"
        values[f"{side}.late"] = str(record.late).lower()
    return values
