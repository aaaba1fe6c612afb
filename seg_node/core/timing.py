"""What happened to a frame and how long each stage of it took: the one definition of outcomes and stages."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar

S = TypeVar("S", bound=Enum)


def stamp_ns(header: Any) -> int:
    """Stamp of a ``std_msgs/Header``, of ROS or of ``rosbags``, in nanoseconds."""
    return header.stamp.sec * 10**9 + header.stamp.nanosec


class Outcome(str, Enum):
    """End of a frame. Every received frame gets exactly one."""

    MASKED = "masked"
    SUPERSEDED = "superseded"
    """A newer frame arrived while this one waited."""
    STALE = "stale"
    """Older than ``max_age_ms`` when its turn came."""
    UNDECODABLE = "undecodable"
    """The message holds no image that can be read."""
    FAILED = "failed"
    """Inference raised an error, gave what is no mask, or did not return in time."""


DROPS: tuple[Outcome, ...] = tuple(outcome for outcome in Outcome if outcome is not Outcome.MASKED)
"""Outcomes that leave a frame without a mask."""


FAULTS: tuple[Outcome, ...] = (Outcome.UNDECODABLE, Outcome.FAILED)
"""Drops that should not happen on a healthy vehicle, at any load."""


class Stage(str, Enum):
    """Stage of a frame's way through the node, in order."""

    WAIT = "wait"
    """From the subscription callback until the worker takes the frame."""
    DECODE = "decode"
    """From the message to a BGR array."""
    INFERENCE = "inference"
    """From a BGR array to a mask, pre- and post-processing included."""
    PUBLISH = "publish"
    """From a mask until the middleware has taken it."""


@dataclass
class FrameRecord:
    """Outcome and durations of one frame, in milliseconds on a steady clock."""

    outcome: Outcome
    model: str
    """Name of the bundle that made the mask, or would have."""
    stages: dict[Stage, float] = field(default_factory=dict)
    """Stages that the frame passed."""
    total: float = 0.0
    """From the subscription callback to the outcome."""
    age: float | None = None
    """From the header stamp to the outcome on the ROS clock; None where the stamp is not of that clock."""
    late: bool = False
    """Whether a mask came later than ``deadline_ms`` after the frame."""
    detail: str = ""
    """What was wrong, for a frame that was dropped for a fault."""

    def values(self) -> dict[str, str]:
        """What ``~/timing`` says besides outcome and model: text by key, milliseconds with three digits."""
        values = {stage.value: f"{duration:.3f}" for stage, duration in self.stages.items()}
        values["total"] = f"{self.total:.3f}"
        if self.age is not None:
            values["age"] = f"{self.age:.3f}"
        values["late"] = str(self.late).lower()
        if self.detail:
            values["detail"] = self.detail
        return values

    @classmethod
    def read(cls, outcome: str, model: str, values: Mapping[str, str]) -> "FrameRecord":
        """Read what such a message says: the inverse of ``values``.

        Raises:
            ValueError: there is no such outcome, or a value is no number.
            KeyError: there is no ``total``.
        """
        return cls(
            outcome=Outcome(outcome),
            model=model,
            stages={stage: float(values[stage.value]) for stage in Stage if stage.value in values},
            total=float(values["total"]),
            age=float(values["age"]) if "age" in values else None,
            late=values.get("late") == "true",
            detail=values.get("detail", ""),
        )


class Stopwatch(Generic[S]):
    """Splits the time of one frame into stages on ``time.monotonic_ns``.

    Args:
        started: reading of ``time.monotonic_ns`` at which the first stage began.
    """

    def __init__(self, started: int):
        self._started = self._last = started
        self.stages: dict[S, float] = {}

    def lap(self, stage: S) -> None:
        """End a stage now; the next one begins."""
        now = time.monotonic_ns()
        self.stages[stage] = (now - self._last) / 1e6
        self._last = now

    def total(self) -> float:
        """Milliseconds since the start."""
        return (time.monotonic_ns() - self._started) / 1e6
