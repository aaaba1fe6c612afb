"""What a comparison keeps of the mask of now; ``docs/compare_schema.md`` describes every field."""

from dataclasses import dataclass


@dataclass
class AgeScored:
    """Accuracy over those instants at which the inferred mask was of one class of age."""

    topic: str
    """``mask``, which stands still, or ``mask_now``, which was carried."""
    from_ms: int
    to_ms: int
    frames: int
    """Number of instants."""
    hits: list[int]
    """Pixels of each scored category, of the eight flat to vehicle, that were found, over all these instants."""
    unions: list[int]
    """Pixels of each scored category in truth or prediction."""


@dataclass
class NowMeasured:
    """The mask of now in one run at the recorded rate with a listener. Durations are in milliseconds."""

    model: int
    """Index in ``Comparison.models``."""
    repetition: int
    """From 0."""
    horizon_ms: float | None
    """Median time ahead of its frame for which a mask held."""
    counts: dict[str, int]
    """Frames ``received`` and ``propagated``, those that had a mask ``again``, and by drop reason."""
    covered: float | None
    """Share, 0 to 1, of the frames sent that had a mask of now."""
    camera_to_mask: dict[str, float] | None
    """``p50`` and ``p99``, from publishing a frame until its first mask of now arrived."""
    keyframe_age: dict[str, float] | None
    """``p50`` and ``p99`` of the age of the inferred mask behind the newest mask of now, when a frame was published."""
    by_age: list[AgeScored]
    """Both topics of this run by the age of the inferred mask; empty without ground truth."""


@dataclass
class Gain:
    """What the mask of now adds to one figure of streaming accuracy, in percent and points."""

    model: int
    """Index in ``Comparison.models``."""
    name: str
    """``miou_7``, or ``miou`` of other categories than the eight, or a scored category."""
    mask: float | None
    """Accuracy of ``~/mask`` while nobody listens to the mask of now: mean over the processes."""
    mask_listened: float | None
    """Accuracy of ``~/mask`` while somebody does."""
    mask_now: float | None
    """Accuracy of ``~/mask_now``."""
    offline: float | None
    """Accuracy of masks that come in no time."""
    estimate: float | None
    """``mask_now`` less ``mask``, the mean of the pairs of runs."""
    low: float | None
    """Ends of its interval; None where there are too few pairs."""
    high: float | None
    pairs: int
    """Processes that played both runs."""
