"""The interface that every engine has."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from seg_node.core.bundle import Bundle
from seg_node.core.errors import UserError
from seg_node.core.taxonomy import NO_LABEL


class EngineError(UserError):
    """An engine cannot be made, or its graph does not do what a bundle's graph must."""


class Engine(ABC):
    """Runs a bundle's graph. One thread at a time calls ``prepare`` and ``infer``, or as many as it has ``streams``.

    Args:
        bundle: what to run.
        threads: processor threads for one inference; 0 leaves the choice to the engine.
        precision: that of the computation: ``fp32``, ``bf16``, ``int8`` for a graph that was quantised, or ``auto`` for
            bf16 where the engine finds it native and faster.

    Attributes:
        name: for people and diagnostics, e.g. ``openvino``.
        device: what it runs on, for people.
        reason: why this engine was chosen, for people.
        sizes_kept: number of frame sizes, with confidence or without, of which an engine that compiles for each keeps
            what it has compiled, so that a camera that changes its size for good does not grow the memory for ever.
        streams: number of threads that may call it at the same time; see ``serve``.
        batches: whether ``infer_batch`` takes less time than one frame after the other.
        aside: whether an engine that keeps what it has compiled compiles in another process; see ``engines.aside``.
    """

    name: str
    device: str = ""
    reason: str = ""
    sizes_kept: int = 4
    streams: int = 1
    batches: bool = False
    aside: bool = False

    def __init__(self, bundle: Bundle, threads: int = 0, precision: str = "auto"):
        self.bundle = bundle
        self.threads = threads
        self.precision = precision

    @abstractmethod
    def prepare(self, size: tuple[int, int], confidence: bool = False) -> None:
        """Compile for frames of (height, width) pixels, if that is not done yet; ``infer`` does it when needed.

        Raises:
            EngineError: the graph cannot be compiled.
        """

    @abstractmethod
    def infer(self, bgr: np.ndarray, confidence: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        """Segment one frame.

        Args:
            bgr: uint8 [H, W, 3], contiguous.
            confidence: compute it too.

        Returns:
            Mask, uint8 [H, W] of category ids, and confidence, uint8 [H, W], the greatest softmax in
            0..255, or None. Both belong to the caller.

        Raises:
            EngineError: the graph's output has another shape or type, an unknown category, or a confidence that comes
                of logits that are not finite.
        """

    def infer_batch(
        self, frames: Sequence[np.ndarray], confidence: bool = False
    ) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Segment several frames of one size; what ``infer`` says of one frame holds for each."""
        return [self.infer(frame, confidence) for frame in frames]

    def serve(self, count: int) -> None:
        """Prepare for so many threads at the same time, before anything is compiled; an engine may stay with one."""
        self.streams = 1

    def warm_up(self, size: tuple[int, int]) -> None:
        """Compile and run once on a grey frame, so that no camera frame pays for it."""
        self.infer(np.full((*size, 3), 114, np.uint8))

    def _checked(
        self, bgr: np.ndarray, mask: np.ndarray, confidence: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Mask and confidence as they are, once they are known to be what ``infer`` promises."""
        for what, output in (("mask", mask), ("confidence", confidence)):
            if output is not None and (output.shape != bgr.shape[:2] or output.dtype != np.uint8):
                raise EngineError(
                    f"{self.bundle.name}: {what} is {output.dtype} {output.shape} for a frame of {bgr.shape[:2]};"
                    " expected uint8 of the frame's size"
                )
        manifest = self.bundle.manifest
        worst = mask.max()
        if worst == NO_LABEL and manifest.may_be_silent:
            worst = mask[mask != NO_LABEL].max(initial=0)
        if worst >= len(manifest.categories):
            raise EngineError(
                f"{self.bundle.name}: mask holds category {worst}; there are 0 to {len(manifest.categories) - 1}"
            )
        # The greatest of softmax values is at least their mean.
        count = len(manifest.classes or manifest.categories)
        if confidence is not None and (least := confidence.min()) < 255 // count:
            raise EngineError(
                f"{self.bundle.name}: confidence is {least} of 255 in places, less than {count} equal"
                " categories have; the logits are not finite"
            )
        return mask, confidence
