"""The shadow node: how two segmentation nodes agree on the same live topic, and how fast each is."""

import time
from collections import deque
from collections.abc import Callable
from functools import partial

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from seg_node.core.errors import UndecodableError
from seg_node.core.taxonomy import in_short
from seg_node.core.timing import FrameRecord, Outcome, stamp_ns
from seg_node.ros.messages import diagnostics, frame_record, mono8_image, read_mono8
from seg_node.ros.node_categories import NodeCategories
from seg_node.ros.transfer.serialized_image import SerializedImage
from seg_node.shadow.following import Following
from seg_node.shadow.pairing import CHALLENGER, INCUMBENT, SIDES, Agreement, Pair, Pairing, compare
from seg_node.shadow.seen import Seen

_QOS = QoSProfile(depth=16, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.RELIABLE)
_CAMERA_QOS = QoSProfile(depth=16, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
_SOON = 10
"""Summaries that are told one by one; after that, one of as many."""
_LONG_S = 2.0
"""Seconds of the challenger with one frame from which on they are told."""
_ASK_S = 0.25
"""Seconds between two looks whether to ask for categories again."""
_LONELY = 20
"""Frames with a mask of one side from which on a node that has hardly any pairs is told how to get more."""


class ShadowNode(Node):
    """Compares what two segmentation nodes publish; the sides are ``incumbent`` and ``challenger``.

    Subscribes to ``SIDE/mask`` and ``SIDE/timing``, which are remapped to the nodes' topics. Where the challenger
    follows, it subscribes to the camera, ``image`` or ``image/compressed``, too, and hands on, as
    ``challenger/image`` or ``challenger/image/compressed``, the frames that the incumbent has masked (see
    ``Following``); else each node masks the frames that it comes to. Publishes

    * ``~/agreement`` for each frame that both have masked, with the frame's header: ``agreement``, percent of the
      pixels; ``iou.CATEGORY``, percent, of those that are in either mask; ``SIDE.model``, ``SIDE.total`` and
      ``SIDE.age`` in milliseconds, ``SIDE.late``, as in the side's timing record; ``challenger.held``, the part of its
      age for which the frame waited here, where the challenger follows;
    * ``~/disagreement`` for the same frames, while somebody subscribes: mono8, 255 where the masks differ, else 0;
    * ``/diagnostics`` once a second: ``pairs`` (and how many of them were ``incomparable``, for their sizes),
      ``waiting`` and ``unpaired.SIDE.REASON`` since the start (see ``Pairing``), ``received`` from the camera where the
      challenger follows, and of the frames since the last summary ``agreement.mean`` and ``.min``,
      ``SIDE.total.mean`` and ``.max``.

    Args:
        transport: ``raw`` or ``compressed`` where the challenger follows; None where it does not.
        say: told of each of the first summaries, and now and then of a later one, in a sentence.
    """

    def __init__(self, transport: str | None = None, say: Callable[[str], None] = lambda text: None):
        super().__init__("shadow")
        self._pairing = Pairing(beginners=(INCUMBENT, CHALLENGER) if transport is None else (INCUMBENT,))
        self._seen = Seen(self._pairing)
        self._say = say
        self._summaries = 0
        self._advised = False
        # Stamps of what was handed on last, and for how many milliseconds it had waited here.
        self._held: deque[tuple[int, float]] = deque(maxlen=8)
        self._started = time.monotonic()
        self._agreement = self.create_publisher(DiagnosticArray, "~/agreement", _QOS)
        self._disagreement = self.create_publisher(Image, "~/disagreement", _QOS)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._following = self._camera = None
        if transport is not None:
            kind, suffix = (CompressedImage, "/compressed") if transport == "compressed" else (Image, "")
            self._forward = self.create_publisher(kind, f"challenger/image{suffix}", _QOS)
            self._following = Following(self._hand_on, self._pairing)
            # Bytes as they come: what is handed on is what the camera sent.
            self._camera = self.create_subscription(kind, f"image{suffix}", self._on_image, _CAMERA_QOS, raw=True)
        for index, side in enumerate(SIDES):
            self.create_subscription(Image, f"{side}/mask", partial(self._on_mask, index), _QOS)
        self._timings = [
            self.create_subscription(DiagnosticArray, f"{side}/timing", partial(self._on_timing, index), _QOS)
            for index, side in enumerate(SIDES)
        ]
        self._categories = [NodeCategories(self, topic=self.resolve_topic_name(f"{side}/mask")) for side in SIDES]
        # With use_sim_time the other clock stands still while no bag plays.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_ASK_S, self._ask, clock=steady)
        self.create_timer(1.0, self._summarise, clock=steady)

    def _ask(self) -> None:
        for categories in self._categories:
            categories.ask()

    def _on_image(self, data: bytes) -> None:
        self._following.add_frame(SerializedImage(data).stamp, (data, time.monotonic()))

    def _hand_on(self, stamp: int, frame: tuple[bytes, float]) -> bool:
        data, arrived = frame
        if not self._forward.get_subscription_count():
            return False
        self._held.append((stamp, 1e3 * (time.monotonic() - arrived)))
        self._forward.publish(data)
        return True

    def _on_mask(self, side: int, message: Image) -> None:
        try:
            mask = read_mono8(message)
        except UndecodableError as error:
            self._refuse(side, error)
            return
        self._publish(self._pairing.add_mask(side, stamp_ns(message.header), mask), message.header)

    def _on_timing(self, side: int, message: DiagnosticArray) -> None:
        stamp = stamp_ns(message.header)
        for status in message.status:
            try:
                record = frame_record(status)
            except ValueError as error:
                self._refuse(side, error)
                continue
            self._seen.spoken[side] = True
            pair = self._pairing.add_record(side, stamp, record)
            # First the next frame, then what came of this one: the challenger need not wait for that.
            if self._following is not None:
                self._follow(side, stamp, record)
            self._publish(pair, message.header)

    def _follow(self, side: int, stamp: int, record: FrameRecord) -> None:
        if side == CHALLENGER:
            self._following.answered(stamp)
        elif record.outcome is Outcome.MASKED:
            self._following.masked(stamp)
        else:
            self._following.dropped(stamp)

    def _refuse(self, side: int, error: ValueError) -> None:
        self.get_logger().warning(f"{SIDES[side]}: not readable: {error}", throttle_duration_sec=10.0)

    def _publish(self, pair: Pair | None, header: Header) -> None:
        if pair is None:
            return
        try:
            agreement = self._compare(pair)
        except ValueError as error:
            self._seen.incomparable += 1
            self.get_logger().warning(f"masks cannot be compared: {error}", throttle_duration_sec=10.0)
            return
        self._seen.add(agreement, pair.records)
        values = values_of(agreement, pair.records)
        held = dict(self._held).get(pair.stamp)
        if held is not None:
            values["challenger.held"] = f"{held:.3f}"
        self._agreement.publish(
            diagnostics(
                header,
                f"{self.get_fully_qualified_name()}: frame",
                DiagnosticStatus.OK,
                f"{agreement.pixels:.1f} % of the pixels agree",
                " and ".join(record.model for record in pair.records),
                values,
            )
        )
        if self._disagreement.get_subscription_count():
            differing = np.where(pair.masks[0] != pair.masks[1], np.uint8(255), np.uint8(0))
            self._disagreement.publish(mono8_image(differing, header))

    def _compare(self, pair: Pair) -> Agreement:
        """See ``compare``; models of different categories cannot be compared."""
        one, other = (categories.taxonomy for categories in self._categories)
        if not one.same_categories(other):
            models = " and ".join(
                f"{record.model} has {in_short(taxonomy.names)}"
                for record, taxonomy in zip(pair.records, (one, other), strict=True)
            )
            raise ValueError(f"their categories differ: {models}")
        return compare(pair, one)

    def _summarise(self) -> None:
        following, seen = self._following, self._seen
        if following is not None:
            following.look_at_the_clock()
        values = seen.values(0 if following is None else following.waiting)
        if following is not None:
            values["received"] = str(following.received)
        self._diagnostics.publish(
            diagnostics(
                Header(stamp=self.get_clock().now().to_msg()),
                f"{self.get_fully_qualified_name()}: shadow",
                DiagnosticStatus.OK if seen.new else DiagnosticStatus.WARN,
                f"{seen.new} frames compared" if seen.new else "no frame that both have masked",
                "",
                values,
            )
        )
        self._tell()
        seen.forget_new()

    def _tell(self) -> None:
        self._summaries += 1
        if self._summaries <= _SOON or self._summaries % _SOON == 0:
            text = "; ".join([*self._silence(), self._seen.line()])
            self._say(f"{time.monotonic() - self._started:.0f} s: {text}")
        unpaired = self._pairing.unpaired
        lonely = min(unpaired[f"{side}.{Outcome.SUPERSEDED.value}"] for side in SIDES)
        if self._following is None and not self._advised and lonely > max(_LONELY, 4 * self._pairing.pairs):
            self._advised = True
            self._say(
                "both drop frames and rarely mask the same ones; shadow --attach INCUMBENT --models CHALLENGER gives"
                " the challenger those that the incumbent has masked"
            )

    def _silence(self) -> list[str]:
        """What has not come yet, and who publishes it."""
        awaited = []
        if self._following is not None and not self._following.received:
            awaited.append(("no frame", self._camera.topic_name))
        # Where it follows, the challenger says nothing before it was given a frame.
        sides = SIDES if self._following is None else SIDES[:1]
        awaited += [
            (f"nothing of the {side}", self._timings[index].topic_name)
            for index, side in enumerate(sides)
            if not self._seen.spoken[index]
        ]
        silence = [f"{what} on {topic} yet (publishers: {self.count_publishers(topic)})" for what, topic in awaited]
        if self._following is not None and self._following.working > _LONG_S:
            silence.append(f"the challenger has been working on a frame for {self._following.working:.0f} s")
        return silence

    def end_line(self) -> str:
        """What was seen in all, in a sentence."""
        return self._seen.end_line()


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
