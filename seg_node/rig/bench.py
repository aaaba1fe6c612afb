"""One run: a live node, a player that feeds it and a monitor process that watches it, and what came out frame by frame.

``Bench`` does it for a node that is active, ``replay_once`` in one call for a fresh process. Several ``Bench.play`` in
a row measure one live node again and again (``seg_node.rig.rates``).
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rclpy.node import NodeNameNonExistentError

from seg_node.bags.drive import Drive
from seg_node.bags.images import frame_size, with_transport
from seg_node.bags.reader import COMPRESSED_IMAGE, IMAGE
from seg_node.core.memory import nothing_to_collect
from seg_node.core.propagation.record import NOW_DROPS
from seg_node.core.timing import DROPS
from seg_node.rig.frames import Run, UsageSample
from seg_node.rig.matching import match, match_now
from seg_node.rig.monitor_process import MonitorProcess, Seen
from seg_node.rig.node_process import NodeError, NodeProcess, default_environment, default_profile_environment
from seg_node.rig.schedule import Schedule

DISCOVERY_S = 30.0
"""Longest wait for the node's topics and its first diagnostics."""
SETTLE_S = 60.0
"""Longest wait for frames under way after the last one was published."""
IDLE_S = 2.0
"""Length of the idle baseline."""

_IN_FLIGHT_S = 0.5
_QUIET_S = 3.0
_POLL_S = 0.02
_SHOW_S = 0.1
_COUNTERS = ("received", "masked", *(f"dropped.{drop.value}" for drop in DROPS), "late")
_NOW_COUNTERS = ("received", "propagated", *(f"dropped.{drop.value}" for drop in NOW_DROPS), "again")

Progress = Callable[[int, Seen], None]


class Target(Protocol):
    """The node under test: a ``NodeProcess``, or an ``AttachedNode``."""

    full_name: str

    @property
    def pid(self) -> int | None:
        """Process id on this machine; None where it is not known."""

    def check(self) -> None:
        """Raise ``NodeError`` if it is known to have ended."""

    def last_output(self, lines: int = 20) -> str:
        """What it printed last."""


@dataclass(frozen=True)
class AttachedNode:
    """A node that somebody else started, on this machine or another one.

    Its process is not known: there is no usage, and no notice of its end but silence.
    """

    full_name: str
    pid: None = field(default=None, init=False)

    def check(self) -> None:
        """Nothing is known."""

    def last_output(self, lines: int = 20) -> str:
        """Nothing is known."""
        return "not known: it was not started here"


class Bench:
    """A live node with a player and a monitor connected to it; a context manager.

    Args:
        drive: what is played; all images of one kind.
        target: the node, active. A ``NodeProcess`` must have been started.
        folder: for what the monitor prints and hands over; made if missing.
        topic: where images are published; None asks the ROS graph what the node subscribes to.
        qos: ``recorded``, ``best_effort`` or ``reliable``.
        clock: publish ``/clock`` too.
        alongside: other cameras of the same bag, published at the same times under their own names in the node's
            namespace, as load.
        name: of the ROS node that plays.
        now: listen to the mask of now, too, which makes the node compute it.
        convert: turn the drive's images into the kind that the node subscribes to, where that is the other one.

    Raises (on entering):
        NodeError: the node ended, or did not connect within ``DISCOVERY_S``; the topic is not clear.
        MonitorError: the monitor process ended.

    Example:
        >>> from seg_node.bags.drive import open_drive
        >>> from seg_node.rig.schedule import Rate, make_schedule
        >>> drive = open_drive("rosbags/synthetic_drive", duration=0.5)
        >>> parameters = {"model": "fpn_resnet50", "image_transport": "compressed", "warm_up_size": [360, 640]}
        >>> folder = Path("demo_output/example")
        >>> with NodeProcess(folder / "node.log", parameters, namespace="/example") as node:
        ...     node.wait_for("active")
        ...     with Bench(drive, node, folder) as bench:
        ...         run = bench.play(make_schedule(drive, Rate.parse("10")))
        >>> len(run.frames), run.frames[0].record.outcome.value
        (15, 'masked')
    """

    def __init__(
        self,
        drive: Drive,
        target: Target,
        folder: Path,
        *,
        topic: str | None = None,
        qos: str = "recorded",
        clock: bool = False,
        alongside: Sequence[Drive] = (),
        name: str = "replay",
        now: bool = False,
        convert: bool = False,
    ):
        self.drive = drive
        self.target = target
        self._folder = Path(folder)
        self._topic = topic
        self._options = {"qos": qos, "clock": clock}
        self._alongside = alongside
        self._name = name
        self._now = now
        self._convert = convert

    def __enter__(self) -> "Bench":
        attached = isinstance(self.target, AttachedNode)
        environment = default_profile_environment() if attached else default_environment()
        # Fast DDS reads its profile when the first participant of a process is made.
        os.environ.update(environment)
        import rclpy
        from rclpy.context import Context

        self._stack = ExitStack()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._monitor = self._stack.enter_context(
                MonitorProcess(self.target.full_name, self.target.pid, self._folder, environment, self._now)
            )
            # A context of its own: without signal handlers, so that Ctrl-C ends the run and not only the context.
            context = Context()
            rclpy.init(args=[], context=context)
            self._stack.callback(context.shutdown)
            namespace = self.target.full_name.rpartition("/")[0]
            self._node = rclpy.create_node(
                self._name, namespace=namespace, context=context, start_parameter_services=False
            )
            self._stack.callback(self._node.destroy_node)
            self._connect(namespace)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def topic(self) -> str:
        """Where images are published."""
        return self._topic

    @property
    def monitor_pid(self) -> int:
        """Process id of the monitor."""
        return self._monitor.pid

    @property
    def seen(self) -> Seen:
        """What the monitor saw last."""
        return self._monitor.seen

    @property
    def status(self) -> dict[str, str]:
        """Values of the node's newest status on ``/diagnostics``."""
        return self.seen.status

    @property
    def model(self) -> str:
        """Bundle of the node by the same status."""
        return self.seen.model

    def idle(self, seconds: float = IDLE_S) -> list[UsageSample]:
        """Usage of the node's process while no frame is sent; empty where the process is not known."""
        if self.target.pid is None:
            return []
        self._monitor.begin()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._check()
            time.sleep(_POLL_S)
        return self._monitor.end().usage

    def play(self, schedule: Schedule, warm_up: int = 0, progress: Progress | None = None) -> Run:
        """Play once and wait until the node has nothing under way.

        Args:
            schedule: of ``make_schedule`` for ``drive``.
            warm_up: so many frames at the start are counted but left out of latencies and accuracy.
            progress: called several times a second with the number of frames sent and what the monitor has seen.

        Returns:
            The run, without the idle baseline. What does not add up is in there, too: see ``scoring.summarise``.

        Raises:
            NodeError: the node ended.
            MonitorError: the monitor ended.
        """
        self._monitor.begin()
        before = _counts(self.seen.status)
        shown = 0.0

        def after_frame(count: int) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown > _SHOW_S or count == len(schedule.frames):
                shown = now
                self._check()
                if progress:
                    progress(count, self.seen)

        with nothing_to_collect():
            sent = self._player.play(schedule, after_frame)
        finished = time.monotonic_ns()
        self._settle(before, finished)
        if progress:
            # The masks that came after the last frame was sent are in there, too.
            progress(len(schedule.frames), self.seen)
        status, model = self.status, self.model
        observed = self._monitor.end()
        frames, strangers, repeated = match(
            [(s.frame, self.drive.frames[s.frame].stamp, s.due, s.at) for s in sent], observed.masks, observed.records
        )
        counters, now_counters = _growth(before, _counts(status))
        run = Run(
            setup=self._setup(schedule, status, model),
            frames=frames,
            counters=counters,
            warm_up=warm_up,
            strangers=strangers,
            repeated=repeated,
        )
        if self._now:
            run.nows, run.now_strangers = match_now(frames, observed.nows, observed.now_records)
            run.now_counters = now_counters
        # The last sample before the first frame and those while the node worked.
        last = max([finished, *(mask.arrived for _, mask in observed.masks)])
        run.usage = [sample for sample in observed.usage if sample.time <= last]
        return run

    def _connect(self, namespace: str) -> None:
        kinds = {"raw": IMAGE, "compressed": COMPRESSED_IMAGE}
        if self._topic is None:
            found = self._subscribed_topics()
            transport = _transport(self.drive)
            if self._convert and len(found) == 1 and not any(kinds[transport] in types for types in found.values()):
                transport = "raw" if transport == "compressed" else "compressed"
                self.drive = with_transport(self.drive, transport)
            self._topic = self._fitting_topic(found, kinds[transport])
        from seg_node.rig.player import Player

        alongside = [(drive, namespace + drive.topic) for drive in self._alongside]
        self._player = Player(self._node, self.drive, self._topic, alongside=alongside, **self._options)
        offered = f"{self._player.qos.reliability.name.lower()}; see --qos"
        self._wait_for(
            lambda: self._player.matched,
            f"does not subscribe to {self._topic}, or not with the QoS of the player ({offered})",
        )
        topics = ["~/mask", "~/timing", "/diagnostics", *["~/mask_now", "~/timing_now"] * self._now]
        self._wait_for(lambda: self.seen.matched, f"does not publish {', '.join(topics)}")
        self._wait_until_known()

    def _wait_until_known(self) -> None:
        """Wait until the node has learnt of the player, without which the first frames are lost.

        Each side learns of the other by itself, and of what a participant has in the order in which it was made: who
        answers to a subscription that was made last knows what was made before.
        """
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor

        name = f"{self.target.full_name}: segmentation"
        heard: list[DiagnosticArray] = []
        subscription = self._node.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
        executor = SingleThreadedExecutor(context=self._node.context)
        executor.add_node(self._node)

        def known() -> bool:
            executor.spin_once(timeout_sec=_POLL_S)
            return any(status.name == name for message in heard for status in message.status)

        try:
            self._wait_for(known, "does not answer on /diagnostics")
        finally:
            executor.remove_node(self._node)
            executor.shutdown()
            self._node.destroy_subscription(subscription)

    def _subscribed_topics(self) -> dict[str, list[str]]:
        """Image topics to which the node subscribes, with their types, by the ROS graph."""
        namespace, _, name = self.target.full_name.rpartition("/")
        found: dict[str, list[str]] = {}

        def ask() -> bool:
            try:
                topics = self._node.get_subscriber_names_and_types_by_node(name, namespace or "/")
            except NodeNameNonExistentError:
                return False
            found.update({topic: types for topic, types in topics if set(types) & {IMAGE, COMPRESSED_IMAGE}})
            return bool(found)

        self._wait_for(ask, "is not there, or subscribes to no image topic (is it active?)")
        return found

    def _fitting_topic(self, found: Mapping[str, Sequence[str]], kind: str) -> str:
        fitting = [topic for topic, types in found.items() if kind in types]
        if len(fitting) == 1:
            return fitting[0]
        held = ", ".join(f"{topic} ({'/'.join(types)})" for topic, types in sorted(found.items()))
        advice = "name one with --topic-out" if fitting else "choose the other --image-transport"
        raise NodeError(
            f"the node {self.target.full_name} subscribes to {len(fitting)} topics of type {kind}, which the drive is"
            f" of; it subscribes to {held}: {advice}"
        )

    def _wait_for(self, condition: Callable[[], bool], problem: str) -> None:
        deadline = time.monotonic() + DISCOVERY_S
        while not condition():
            self._check()
            if time.monotonic() > deadline:
                raise NodeError(
                    f"the node {self.target.full_name} {problem}, after {DISCOVERY_S:.0f} s;"
                    f" its last output:\n{self.target.last_output()}"
                )
            time.sleep(_POLL_S)

    def _settle(self, before: "_Counts", finished: int) -> None:
        """Wait until the node says that nothing is under way and everything it counted has arrived.

        What never arrives is not waited for longer than ``_QUIET_S`` after the last that did.
        """
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            self._check()
            seen = self.seen
            grown, grown_now = _growth(before, _counts(seen.status))
            if seen.counted > finished + _IN_FLIGHT_S * 1e9 and grown["pending"] == grown_now["pending"] == 0:
                arrived = seen.records == grown["received"] and seen.masks == grown["masked"]
                if arrived and seen.now_records == (grown_now["received"] + grown_now["again"]) * self._now:
                    return
                if time.monotonic_ns() - max(seen.newest, finished) > _QUIET_S * 1e9:
                    return
            time.sleep(_POLL_S)

    def _check(self) -> None:
        self.target.check()
        self._monitor.check()

    def _setup(self, schedule: Schedule, status: Mapping[str, str], model: str) -> dict[str, Any]:
        height, width = frame_size(self.drive)
        return {
            "drive": str(self.drive.path),
            "topic": self.drive.topic,
            "frames": len(self.drive.frames),
            "height": height,
            "width": width,
            "transport": _transport(self.drive),
            "rate": str(schedule.rate),
            "rate_hz": schedule.hz,
            "loops": schedule.loops,
            "qos": self._options["qos"],
            "clock": self._options["clock"],
            "alongside": [drive.topic for drive in self._alongside],
            "node": self.target.full_name,
            "attached": isinstance(self.target, AttachedNode),
            "model": model,
            "engine": status.get("engine", ""),
            "device": status.get("device", ""),
        }


def _transport(drive: Drive) -> str:
    return "raw" if drive.frames[0].kind == "image" else "compressed"


_Counts = tuple[dict[str, int], dict[str, int]]
"""Those of ``~/mask``, and those of the mask of now."""


def _counts(status: Mapping[str, str]) -> _Counts:
    own, now = (
        {name: int(status.get(prefix + name, 0)) for name in (*names, "pending")}
        for prefix, names in (("", _COUNTERS), ("propagation.", _NOW_COUNTERS))
    )
    return own, now


def _growth(before: _Counts, after: _Counts) -> _Counts:
    """By how much counts have grown; what is pending counts as it is."""
    own, now = (
        {name: count - (0 if name == "pending" else old[name]) for name, count in new.items()}
        for old, new in zip(before, after, strict=True)
    )
    return own, now


def replay_once(
    drive: Drive,
    target: NodeProcess | AttachedNode,
    schedule: Schedule,
    folder: Path,
    *,
    warm_up: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> Run:
    """Start the node in a fresh process (unless it is attached), measure it idle, play once, stop it.

    Args:
        drive, folder, options: see ``Bench``.
        target: not started yet, with ``autostart``; or attached.
        schedule, warm_up, progress: see ``Bench.play``.

    Raises:
        NodeError: the node did not come up, did not connect, or ended.
        MonitorError: the monitor ended.
    """
    with ExitStack() as stack:
        if isinstance(target, NodeProcess):
            stack.enter_context(target)
            target.wait_for("active")
        bench = stack.enter_context(Bench(drive, target, folder, **options))
        idle = bench.idle()
        run = bench.play(schedule, warm_up, progress)
    run.idle = idle
    return run
