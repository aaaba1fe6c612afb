"""A frame on its way through the worker, and what the worker asks of the camera that it is of."""

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from seg_node.core.engines import Engine
from seg_node.core.timing import Outcome, Stopwatch


class CameraPath(Protocol):
    """One camera's side of the path of its frames: what comes before the engine, and what after it."""

    priority: int
    """See ``seg_node.core.scheduling.turns.Turns.serve``."""
    patience: float
    """See ``seg_node.core.slot.Rhythm.worth_waiting``."""

    @property
    def reception(self) -> float:
        """See ``seg_node.core.scheduling.scheduler.Claim``."""

    def begin_anew(self) -> None:
        """Hear that frames are accepted from now on."""

    def healthy_since(self, instant: float) -> bool:
        """Whether it has had a mask since a reading of ``time.monotonic``, and no frame has failed after it."""

    def staleness(self, message: Any) -> str:
        """Why a frame is too old to be masked; empty if it is not."""

    def decode(self, message: Any) -> np.ndarray:
        """Image of a message, uint8 [H, W, 3] BGR, contiguous.

        Raises:
            UndecodableError: the message holds no such image.
        """

    def wants_confidence(self) -> bool:
        """Whether anybody listens to the confidence of the next mask."""

    def finish(self, frame: "WaitingFrame", outcome: Outcome, detail: str, result: tuple | None) -> None:
        """Publish mask and confidence, if there are any, and settle the frame."""

    def settle(self, frame: "WaitingFrame", outcome: Outcome, detail: str = "") -> None:
        """Give a frame its end."""


@dataclass(eq=False)
class WaitingFrame:
    """A frame that was received, until it has its end."""

    message: Any
    segmenter: CameraPath
    stopwatch: Stopwatch = field(default_factory=lambda: Stopwatch(time.monotonic_ns()))
    engine: Engine | None = None
    """Engine that works on the frame; None before its turn."""


def reason(error: Exception, where: str) -> str:
    """What an error says, in one line; a MemoryError, for one, says nothing by itself."""
    return f"{type(error).__name__}: {str(error) or where}".replace("\n", " ")
