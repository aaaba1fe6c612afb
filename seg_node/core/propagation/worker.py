"""The thread that carries masks beside the inference: newest frame only, and an account of every frame."""

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from seg_node.core.errors import UndecodableError
from seg_node.core.propagation.flow import single_threaded_opencv
from seg_node.core.propagation.picture import Picture
from seg_node.core.propagation.propagator import Carried, Propagator
from seg_node.core.propagation.record import NOW_DROPS, NOW_FAULTS, NowOutcome, NowRecord, NowStage
from seg_node.core.slot import Accounting
from seg_node.core.taxonomy import Category
from seg_node.core.timing import Stopwatch

M = TypeVar("M")


class NowPort(ABC, Generic[M]):
    """What the propagating thread asks of its surroundings; ``M`` is the message that carries a frame.

    ``wanted`` is called by the thread that submits, ``report`` by that one, too, all others by the propagating thread.
    """

    @abstractmethod
    def wanted(self) -> bool:
        """Whether anybody listens."""

    @abstractmethod
    def picture(self, message: M) -> Picture:
        """Small grey picture of a message.

        Raises:
            UndecodableError: the message holds no image.
        """

    @abstractmethod
    def source_trouble(self) -> str:
        """Why no inferred mask can be trusted any more, such as an engine that is stuck; empty while all is well."""

    @abstractmethod
    def publish(self, message: M, carried: Carried) -> None:
        """Hand on a mask; its pixels are valid until the return."""

    @abstractmethod
    def report(self, message: M, record: NowRecord) -> None:
        """Hand on the record of a frame."""


@dataclass(eq=False)
class _Frame(Generic[M]):
    number: int
    message: M
    stamp: int
    arrived: int = field(default_factory=lambda: time.monotonic_ns())

    def __post_init__(self):
        self.stopwatch: Stopwatch[NowStage] = Stopwatch(self.arrived)


class PropagationWorker(Generic[M]):
    """Carries masks to the newest frame in a thread of its own.

    Frames come by ``submit``. The segmentation tells of each inference by ``begin`` and ``finish``, from any thread;
    both return at once. Nothing is computed while nobody listens.

    Args:
        port: see ``NowPort``.
        max_age: milliseconds from the keyframe to the time for which a mask would hold, after which there is none.
        horizon: milliseconds ahead of its frame for which a mask holds.
        enabled: whether to do anything at all.
        turn: what to wait for before each piece of work, and to hold while it lasts, so that several cameras share the
            cores; see ``Budget.turn``. Frames that come meanwhile supersede each other.
    """

    def __init__(
        self,
        port: NowPort[M],
        max_age: float = 1000.0,
        horizon: float = 0.0,
        enabled: bool = True,
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
    ):
        self.accounting: Accounting[NowOutcome] = Accounting(NowOutcome.PROPAGATED, NOW_DROPS)
        self.max_age = max_age
        self.horizon = horizon
        self.enabled = enabled
        self.again = 0
        """Masks that were published a second time for their frame."""
        self._port = port
        self._turn, self._shares = turn, turn is not nullcontext
        self._fault = ""
        self._thread: threading.Thread | None = None
        self._condition = threading.Condition()
        # Between the threads, all under the condition's lock.
        self._closed = True
        self._active = False
        self._waiting: _Frame[M] | None = None
        self._submitted = -1
        self._events: deque[Callable[[], None]] = deque()
        # Of the propagating thread alone.
        self._propagator = Propagator()
        self._newest: _Frame[M] | None = None
        self._coming: _Frame[M] | None = None
        """What is propagated after the events that came before it."""
        self._begins_after = -1
        """Number of the last frame whose mask is not to be carried."""

    def start(self) -> None:
        """Begin to accept frames."""
        self._closed = self._active = False
        self._events.clear()
        self._thread = threading.Thread(target=self._work, name="propagator", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse further frames; returns once the one that waits has its end."""
        if self._thread is None:
            return
        with self._condition:
            self._closed, self._active = True, False
            self._condition.notify()
        self._thread.join()
        self._thread = None

    def status(self) -> dict[str, str]:
        """Values for diagnostics, behind ``propagation.``.

        Returns:
            The counts of ``Accounting.snapshot``; ``again``; ``fault``, the newest error, once there was one.
        """
        values = self.accounting.snapshot() | {"again": self.again}
        if self._fault:
            values["fault"] = self._fault
        return {f"propagation.{name}": str(value) for name, value in values.items() if name != "late"}

    def submit(self, number: int, message: M, stamp: int) -> None:
        """Offer the newest frame; the one that it supersedes is dropped.

        Args:
            number: greater than that of the frame before.
            message: the frame.
            stamp: its header's, in nanoseconds.
        """
        wanted = self.enabled and self._port.wanted()
        superseded = None
        with self._condition:
            wanted &= not self._closed
            self._submitted = number
            if wanted != self._active:
                # Pictures were missed, or will be.
                self._active = wanted
                self._events.append(self._forget)
            if wanted:
                self.accounting.receive()
                superseded, self._waiting = self._waiting, _Frame(number, message, stamp)
            if self._waiting or self._events:
                self._condition.notify()
        if superseded is not None:
            superseded.stopwatch.lap(NowStage.WAIT)
            self._settle(superseded, NowRecord(NowOutcome.SUPERSEDED))

    def begin(self, number: int, message: M, stamp: int) -> None:
        """Hear that the inference of a frame begins; the arguments are those of ``submit``."""
        frame = _Frame(number, message, stamp)
        self._tell(lambda: self._begin(frame))

    def finish(self, number: int, mask: np.ndarray, void: int | None = Category.VOID) -> None:
        """Hear that the mask of a frame is there.

        Args:
            number: of the frame.
            mask: uint8 [H, W] of category ids; kept, and not to be changed.
            void: see ``Propagator.finish``.
        """
        ended = time.monotonic_ns()
        self._tell(lambda: self._finish(number, mask, void, ended))

    def reset(self, reason: str) -> None:
        """Forget all masks, those of all frames that were submitted too, for a reason that the records name."""
        # One of these frames may be in the hands of what made the old masks, though its inference has not begun.
        with self._condition:
            newest = self._submitted
        self._tell(lambda: self._reset(newest, reason))

    def _tell(self, event: Callable[[], None]) -> None:
        with self._condition:
            if self._active:
                self._events.append(event)
                self._condition.notify()

    def _work(self) -> None:
        with ExitStack() as opencv:
            held = False
            while self._has_work():
                with self._turn():
                    frame, events, active = self._take()
                    self._coming = frame
                    if active and not held:
                        opencv.enter_context(single_threaded_opencv())
                    elif held and not active:
                        opencv.close()
                    held = active
                    for event in events:
                        self._survive(event)
                    if frame is not None:
                        self._settle(frame, self._propagate(frame))
        self._forget()

    def _has_work(self) -> bool:
        """Wait for a frame or events; False at the end, once there are none."""
        with self._condition:
            self._condition.wait_for(lambda: self._waiting or self._events or self._closed)
            return bool(self._waiting or self._events)

    def _take(self) -> tuple[_Frame[M] | None, deque[Callable[[], None]], bool]:
        """The frame that waits, the events that came before it, and whether anybody listens."""
        with self._condition:
            frame, self._waiting = self._waiting, None
            events, self._events = self._events, deque()
            return frame, events, self._active

    def _survive(self, event: Callable[[], None]) -> None:
        try:
            event()
        except Exception as error:
            # No frame's end hangs on it, and the thread must go on.
            self._propagator.reset(_reason(error))

    def _reset(self, newest: int, reason: str) -> None:
        self._begins_after = newest
        self._propagator.reset(reason)

    def _begin(self, frame: _Frame[M]) -> None:
        if frame.number > self._propagator.number:
            # Superseded here before its turn came, but the segmentation's worker took it.
            self._advance(frame, self._port.picture(frame.message))
        if frame.number > self._begins_after:
            self._propagator.begin(frame.number, frame.stamp, frame.arrived)

    def _finish(self, number: int, mask: np.ndarray, void: int | None, ended: int) -> None:
        """Carry the new mask, and to the newest frame at once: its mask comes from an older one so far.

        Where turns are dear, only if no newer one waits, which has the new mask next.
        """
        if not self._propagator.finish(number, mask, void) or (self._shares and self._coming is not None):
            return
        frame = self._newest
        if frame is not None and frame.number == self._propagator.number:
            stopwatch: Stopwatch[NowStage] = Stopwatch(ended)
            stopwatch.lap(NowStage.WAIT)
            record = self._carry(frame, stopwatch)
            record.again = True
            self.again += record.outcome is NowOutcome.PROPAGATED
            self._report(frame, record, stopwatch)

    def _forget(self) -> None:
        """Begin anew: the pictures that come next do not follow those before."""
        self._propagator, self._newest = Propagator(), None

    # No error of one frame may end the thread, hence the broad except.

    def _propagate(self, frame: _Frame[M]) -> NowRecord:
        frame.stopwatch.lap(NowStage.WAIT)
        try:
            if frame.number > self._propagator.number:
                picture = self._port.picture(frame.message)
                frame.stopwatch.lap(NowStage.DECODE)
                self._advance(frame, picture)
                frame.stopwatch.lap(NowStage.FLOW)
            self._newest = frame
            return self._carry(frame, frame.stopwatch)
        except UndecodableError as error:
            return NowRecord(NowOutcome.UNDECODABLE, detail=_reason(error))
        except Exception as error:
            return NowRecord(NowOutcome.FAILED, detail=_reason(error))

    def _advance(self, frame: _Frame[M], picture: Picture) -> None:
        if self._newest is not None and (gap := (frame.arrived - self._newest.arrived) / 1e6) > self.max_age:
            self._propagator.reset(f"no frame came for {gap:.0f} ms")
        self._propagator.advance(frame.number, picture, frame.stamp)

    def _carry(self, frame: _Frame[M], stopwatch: Stopwatch[NowStage]) -> NowRecord:
        """Carry the mask to the newest picture, which is the frame's, and publish it."""
        if trouble := self._port.source_trouble():
            self._propagator.reset(trouble)
        carried = self._propagator.carry(self.horizon)
        if carried is None:
            return NowRecord(NowOutcome.NO_KEYFRAME, detail=self._propagator.reason)
        stopwatch.lap(NowStage.WARP)
        record = NowRecord(
            NowOutcome.PROPAGATED,
            keyframe=carried.keyframe,
            keyframe_age=carried.age_ms,
            frames=carried.frames,
            horizon=carried.horizon_ms,
            residual=carried.residual,
        )
        # By the clock, too: stamps may stand still.
        since_arrival = (time.monotonic_ns() - carried.arrived) / 1e6
        if (age := max(carried.age_ms, since_arrival)) > self.max_age:
            record.outcome = NowOutcome.EXPIRED
            record.detail = f"the newest mask is of a frame {age:.0f} ms old, propagate_max_age_ms is {self.max_age:g}"
        elif trouble := self._port.source_trouble():
            # The engine was given up meanwhile.
            self._propagator.reset(trouble)
            return NowRecord(NowOutcome.NO_KEYFRAME, detail=trouble)
        else:
            self._port.publish(frame.message, carried)
            stopwatch.lap(NowStage.PUBLISH)
        return record

    def _settle(self, frame: _Frame[M], record: NowRecord) -> None:
        if record.outcome in NOW_FAULTS:
            self._fault = record.detail
        self.accounting.settle(record.outcome)
        self._report(frame, record, frame.stopwatch)

    def _report(self, frame: _Frame[M], record: NowRecord, stopwatch: Stopwatch[NowStage]) -> None:
        record.stages, record.total = dict(stopwatch.stages), stopwatch.total()
        try:
            self._port.report(frame.message, record)
        except Exception as error:
            self._fault = _reason(error)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".replace("\n", " ")
