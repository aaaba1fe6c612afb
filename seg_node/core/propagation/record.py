"""What happened to a camera frame on its way to a mask of now: the one definition of outcomes and stages."""

from dataclasses import dataclass, field
from enum import Enum


class NowOutcome(str, Enum):
    """End of a frame in the propagator. Every frame that it is offered gets exactly one."""

    PROPAGATED = "propagated"
    NO_KEYFRAME = "no_keyframe"
    """There was no inferred mask that could be carried to it; the record's detail says why."""
    EXPIRED = "expired"
    """The newest inferred mask is older than ``propagate_max_age_ms``."""
    SUPERSEDED = "superseded"
    """A newer frame arrived while this one waited."""
    UNDECODABLE = "undecodable"
    """The message holds no image that can be read."""
    FAILED = "failed"
    """An error in flow, warp or publication."""


NOW_DROPS: tuple[NowOutcome, ...] = tuple(outcome for outcome in NowOutcome if outcome is not NowOutcome.PROPAGATED)
"""Outcomes that leave a frame without a mask of now."""
NOW_FAULTS: tuple[NowOutcome, ...] = (NowOutcome.UNDECODABLE, NowOutcome.FAILED)
"""Drops that should not happen on a healthy vehicle, at any load."""


class NowStage(str, Enum):
    """Stage of a frame's way through the propagator, in order."""

    WAIT = "wait"
    """From the subscription callback until the propagator takes the frame."""
    DECODE = "decode"
    """From the message to a small grey picture."""
    FLOW = "flow"
    """From the picture to chains of flow."""
    WARP = "warp"
    """From the chains to a mask."""
    PUBLISH = "publish"
    """From a mask until the middleware has taken it."""


@dataclass
class NowRecord:
    """Outcome and durations of one frame in the propagator; durations in milliseconds on a steady clock."""

    outcome: NowOutcome
    again: bool = False
    """Whether the frame had its record before: an inference has ended since, and its mask replaces the one that was
    carried to this frame from an older keyframe. Not counted as a frame."""
    stages: dict[NowStage, float] = field(default_factory=dict)
    """Stages that the frame passed."""
    total: float = 0.0
    """From the subscription callback to the outcome; of a second mask, from the end of the inference."""
    keyframe: int | None = None
    """Stamp in nanoseconds of the frame whose inferred mask was carried; None without a mask."""
    keyframe_age: float | None = None
    """Time in milliseconds from the keyframe's stamp to the time for which the mask holds."""
    frames: int | None = None
    """Number of steps of optical flow from the keyframe to the frame."""
    horizon: float = 0.0
    """Time in milliseconds ahead of the frame for which the mask holds."""
    residual: float | None = None
    """Mean grey difference, 0 to 255, of the frame to the keyframe's picture as flow carries it."""
    detail: str = ""
    """Why there is no mask."""
