"""The path of a frame: slot, worker thread, decode, inference, publication, and its record."""

import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from seg_node.core.engines import Engine
from seg_node.core.slot import Accounting, Slot
from seg_node.core.timing import FAULTS, FrameRecord, Outcome, Stage, Stopwatch

M = TypeVar("M")


class UndecodableError(ValueError):
    """A message that holds no image that can be read."""


class FramePort(ABC, Generic[M]):
    """What the worker asks of its surroundings; ``M`` is the message that carries a frame.

    All methods are called by the worker, ``report`` also by the thread that submits.
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


@dataclass
class _Frame(Generic[M]):
    message: M
    received: int
    """Reading of ``time.monotonic_ns``."""


class Segmenter(Generic[M]):
    """Masks the newest frame in a worker thread and accounts for all the others.

    Args:
        engine: warmed up.
        port: see ``FramePort``.
        max_age: milliseconds from a frame's stamp after which it is not worth masking; 0 for no limit.
        deadline: milliseconds from reception after which a mask is marked late; 0 for never.
    """

    def __init__(self, engine: Engine, port: FramePort[M], max_age: float = 0.0, deadline: float = 0.0):
        self.accounting = Accounting()
        self.max_age = max_age
        self.deadline = deadline
        self.frame_size: tuple[int, int] | None = None
        """(height, width) of the newest decoded frame."""
        self.engine = engine
        """Engine of the next frame. Assigning another swaps between two frames; warm it up before."""
        self._port = port
        self._slot: Slot[_Frame[M]] | None = None
        self._worker: threading.Thread | None = None
        self._last_status = (time.monotonic(), self.accounting.snapshot())
        self._last_masked: FrameRecord | None = None
        self._last_fault: FrameRecord | None = None

    def start(self) -> None:
        """Begin to accept frames."""
        self._slot = Slot()
        self._worker = threading.Thread(target=self._work, args=(self._slot,), name="segmenter", daemon=True)
        self._worker.start()

    def stop(self, timeout: float) -> bool:
        """Refuse further frames and finish those that are pending.

        Returns:
            Whether the worker ended within ``timeout`` seconds.
        """
        if self._slot is None or self._worker is None:
            return True
        self._slot.close()
        self._worker.join(timeout)
        return not self._worker.is_alive()

    def status(self) -> dict[str, str]:
        """Values for diagnostics.

        Returns:
            The counts of ``Accounting.snapshot``; ``rate.received`` and ``rate.masked`` in Hz since the last call;
            ``age`` in milliseconds of the newest masked frame when it was done and ``fault``, the detail of the
            newest failure, once there was one; ``engine``, ``device`` and ``engine_reason``.
        """
        now, counts = time.monotonic(), self.accounting.snapshot()
        since, before = self._last_status
        self._last_status = (now, counts)
        values = {name: str(count) for name, count in counts.items()}
        for name in ("received", "masked"):
            values[f"rate.{name}"] = f"{(counts[name] - before[name]) / max(now - since, 1e-3):.2f}"
        if self._last_masked is not None and self._last_masked.age is not None:
            values["age"] = f"{self._last_masked.age:.3f}"
        if self._last_fault is not None:
            values["fault"] = self._last_fault.detail
        engine = self.engine
        return values | {"engine": engine.name, "device": engine.device, "engine_reason": engine.reason}

    def submit(self, message: M) -> None:
        """Offer the newest frame; the one that it supersedes is dropped."""
        if self._slot is None:
            return
        frame = _Frame(message, time.monotonic_ns())
        self.accounting.receive()
        dropped = self._slot.put(frame)
        if dropped is frame:
            self._settle(frame, Outcome.STALE, Stopwatch(frame.received), "segmentation is stopping")
        elif dropped is not None:
            stopwatch = Stopwatch(dropped.received)
            stopwatch.lap(Stage.WAIT)
            self._settle(dropped, Outcome.SUPERSEDED, stopwatch)

    def _work(self, slot: Slot[_Frame[M]]) -> None:
        while (frame := slot.take()) is not None:
            stopwatch = Stopwatch(frame.received)
            stopwatch.lap(Stage.WAIT)
            # Read once: a swap in the middle of a frame takes effect with the next one.
            engine = self.engine
            outcome, detail = self._mask(frame, engine, stopwatch)
            self._settle(frame, outcome, stopwatch, detail, engine)

    def _mask(self, frame: _Frame[M], engine: Engine, stopwatch: Stopwatch) -> tuple[Outcome, str]:
        """Bring one frame to its outcome. No error of one frame may end the worker, hence the broad excepts."""
        if self.max_age and (age := self._port.age(frame.message)) is not None and age > self.max_age:
            return Outcome.STALE, f"{age:.0f} ms old, max_age_ms is {self.max_age:g}"
        try:
            bgr = self._port.decode(frame.message)
        except Exception as error:
            return Outcome.UNDECODABLE, _one_line(error)
        stopwatch.lap(Stage.DECODE)
        self.frame_size = bgr.shape[:2]
        try:
            mask, confidence = engine.infer(bgr, self._port.wants_confidence())
            stopwatch.lap(Stage.INFERENCE)
            self._port.publish(frame.message, mask, confidence)
        except Exception as error:
            return Outcome.FAILED, _one_line(error)
        stopwatch.lap(Stage.PUBLISH)
        return Outcome.MASKED, ""

    def _settle(
        self, frame: _Frame[M], outcome: Outcome, stopwatch: Stopwatch, detail: str = "", engine: Engine | None = None
    ) -> None:
        total = stopwatch.total()
        late = outcome is Outcome.MASKED and 0 < self.deadline < total
        self.accounting.settle(outcome, late)
        record = FrameRecord(
            outcome=outcome,
            model=(engine or self.engine).bundle.name,
            stages=stopwatch.stages,
            total=total,
            age=self._port.age(frame.message),
            late=late,
            detail=detail,
        )
        if outcome is Outcome.MASKED:
            self._last_masked = record
        elif outcome in FAULTS:
            self._last_fault = record
        self._port.report(frame.message, record)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".replace("\n", " ")
