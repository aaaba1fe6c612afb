"""The path of one camera's frames: slot, decode, inference in a shared worker, publication, and record."""

import statistics
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from typing import Generic, TypeVar

import numpy as np

from seg_node.core.scheduling.frame import WaitingFrame, reason
from seg_node.core.scheduling.worker import InferenceWorker
from seg_node.core.slot import Accounting
from seg_node.core.timing import FAULTS, FrameRecord, Outcome, Stage
from seg_node.core.upkeep.attempts import Attempts

M = TypeVar("M")

_INFERENCES_KEPT = 1000
"""Times of inferences that are kept for a status, if nobody asks for one."""


class FramePort(ABC, Generic[M]):
    """What the worker asks of its surroundings; ``M`` is the message that carries a frame.

    The worker calls all methods but ``publish``, which the thread that publishes calls. ``report`` and ``age`` are
    called by that one, too, by the thread that submits and by the one that watches the worker.
    """

    @abstractmethod
    def decode(self, message: M) -> np.ndarray:
        """Image of a message, uint8 [H, W, 3] BGR, contiguous.

        Raises:
            UndecodableError: the message holds no such image.
        """

    @abstractmethod
    def age(self, message: M) -> float | None:
        """Milliseconds from the message's stamp until now, None without a stamp."""

    def reception(self) -> float:
        """Seconds of a core that the reception of frames has taken so far; 0 where that is not known."""
        return 0.0

    @abstractmethod
    def wants_confidence(self) -> bool:
        """Whether anybody listens to the confidence of the next mask."""

    @abstractmethod
    def publish(self, message: M, mask: np.ndarray, confidence: np.ndarray | None) -> None:
        """Hand on a mask, uint8 [H, W], and the confidence, if it was wanted."""

    @abstractmethod
    def report(self, message: M, record: FrameRecord) -> None:
        """Hand on the record of a frame, masked or dropped."""


class Segmenter(Generic[M]):
    """Has the newest frame of one camera masked, in its turn, and accounts for all the others.

    Args:
        worker: masks the frames of this camera and of all others that were given it; not started yet.
        port: see ``FramePort``.
        max_age: milliseconds from a frame's stamp after which it is not worth masking; 0 for no limit.
        deadline: milliseconds from reception after which a mask is marked late; 0 for never.
        patience: share of a waiting frame's age within which the next one must be due to be waited for; 0 to begin at
            once. See ``seg_node.core.slot.Rhythm``.
        priority: turns, while all cameras wait, for each one of a camera of priority 1.

    Example:
        >>> from seg_node.core.bundle import load_bundle
        >>> from seg_node.core.engines import create_engine
        >>> class Printer(FramePort[np.ndarray]):
        ...     def decode(self, message):
        ...         return message
        ...     def age(self, message):
        ...         return None
        ...     def wants_confidence(self):
        ...         return False
        ...     def publish(self, message, mask, confidence):
        ...         print("mask of", mask.shape)
        ...     def report(self, message, record):
        ...         print(record.outcome.value, "by", record.model)
        >>> worker = InferenceWorker(create_engine(load_bundle("fpn_resnet50")))
        >>> front = Segmenter(worker, Printer())
        >>> worker.start()
        True
        >>> front.submit(np.zeros((360, 640, 3), np.uint8))
        >>> worker.stop(timeout=60.0)  # finishes the frame that is pending
        mask of (360, 640)
        masked by fpn_resnet50
        True
    """

    def __init__(
        self,
        worker: InferenceWorker,
        port: FramePort[M],
        max_age: float = 0.0,
        deadline: float = 0.0,
        patience: float = 0.0,
        priority: int = 1,
    ):
        self.accounting = Accounting()
        self.max_age = max_age
        self.deadline = deadline
        self.patience = patience
        self.priority = priority
        self.frame_size: tuple[int, int] | None = None
        """(height, width) of the newest decoded frame."""
        self.given_up = ""
        """Why this camera rests while others are masked; empty if it does not."""
        self._worker = worker
        self._port = port
        self._failures = 0
        self._failures_lock = threading.Lock()
        self._masked_at: float | None = None
        self._attempts = Attempts()
        self._last_status = (time.monotonic(), self.accounting.snapshot())
        self._last_masked: FrameRecord | None = None
        self._fault = ""
        self._inferences: deque[float] = deque(maxlen=_INFERENCES_KEPT)
        self.number = worker.add(self)
        """Number of the camera, in the order in which the worker was given them."""

    @property
    def trouble(self) -> str:
        """What keeps frames from being masked, empty if nothing does."""
        return self._worker.trouble or self.rest

    @property
    def rest(self) -> str:
        """Why no frame of this camera is tried now although others are masked; empty if one is.

        Each failure takes a turn, and one that takes its time takes it from the others.
        """
        given_up, left = self.given_up, self._attempts.left()
        return f"{given_up}; the next is tried in {left:.0f} s" if given_up and left else ""

    def status(self) -> dict[str, str]:
        """Values for diagnostics.

        Returns:
            The counts of ``Accounting.snapshot``; ``rate.received`` and ``rate.masked`` in Hz since the last call;
            ``age`` in milliseconds of the newest masked frame when it was done and ``fault``, the detail of the
            newest failure, once there was one; ``inference``, the median in milliseconds of what was masked since the
            last call, where anything was; ``engine``, ``device``, ``precision`` (as the engine was made with),
            ``input_size`` and ``engine_reason``.
        """
        now, counts = time.monotonic(), self.accounting.snapshot()
        since, before = self._last_status
        self._last_status = (now, counts)
        values = {name: str(count) for name, count in counts.items()}
        for name in ("received", "masked"):
            values[f"rate.{name}"] = f"{(counts[name] - before[name]) / max(now - since, 1e-3):.2f}"
        if self._last_masked is not None and self._last_masked.age is not None:
            values["age"] = f"{self._last_masked.age:.3f}"
        if self._fault:
            values["fault"] = self._fault
        if inferences := list(self._inferences):
            self._inferences.clear()
            values["inference"] = f"{statistics.median(inferences):.3f}"
        engine = self._worker.engine
        about = {"engine": engine.name, "device": engine.device, "precision": engine.precision}
        about["input_size"] = "x".join(map(str, engine.bundle.manifest.input_size))
        return values | about | {"engine_reason": engine.reason}

    def submit(self, message: M) -> None:
        """Offer the newest frame; the one that it supersedes is dropped."""
        if not self._worker.accepts:
            return
        frame = WaitingFrame(message, self)
        self.accounting.receive()
        if rest := self.rest:
            self._record(frame, Outcome.FAILED, rest)
            return
        dropped, stuck = self._worker.submit(frame, self.number)
        if dropped is frame:
            # Where it is both stuck and stopped, the stuck inference is the reason that matters.
            if stuck:
                self.settle(frame, Outcome.FAILED, "an earlier inference has not returned")
            else:
                self.settle(frame, Outcome.STALE, "segmentation is stopping")
        elif dropped is not None:
            dropped.stopwatch.lap(Stage.WAIT)
            self.settle(dropped, Outcome.SUPERSEDED)

    def gathering(self) -> float:
        """Seconds for which frames are to gather before those that came are submitted: more than 0 in a flood."""
        return self._worker.gathering(self.number)

    def begin_anew(self) -> None:
        """See ``CameraPath``."""
        with self._failures_lock:
            self._failures, self.given_up, self._masked_at = 0, "", None
            self._attempts.stop()

    def healthy_since(self, instant: float) -> bool:
        """See ``CameraPath``."""
        masked_at = self._masked_at
        return masked_at is not None and masked_at >= instant and not self._failures

    @property
    def reception(self) -> float:
        """See ``CameraPath``."""
        return self._port.reception()

    def staleness(self, message: M) -> str:
        """See ``CameraPath``."""
        if not self.max_age or (age := self._port.age(message)) is None or age <= self.max_age:
            return ""
        return f"{age:.0f} ms old, max_age_ms is {self.max_age:g}"

    def decode(self, message: M) -> np.ndarray:
        """See ``CameraPath``."""
        bgr = self._port.decode(message)
        self.frame_size = bgr.shape[:2]
        return bgr

    def wants_confidence(self) -> bool:
        """See ``CameraPath``."""
        return self._port.wants_confidence()

    # No error of one frame may end the worker or the thread that publishes, hence the broad excepts.

    def finish(self, frame: WaitingFrame, outcome: Outcome, detail: str, result: tuple | None) -> None:
        """See ``CameraPath``."""
        if result is not None:
            try:
                self._port.publish(frame.message, *result)
                frame.stopwatch.lap(Stage.PUBLISH)
            except Exception as error:
                outcome, detail = Outcome.FAILED, reason(error, "in publication")
        self.settle(frame, outcome, detail)

    def settle(self, frame: WaitingFrame, outcome: Outcome, detail: str = "") -> None:
        """See ``CameraPath``."""
        self._record(frame, outcome, detail)
        self._count_failures(outcome, detail)

    def _record(self, frame: WaitingFrame, outcome: Outcome, detail: str) -> None:
        total = frame.stopwatch.total()
        late = outcome is Outcome.MASKED and 0 < self.deadline < total
        self.accounting.settle(outcome, late)
        try:
            record = FrameRecord(
                outcome=outcome,
                model=(frame.engine or self._worker.engine).bundle.name,
                # A copy: the worker of a frame that was given up still measures.
                stages=dict(frame.stopwatch.stages),
                total=total,
                age=self._port.age(frame.message),
                late=late,
                detail=detail,
            )
            if outcome is Outcome.MASKED:
                self._last_masked = record
                self._inferences.append(record.stages[Stage.INFERENCE])
            elif outcome in FAULTS:
                self._fault = detail
            self._port.report(frame.message, record)
        except Exception as error:
            self._fault = f"no record of a frame that was {outcome.value}: {reason(error, 'in its report')}"

    def _count_failures(self, outcome: Outcome, detail: str) -> None:
        with self._failures_lock:
            if outcome is Outcome.MASKED:
                self._failures, self._masked_at = 0, time.monotonic()
                if self.given_up:
                    self.given_up = ""
                    self._attempts.succeeded()
            if outcome is not Outcome.FAILED:
                return
            self._failures += 1
            if self._worker.given_up or not 0 < self._worker.failure_limit <= self._failures:
                return
            text = f"{self._failures} frames in a row failed, the last: {detail}"
        if not self._worker.give_up_with(text, self):
            with self._failures_lock:
                self.given_up = text
                # One that was under way when the rest began does not make it longer.
                if not self._attempts.left():
                    self._attempts.failed()
