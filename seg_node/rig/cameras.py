"""Several cameras at once: drives that are played side by side, and what comes back of each.

Where ``seg_node.rig.bench`` accounts for every frame of one camera, this compares cameras: who is served how often, who
waits how long. It serves one node with several cameras, and as many nodes with one camera each.
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image

from seg_node.bags.drive import Drive
from seg_node.core.memory import nothing_to_collect
from seg_node.core.timing import DROPS, Stage, stamp_ns
from seg_node.rig.node_process import NodeError
from seg_node.rig.player import publisher_qos, serialized
from seg_node.rig.schedule import RECORDED, Rate, make_schedule
from seg_node.ros.messages import frame_record
from seg_node.ros.transfer.path import choose, publish_serialized, receive
from seg_node.ros.transfer.serialized_image import SerializedImage

_LOSSLESS_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1000, reliability=ReliabilityPolicy.RELIABLE)
_DISCOVERY_S = 60.0
_SETTLE_S = 60.0
"""Longest wait for frames under way after the last one was published."""
_POLL_S = 0.05


@dataclass(frozen=True)
class Feed:
    """What is played as one camera, and where its masks come from."""

    name: str
    drive: Drive
    topic: str
    """Where its images are published."""
    target: str
    """What the topics of its masks begin with: the name of a node, or that of a camera below one."""
    offset: float = 0.0
    """Seconds by which each frame comes after that of a camera without an offset."""
    rate: Rate = RECORDED


@dataclass(frozen=True)
class CameraRun:
    """What came back of one camera."""

    name: str
    sent: int
    outcomes: dict[str, int]
    """Frames by outcome, as the node's records tell of them; what was sent and is not here was lost on the way."""
    balanced: bool
    """Whether the node's own count of this camera adds up, and is that of the records."""
    masks_per_s: float
    """Masks a second of the window, as the next ones are of it."""
    blind_s: float
    """Longest time without a mask, in seconds, the ends of the window included."""
    blind_ms_by: dict[str, float]
    """What that time was spent on, in milliseconds: ``turn``, from the mask before it until the frame of the next mask
    was taken, and the stages of that frame after it. Empty where no mask ended it."""
    p50_ms: float | None
    """Median of the time from publishing a frame to its mask's arrival; None without masks."""
    p99_ms: float | None
    inference_ms: float | None
    """Median of the time of an inference, as the node measures it."""
    nows_per_s: float
    """Masks of now a second; 0 where nobody listened."""


def jain(values: Sequence[float]) -> float:
    """Fairness index of shares: 1 where all are equal, 1/n where one has all.

    Jain, Chiu, Hawe, "A Quantitative Measure of Fairness and Discrimination", DEC-TR-301, 1984.
    """
    squares = len(values) * sum(value**2 for value in values)
    return sum(values) ** 2 / squares if squares else 1.0


def longest_gap(instants: Sequence[float], begin: float, end: float) -> tuple[float, float]:
    """Longest time between neighbours among instants, in order, and the ends of a window; and when that time ended."""
    within = [begin, *(instant for instant in instants if begin < instant < end), end]
    return max((after - before, after) for before, after in zip(within, within[1:], strict=False))


def in_all(runs: Sequence[CameraRun]) -> dict[str, float]:
    """What the cameras have together: masks a second, fairness, the longest time for which one of them was blind."""
    rates = [run.masks_per_s for run in runs]
    return {
        "masks_per_s": sum(rates),
        "jain": jain(rates),
        "blind_s": max(run.blind_s for run in runs),
        "nows_per_s": sum(run.nows_per_s for run in runs),
    }


@dataclass(eq=False)
class _Heard:
    """What came of one camera; arrivals are ``time.monotonic``."""

    masks: list[tuple[int, float]] = field(default_factory=list)
    nows: list[float] = field(default_factory=list)
    records: list[tuple[np.ndarray, float]] = field(default_factory=list)
    status: dict[str, str] = field(default_factory=dict)
    counted: float = 0.0


class Traffic:
    """Cameras that play, and what listens to the masks of each; a context manager.

    Args:
        feeds: one for each camera.
        qos: of the images: ``recorded``, ``best_effort`` or ``reliable``.
        now: listen to the masks of now, too, which makes the node compute them.
        check: called while it waits; raises if a node has ended.

    Raises (on entering):
        NodeError: a camera's topics do not appear.
    """

    def __init__(
        self, feeds: Sequence[Feed], qos: str = "recorded", now: bool = False, check: Callable[[], None] = lambda: None
    ):
        self._feeds, self._qos, self._now, self._check = feeds, qos, now, check
        self._heard = {feed.name: _Heard() for feed in feeds}
        self._by_target = {f"{feed.target}: segmentation": self._heard[feed.name] for feed in feeds}

    def __enter__(self) -> "Traffic":
        with ExitStack() as stack:
            # A context of its own: without signal handlers, so that Ctrl-C ends the run and not only the context.
            context = Context()
            rclpy.init(args=[], context=context)
            stack.callback(context.shutdown)
            self._node = node = rclpy.create_node("cameras", context=context, start_parameter_services=False)
            stack.callback(node.destroy_node)
            choose(node)
            self._publishers = []
            for feed in self._feeds:
                kind = Image if feed.drive.frames[0].kind == "image" else CompressedImage
                self._publishers.append(node.create_publisher(kind, feed.topic, publisher_qos(feed.drive, self._qos)))
            receivers = [receive(node, *wanted, _LOSSLESS_QOS) for wanted in self._wanted()]
            for receiver in receivers:
                stack.callback(receiver.stop)
            self._wait_for(
                lambda: (
                    all(publisher.get_subscription_count() for publisher in self._publishers)
                    and all(receiver.publishers for receiver in receivers)
                ),
                "subscribe to the cameras' topics, and publish masks and records of each",
            )
            # Who answers to a subscription that was made last knows those that were made before.
            self._wait_for(lambda: all(heard.status for heard in self._heard.values()), "report on /diagnostics")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def status(self) -> dict[str, dict[str, str]]:
        """Values of the newest report of each camera."""
        return {name: heard.status for name, heard in self._heard.items()}

    def play(self, seconds: float, warm_up: float = 0.0) -> list[CameraRun]:
        """Play, drives again from their beginning as often as it takes, and wait for what is under way.

        Args:
            seconds: length of the window that is measured.
            warm_up: seconds before it, which count only in the books.
        """
        before = {name: _counts(heard.status) for name, heard in self._heard.items()}
        for heard in self._heard.values():
            for came in (heard.masks, heard.nows, heard.records):
                came.clear()
        plan = sorted(
            (round(1e9 * feed.offset) + due, number, index)
            for number, feed in enumerate(self._feeds)
            for due, index in _due(feed, seconds + warm_up)
        )
        built = [[serialized(frame) for frame in feed.drive.frames] for feed in self._feeds]
        sent: list[list[tuple[int, float]]] = [[] for _ in self._feeds]
        with nothing_to_collect():
            start = time.monotonic()
            for due, number, index in plan:
                if (left := start + due / 1e9 - time.monotonic()) > 0:
                    time.sleep(left)
                sent[number].append((self._feeds[number].drive.frames[index].stamp, time.monotonic()))
                publish_serialized(self._publishers[number], built[number][index])
            self._check()
            self._settle(before)
        window = start + warm_up, start + warm_up + seconds
        return [
            _run(feed.name, sent[number], self._heard[feed.name], before[feed.name], window)
            for number, feed in enumerate(self._feeds)
        ]

    def _wanted(self) -> list[tuple[type, str, Callable[[np.ndarray, int], None]]]:
        wanted = []
        for feed in self._feeds:
            heard = self._heard[feed.name]
            wanted += [
                (Image, f"{feed.target}/mask", lambda data, _, to=heard.masks: to.append((_stamp(data), _now()))),
                (DiagnosticArray, f"{feed.target}/timing", lambda data, _, to=heard.records: to.append((data, _now()))),
            ]
            if self._now:
                wanted.append((Image, f"{feed.target}/mask_now", lambda data, _, to=heard.nows: to.append(_now())))
        return [*wanted, (DiagnosticArray, "/diagnostics", self._on_diagnostics)]

    def _on_diagnostics(self, data: np.ndarray, published: int) -> None:
        for status in deserialize_message(data.tobytes(), DiagnosticArray).status:
            # Before a model is loaded there are no counts.
            values = {item.key: item.value for item in status.values}
            if (heard := self._by_target.get(status.name)) is not None and "received" in values:
                heard.status, heard.counted = values, _now()

    def _settle(self, before: Mapping[str, Counter]) -> None:
        """Wait until each camera's count says that nothing is under way, and its records have come."""
        finished = _now()

        def settled(name: str) -> bool:
            heard = self._heard[name]
            grown = _counts(heard.status) - before[name]
            # A frame may still be on its way when the last one was sent.
            fresh = heard.counted > finished + 1.0 and heard.status["pending"] == "0"
            return fresh and len(heard.records) >= grown["received"]

        until = finished + _SETTLE_S
        while not all(map(settled, self._heard)) and _now() < until:
            self._check()
            time.sleep(_POLL_S)

    def _wait_for(self, condition: Callable[[], bool], what: str) -> None:
        until = _now() + _DISCOVERY_S
        while not condition():
            self._check()
            if _now() > until:
                targets = ", ".join(sorted({feed.target for feed in self._feeds}))
                raise NodeError(f"{targets} do not {what}, within {_DISCOVERY_S:.0f} s")
            time.sleep(_POLL_S)


def _due(feed: Feed, seconds: float) -> list[tuple[int, int]]:
    """Nanoseconds and index of each frame that is due within so many seconds."""
    loops = 1
    while True:
        schedule = make_schedule(feed.drive, feed.rate, loops)
        if schedule.due[-1] >= 1e9 * seconds:
            return [one for one in zip(schedule.due, schedule.frames, strict=True) if one[0] < 1e9 * seconds]
        if loops > 1 and not schedule.due[-1]:
            raise NodeError(f"{feed.name}: at the rate {feed.rate} no frame has a time; give one such as 30")
        loops *= 2


def _run(
    name: str, sent: Sequence[tuple[int, float]], heard: _Heard, before: Counter, window: tuple[float, float]
) -> CameraRun:
    begin, end = window
    messages = [(deserialize_message(data.tobytes(), DiagnosticArray), at) for data, at in list(heard.records)]
    outcomes = Counter(message.status[0].message for message, _ in messages)
    passed = [_Passed(stamp_ns(message.header), at, frame_record(message.status[0]).stages) for message, at in messages]
    inferences = [of.stages[Stage.INFERENCE] for of in passed if Stage.INFERENCE in of.stages]
    grown = _counts(heard.status) - before
    own = {"masked": grown["masked"]} | {drop.value: grown[f"dropped.{drop.value}"] for drop in DROPS}
    masks = [(stamp, at) for stamp, at in heard.masks if begin <= at < end]
    latency = _latency(masks, sent)
    blind, ended = longest_gap([at for _, at in masks], begin, end)
    return CameraRun(
        name=name,
        sent=len(sent),
        outcomes=dict(outcomes),
        balanced=grown["received"] == sum(own.values()) and {k: v for k, v in own.items() if v} == outcomes,
        masks_per_s=len(masks) / (end - begin),
        blind_s=blind,
        blind_ms_by=_spent(blind, [stamp for stamp, at in masks if at == ended], ended, passed),
        p50_ms=statistics.median(latency) if latency else None,
        p99_ms=float(np.percentile(latency, 99)) if latency else None,
        inference_ms=statistics.median(inferences) if inferences else None,
        nows_per_s=sum(begin <= at < end for at in heard.nows) / (end - begin),
    )


class _Passed(NamedTuple):
    """What the record of a frame tells."""

    stamp: int
    at: float
    """When the record came."""
    stages: dict[Stage, float]


def _spent(blind: float, ended_by: Sequence[int], ended: float, passed: Sequence[_Passed]) -> dict[str, float]:
    """See ``CameraRun.blind_ms_by``; the mask that ended the time is that of a stamp, at an instant."""
    own = [one for one in passed if one.stamp in ended_by and Stage.INFERENCE in one.stages]
    if not own:
        return {}
    # A drive that is looped repeats its stamps.
    stages = min(own, key=lambda one: abs(one.at - ended)).stages
    after = {stage.value: stages[stage] for stage in Stage if stage in stages and stage is not Stage.WAIT}
    return {"turn": 1e3 * blind - sum(after.values()), **after}


def _latency(masks: Sequence[tuple[int, float]], sent: Sequence[tuple[int, float]]) -> list[float]:
    """Milliseconds from the newest publication of a stamp to its mask: a drive that is looped repeats them."""
    at: dict[int, list[float]] = {}
    for stamp, instant in sent:
        at.setdefault(stamp, []).append(instant)
    found = []
    for stamp, arrived in masks:
        if earlier := [instant for instant in at.get(stamp, ()) if instant <= arrived]:
            found.append(1e3 * (arrived - earlier[-1]))
    return found


def _counts(status: Mapping[str, Any]) -> Counter:
    return Counter(
        {name: int(status.get(name, 0)) for name in ("received", "masked", *(f"dropped.{d.value}" for d in DROPS))}
    )


def _stamp(data: np.ndarray) -> int:
    return SerializedImage(data).stamp


def _now() -> float:
    return time.monotonic()
