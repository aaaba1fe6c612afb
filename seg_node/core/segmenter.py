"""The path of a frame: slot, worker thread, decode, inference, publication, and its record."""

import threading
import time
from abc import ABC, abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from seg_node.core.engines import Engine
from seg_node.core.slot import Accounting, Slot
from seg_node.core.timing import FAULTS, FrameRecord, Outcome, Stage, Stopwatch

M = TypeVar("M")

_WATCH_S = 0.05
"""Seconds between two looks at how long an inference takes."""


class FramePort(ABC, Generic[M]):
    """What the worker asks of its surroundings; ``M`` is the message that carries a frame.

    The worker calls all methods but ``publish``, which the thread that publishes calls. ``report``, ``age`` and
    ``give_up`` are called by that one, too, by the thread that submits and by the one that watches the worker.
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

    @abstractmethod
    def wants_confidence(self) -> bool:
        """Whether anybody listens to the confidence of the next mask."""

    @abstractmethod
    def publish(self, message: M, mask: np.ndarray, confidence: np.ndarray | None) -> None:
        """Hand on a mask, uint8 [H, W], and the confidence, if it was wanted."""

    @abstractmethod
    def report(self, message: M, record: FrameRecord) -> None:
        """Hand on the record of a frame, masked or dropped."""

    @abstractmethod
    def give_up(self, reason: str) -> None:
        """Hear, once after each start, that too many frames in a row have failed."""


@dataclass(eq=False)
class _Frame(Generic[M]):
    message: M
    stopwatch: Stopwatch = field(default_factory=lambda: Stopwatch(time.monotonic_ns()))
    engine: Engine | None = None
    """Engine that works on the frame; None before its turn."""
    inferring_since: float | None = None
    """Reading of ``time.monotonic`` while an engine works on it."""


class Segmenter(Generic[M]):
    """Masks the newest frame in a worker thread and accounts for all the others.

    Another thread publishes each mask and its record, so that the worker goes on with the next frame meanwhile.

    An inference that does not return in time is given up: its frame and all that come while it lasts fail, and if it
    returns after all, its result is discarded and the same worker goes on. There is never a second one on an engine.

    Args:
        engine: warmed up.
        port: see ``FramePort``.
        max_age: milliseconds from a frame's stamp after which it is not worth masking; 0 for no limit.
        deadline: milliseconds from reception after which a mask is marked late; 0 for never.
        inference_timeout: milliseconds after which an inference is given up; 0 for never. What an engine has to
            compile for a new frame size does not count.
        failure_limit: failures in a row after which ``FramePort.give_up`` is called; 0 for never.
        patience: share of a waiting frame's age within which the next one must be due to be waited for; 0 to begin at
            once. See ``seg_node.core.slot.Rhythm``.

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
        ...     def give_up(self, reason):
        ...         print(reason)
        >>> segmenter = Segmenter(create_engine(load_bundle("fpn_resnet50")), Printer())
        >>> segmenter.start()
        True
        >>> segmenter.submit(np.zeros((360, 640, 3), np.uint8))
        >>> segmenter.stop(timeout=60.0)  # finishes the frame that is pending
        mask of (360, 640)
        masked by fpn_resnet50
        True
    """

    def __init__(
        self,
        engine: Engine,
        port: FramePort[M],
        max_age: float = 0.0,
        deadline: float = 0.0,
        inference_timeout: float = 0.0,
        failure_limit: int = 0,
        patience: float = 0.0,
    ):
        self.accounting = Accounting()
        self.max_age = max_age
        self.deadline = deadline
        self.inference_timeout = inference_timeout
        self.failure_limit = failure_limit
        self.patience = patience
        self.frame_size: tuple[int, int] | None = None
        """(height, width) of the newest decoded frame."""
        self.engine = engine
        """Engine of the next frame. Assigning another swaps between two frames; warm it up before."""
        self.given_up = ""
        """Why ``FramePort.give_up`` was called since the start; empty if it was not."""
        self._port = port
        self._slot: Slot[_Frame[M]] | None = None
        self._worker: threading.Thread | None = None
        self._watcher: threading.Thread | None = None
        self._stopped = threading.Event()
        self._in_work: _Frame[M] | None = None
        self._failures = 0
        self._failures_lock = threading.Lock()
        self._last_status = (time.monotonic(), self.accounting.snapshot())
        self._last_masked: FrameRecord | None = None
        self._fault = ""

    @property
    def stuck(self) -> bool:
        """Whether the worker is busy with an inference that was given up."""
        return self._slot is not None and self._slot.blocked

    @property
    def trouble(self) -> str:
        """What keeps frames from being masked, empty if nothing does."""
        frame = self._in_work
        if self.stuck and frame is not None and frame.inferring_since is not None:
            return f"an inference has not returned for {time.monotonic() - frame.inferring_since:.1f} s"
        return self.given_up

    def start(self) -> bool:
        """Begin to accept frames.

        Returns:
            False if the engine is still in an inference that was given up: only another one can start.
        """
        if self._worker is not None and self._worker.is_alive():
            return False
        self._slot, self._stopped = Slot(), threading.Event()
        self._failures, self.given_up = 0, ""
        self._worker = threading.Thread(target=self._work, args=(self._slot,), name="segmenter", daemon=True)
        self._watcher = threading.Thread(
            target=self._watch, args=(self._slot, self._stopped), name="segmenter watchdog", daemon=True
        )
        self._worker.start()
        self._watcher.start()
        return True

    def stop(self, timeout: float) -> bool:
        """Refuse further frames and finish those that are pending; what is not finished in time fails.

        Returns:
            Whether the worker ended within ``timeout`` seconds.
        """
        if self._slot is None or self._worker is None or self._watcher is None:
            return True
        self._slot.close()
        until = time.monotonic() + timeout
        while self._worker.is_alive() and not self._slot.blocked and time.monotonic() < until:
            self._worker.join(_WATCH_S)
        self._stopped.set()
        self._watcher.join()
        self._fail(self._slot.take_back(), f"inference has not ended {timeout:g} s after the stop")
        return not self._worker.is_alive()

    def status(self) -> dict[str, str]:
        """Values for diagnostics.

        Returns:
            The counts of ``Accounting.snapshot``; ``rate.received`` and ``rate.masked`` in Hz since the last call;
            ``age`` in milliseconds of the newest masked frame when it was done and ``fault``, the detail of the
            newest failure, once there was one; ``engine``, ``device``, ``precision`` (as the engine was made with) and
            ``engine_reason``.
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
        engine = self.engine
        about = {"engine": engine.name, "device": engine.device, "precision": engine.precision}
        return values | about | {"engine_reason": engine.reason}

    def submit(self, message: M) -> None:
        """Offer the newest frame; the one that it supersedes is dropped."""
        if self._slot is None:
            return
        frame = _Frame(message)
        self.accounting.receive()
        dropped = self._slot.put(frame)
        if dropped is frame:
            # Where the slot is both, the stuck inference is the reason that matters.
            if self._slot.blocked:
                self._fail([frame], "an earlier inference has not returned")
            else:
                self._settle(frame, Outcome.STALE, "segmentation is stopping")
        elif dropped is not None:
            dropped.stopwatch.lap(Stage.WAIT)
            self._settle(dropped, Outcome.SUPERSEDED)

    def _work(self, slot: Slot[_Frame[M]]) -> None:
        published: Future | None = None
        with ThreadPoolExecutor(1, "publisher") as publisher:
            while (frame := slot.take(self.patience)) is not None:
                frame.stopwatch.lap(Stage.WAIT)
                # Read once: a swap in the middle of a frame takes effect with the next one.
                frame.engine = self.engine
                self._in_work = frame
                outcome, detail, result = self._infer(frame, frame.engine)
                if not slot.done(frame):
                    # The frame was given up, and has its end already.
                    continue
                if published:
                    # A middleware that is slower than the engine slows it down, rather than to have masks queue.
                    published.result()
                # Raised where the interpreter ends: nobody waits for this mask any more.
                with suppress(RuntimeError):
                    published = publisher.submit(self._finish, frame, outcome, detail, result)

    # No error of one frame may end the worker, hence the broad excepts.

    def _infer(self, frame: _Frame[M], engine: Engine) -> tuple[Outcome, str, tuple | None]:
        """Decode and segment: an outcome with its reason, or mask and confidence."""
        try:
            if self.max_age and (age := self._port.age(frame.message)) is not None and age > self.max_age:
                return Outcome.STALE, f"{age:.0f} ms old, max_age_ms is {self.max_age:g}", None
            bgr = self._port.decode(frame.message)
        except Exception as error:
            return Outcome.UNDECODABLE, _reason(error, "in decoding"), None
        frame.stopwatch.lap(Stage.DECODE)
        height, width = self.frame_size = bgr.shape[:2]
        try:
            confidence = self._port.wants_confidence()
            engine.prepare((height, width), confidence)
            frame.inferring_since = time.monotonic()
            result = engine.infer(bgr, confidence)
        except Exception as error:
            return Outcome.FAILED, _reason(error, f"in inference of {width}x{height} pixels"), None
        finally:
            frame.inferring_since = None
        frame.stopwatch.lap(Stage.INFERENCE)
        return Outcome.MASKED, "", result

    def _finish(self, frame: _Frame[M], outcome: Outcome, detail: str, result: tuple | None) -> None:
        if result is not None:
            outcome, detail = self._publish(frame, *result)
        self._settle(frame, outcome, detail)

    def _publish(self, frame: _Frame[M], mask: np.ndarray, confidence: np.ndarray | None) -> tuple[Outcome, str]:
        try:
            self._port.publish(frame.message, mask, confidence)
        except Exception as error:
            return Outcome.FAILED, _reason(error, "in publication")
        frame.stopwatch.lap(Stage.PUBLISH)
        return Outcome.MASKED, ""

    def _watch(self, slot: Slot[_Frame[M]], stopped: threading.Event) -> None:
        while not stopped.wait(_WATCH_S):
            frame, limit = self._in_work, self.inference_timeout
            since = frame.inferring_since if frame is not None else None
            if limit and since is not None and 1e3 * (time.monotonic() - since) > limit:
                self._fail(slot.take_back(frame), f"inference has not returned within {limit:g} ms")

    def _fail(self, frames: list[_Frame[M]], reason: str) -> None:
        for frame in frames:
            self._settle(frame, Outcome.FAILED, reason)

    def _settle(self, frame: _Frame[M], outcome: Outcome, detail: str = "") -> None:
        total = frame.stopwatch.total()
        late = outcome is Outcome.MASKED and 0 < self.deadline < total
        self.accounting.settle(outcome, late)
        try:
            record = FrameRecord(
                outcome=outcome,
                model=(frame.engine or self.engine).bundle.name,
                # A copy: the worker of a frame that was given up still measures.
                stages=dict(frame.stopwatch.stages),
                total=total,
                age=self._port.age(frame.message),
                late=late,
                detail=detail,
            )
            if outcome is Outcome.MASKED:
                self._last_masked = record
            elif outcome in FAULTS:
                self._fault = detail
            self._port.report(frame.message, record)
        except Exception as error:
            self._fault = f"no record of a frame that was {outcome.value}: {_reason(error, 'in its report')}"
        self._count_failures(outcome, detail)

    def _count_failures(self, outcome: Outcome, detail: str) -> None:
        with self._failures_lock:
            if outcome is Outcome.MASKED:
                self._failures = 0
            elif outcome is Outcome.FAILED:
                self._failures += 1
            if self.given_up or not 0 < self.failure_limit <= self._failures:
                return
            self.given_up = f"{self._failures} frames in a row failed, the last: {detail}"
        self._port.give_up(self.given_up)


def _reason(error: Exception, where: str) -> str:
    """One line; a MemoryError, for one, says nothing by itself."""
    return f"{type(error).__name__}: {str(error) or where}".replace("\n", " ")
