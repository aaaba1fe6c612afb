"""The threads that work on the frames of all cameras with one engine, and the one that watches them."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from typing import NamedTuple

import numpy as np

from seg_node.core.engines import Engine
from seg_node.core.scheduling.frame import CameraPath, WaitingFrame, reason
from seg_node.core.scheduling.scheduler import Scheduler
from seg_node.core.timing import Outcome, Stage

_WATCH_S = 0.05
"""Seconds between two looks at how long an inference takes."""
_HEALTHY_S = 60.0
"""Seconds for which a mask of one camera says that the engine is not to blame for what fails of another."""


class _End(NamedTuple):
    """What has become of a frame in the worker."""

    outcome: Outcome
    detail: str = ""
    result: tuple[np.ndarray, np.ndarray | None] | None = None
    """Mask and confidence."""


class Inference(NamedTuple):
    """What the engine works on."""

    frame: WaitingFrame
    """One of the frames."""
    since: float
    """Reading of ``time.monotonic`` when it began."""


class InferenceWorker:
    """Masks the newest frame of each camera in its turn, with one engine for all.

    As many frames of different cameras are in work at once as the engine has streams.

    Another thread publishes masks and records, so that the worker goes on with the next frame meanwhile. Frames of
    several cameras that are at hand go to the engine at once where that takes less time; nothing waits for them.

    An inference that does not return in time is given up: its frame, and all frames of all cameras that come while it
    lasts, fail. If it returns after all, its result is discarded and the same worker goes on. There is never another
    one in its place.

    Args:
        engine: warmed up.
        inference_timeout: milliseconds after which an inference is given up; 0 for never. What an engine has to
            compile for a new frame size does not count.
        failure_limit: failures in a row of one camera after which it is given up, and with it the whole where no other
            camera has masks either; 0 for never.
        gave_up: called once after each start with the reason when the whole is given up, by any thread.
    """

    def __init__(
        self,
        engine: Engine,
        inference_timeout: float = 0.0,
        failure_limit: int = 0,
        gave_up: Callable[[str], None] = lambda _: None,
    ):
        self.engine = engine
        """Engine of the next frame. Assigning another swaps between two frames; warm it up before."""
        self.inference_timeout = inference_timeout
        self.failure_limit = failure_limit
        self.given_up = ""
        """Why ``gave_up`` was called since the start; empty if it was not."""
        self._gave_up = gave_up
        self._give_up_lock = threading.Lock()
        self._segmenters: list[CameraPath] = []
        self._scheduler: Scheduler[WaitingFrame] | None = None
        self._worker: threading.Thread | None = None
        self._watcher: threading.Thread | None = None
        self._stopped = threading.Event()
        self._inferences: dict[int, Inference] = {}
        """What each thread is just inferring, by its number."""
        self._in_order = threading.Lock()
        """Held from a frame's end in the worker until it is on its way to be published: a camera's masks keep their
        order, whichever thread made them."""
        self._alone = threading.Lock()
        """Held in an inference where an engine of one stream has taken the place of one that had more."""
        self._count = 1
        """Number of threads that work."""

    @property
    def stuck(self) -> bool:
        """Whether the worker is busy with an inference that was given up."""
        return self._scheduler is not None and self._scheduler.blocked

    @property
    def trouble(self) -> str:
        """What keeps the frames of all cameras from being masked, empty if nothing does."""
        if self.stuck and (inference := self._oldest()) is not None:
            return f"an inference has not returned for {time.monotonic() - inference.since:.1f} s"
        return self.given_up

    @property
    def lacks_cores(self) -> bool:
        """Whether frames wait for inference, where that computes on the processor."""
        on_cores = self.engine.device.upper().startswith("CPU")
        return on_cores and self._scheduler is not None and self._scheduler.waiting > 0

    @property
    def segmenters(self) -> Sequence[CameraPath]:
        """Those of all cameras."""
        return self._segmenters

    def add(self, segmenter: CameraPath) -> int:
        """Take a camera before the first start; returns its number."""
        self._segmenters.append(segmenter)
        return len(self._segmenters) - 1

    def start(self) -> bool:
        """Begin to accept frames.

        Returns:
            False if the engine is still in an inference that was given up: only another one can start.
        """
        if self._worker is not None and self._worker.is_alive():
            return False
        self._scheduler, self._stopped = Scheduler(self._segmenters), threading.Event()
        self.given_up = ""
        for segmenter in self._segmenters:
            segmenter.begin_anew()
        self._inferences = {}
        self._count = min(len(self._segmenters), self.engine.streams) if len(self._segmenters) > 1 else 1
        self._worker = threading.Thread(target=self._run, args=(self._scheduler,), name="segmenter", daemon=True)
        self._watcher = threading.Thread(
            target=self._watch, args=(self._scheduler, self._stopped), name="segmenter watchdog", daemon=True
        )
        self._worker.start()
        self._watcher.start()
        return True

    def stop(self, timeout: float) -> bool:
        """Refuse further frames and finish those that are pending; what is not finished in time fails.

        Returns:
            Whether the worker ended within ``timeout`` seconds.
        """
        if self._scheduler is None or self._worker is None or self._watcher is None:
            return True
        self._scheduler.close()
        until = time.monotonic() + timeout
        while self._worker.is_alive() and not self._scheduler.blocked and time.monotonic() < until:
            self._worker.join(_WATCH_S)
        self._stopped.set()
        self._watcher.join()
        _fail(self._scheduler.take_back(), f"inference has not ended {timeout:g} s after the stop")
        return not self._worker.is_alive()

    def submit(self, frame: WaitingFrame, camera: int) -> tuple[WaitingFrame | None, bool]:
        """Offer the newest frame of a camera.

        Returns:
            The frame that does not wait, the one that was superseded or this one, None if there is none; and whether an
            inference is stuck.
        """
        dropped = self._scheduler.put(frame, camera)
        return dropped, self._scheduler.blocked

    def gathering(self, camera: int) -> float:
        """See ``Scheduler.gathering``; 0 before the first start."""
        return self._scheduler.gathering(camera) if self._scheduler is not None else 0.0

    @property
    def accepts(self) -> bool:
        """Whether it was started at all."""
        return self._scheduler is not None

    def give_up_with(self, reason: str, failing: CameraPath) -> bool:
        """Give up because a camera fails, unless it is that camera's own affair.

        Args:
            reason: what to tell.
            failing: the camera whose frames fail in a row.

        Returns:
            Whether all is given up: not while the masks of another camera come.
        """
        now = time.monotonic()
        others = (segmenter for segmenter in self._segmenters if segmenter is not failing)
        if not self.stuck and any(other.healthy_since(now - _HEALTHY_S) for other in others):
            return False
        with self._give_up_lock:
            if self.given_up:
                return True
            self.given_up = reason
        self._gave_up(reason)
        return True

    def _run(self, scheduler: Scheduler[WaitingFrame]) -> None:
        """Work, with other threads beside this one where the engine has streams for them, until all have ended."""
        with ThreadPoolExecutor(1, "publisher") as publisher:
            others = [
                threading.Thread(
                    target=self._work, args=(scheduler, publisher, number), name=f"segmenter {number}", daemon=True
                )
                for number in range(1, self._count)
            ]
            for other in others:
                other.start()
            self._work(scheduler, publisher, 0)
            for other in others:
                other.join()

    def _work(self, scheduler: Scheduler[WaitingFrame], publisher: ThreadPoolExecutor, number: int) -> None:
        published: Future | None = None
        while (first := scheduler.take()) is not None:
            # Read once: a swap in the middle of a frame takes effect with the next one.
            engine = self.engine
            several = len(self._segmenters) > 1 and engine.batches
            frames = [first, *(scheduler.take_others() if several else ())]
            for frame in frames:
                frame.stopwatch.lap(Stage.WAIT)
                frame.engine = engine
            ends = self._infer(frames, engine, number)
            with self._in_order:
                # One that was given up has its end already.
                kept = [(frame, end) for frame, end in zip(frames, ends, strict=True) if scheduler.done(frame)]
                if not kept:
                    continue
                if published:
                    # A middleware that is slower than the engine slows it down, rather than to have masks queue.
                    published.result()
                # Raised where the interpreter ends: nobody waits for this mask any more.
                with suppress(RuntimeError):
                    published = publisher.submit(_finish, kept)

    # No error of one frame may end the worker, hence the broad excepts.

    def _oldest(self) -> Inference | None:
        """The inference that has lasted longest; None while there is none."""
        return min(list(self._inferences.values()), key=lambda inference: inference.since, default=None)

    def _infer(self, frames: Sequence[WaitingFrame], engine: Engine, number: int) -> list[_End]:
        """Decode and segment frames, at once those of one size."""
        ends: dict[int, _End] = {}
        sizes: dict[tuple[int, int], list[tuple[int, WaitingFrame, np.ndarray]]] = {}
        for i, frame in enumerate(frames):
            try:
                if stale := frame.segmenter.staleness(frame.message):
                    ends[i] = _End(Outcome.STALE, stale)
                    continue
                bgr = frame.segmenter.decode(frame.message)
            except Exception as error:
                ends[i] = _End(Outcome.UNDECODABLE, reason(error, "in decoding"))
                continue
            frame.stopwatch.lap(Stage.DECODE)
            sizes.setdefault(bgr.shape[:2], []).append((i, frame, bgr))
        for group in sizes.values():
            ends |= self._infer_group(group, engine, number)
        return [ends[i] for i in range(len(frames))]

    def _infer_group(
        self, group: list[tuple[int, WaitingFrame, np.ndarray]], engine: Engine, number: int
    ) -> dict[int, _End]:
        """Segment frames of one size; should they fail together, each by itself."""
        height, width = group[0][2].shape[:2]
        try:
            wanted = [frame.segmenter.wants_confidence() for _, frame, _ in group]
            with self._alone if self._count > 1 and engine.streams == 1 else nullcontext():
                engine.prepare((height, width), any(wanted))
                self._inferences[number] = Inference(group[0][1], time.monotonic())
                if len(group) > 1:
                    results = engine.infer_batch([bgr for _, _, bgr in group], any(wanted))
                else:
                    results = [engine.infer(group[0][2], wanted[0])]
        except Exception as error:
            if len(group) == 1:
                return {group[0][0]: _End(Outcome.FAILED, reason(error, f"in inference of {width}x{height} pixels"))}
            self._inferences.pop(number, None)
            return {i: end for one in group for i, end in self._infer_group([one], engine, number).items()}
        finally:
            self._inferences.pop(number, None)
        ends = {}
        for (i, frame, _), (mask, confidence), asked in zip(group, results, wanted, strict=True):
            frame.stopwatch.lap(Stage.INFERENCE)
            ends[i] = _End(Outcome.MASKED, result=(mask, confidence if asked else None))
        return ends

    def _watch(self, scheduler: Scheduler[WaitingFrame], stopped: threading.Event) -> None:
        while not stopped.wait(_WATCH_S):
            inference, limit = self._oldest(), self.inference_timeout
            if limit and inference is not None and 1e3 * (time.monotonic() - inference.since) > limit:
                _fail(scheduler.take_back(inference.frame), f"inference has not returned within {limit:g} ms")


def _fail(frames: Iterable[WaitingFrame], why: str) -> None:
    for frame in frames:
        frame.segmenter.settle(frame, Outcome.FAILED, why)


def _finish(ended: Iterable[tuple[WaitingFrame, _End]]) -> None:
    for frame, end in ended:
        frame.segmenter.finish(frame, end.outcome, end.detail, end.result)
