"""Masks of two models for the same frames, paired by header stamp, and how they agree."""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field

import numpy as np

from seg_node.core.metrics import confusion_matrix
from seg_node.core.taxonomy import CATEGORY_NAMES
from seg_node.core.timing import FrameRecord, Outcome

SIDES = ("incumbent", "challenger")
"""The model that drives and the one that would like to; everything else comes in this order."""


@dataclass(frozen=True)
class Pair:
    """One frame that both models have masked."""

    stamp: int
    """Header stamp in nanoseconds."""
    masks: tuple[np.ndarray, np.ndarray]
    """uint8 [H, W] of category ids."""
    records: tuple[FrameRecord, FrameRecord]


@dataclass
class _Waiting:
    masks: list[np.ndarray | None] = field(default_factory=lambda: [None, None])
    records: list[FrameRecord | None] = field(default_factory=lambda: [None, None])

    def outcome(self, side: int) -> str | None:
        """``masked``, the reason of a drop, or None while a mask or record is missing."""
        record = self.records[side]
        if record is None or (record.outcome is Outcome.MASKED and self.masks[side] is None):
            return None
        return record.outcome.value

    def missing(self, side: int) -> str:
        """Why there is no outcome."""
        if self.records[side] is not None:
            return "mask_lost"
        return "unseen" if self.masks[side] is None else "record_lost"


class Pairing:
    """Collects what two nodes publish until a frame's end is known on both sides. Not thread-safe.

    Every frame ends as a pair or as one count in ``unpaired``: ``SIDE.REASON`` where one side has a mask and SIDE has
    none, ``both.REASON`` where neither has (of the incumbent's reason). Reasons are the outcomes of a timing record;
    ``unseen``, where a node published nothing for the frame; ``mask_lost`` and ``record_lost``, where one of two
    messages did not arrive.

    Args:
        capacity: frames that wait at most; the one that waits longest is given up for another.

    Attributes:
        pairs: frames that were paired.
        unpaired: frames that were not, by side and reason.
    """

    def __init__(self, capacity: int = 16):
        self.pairs = 0
        self.unpaired: Counter[str] = Counter()
        self._capacity = capacity
        self._waiting: OrderedDict[int, _Waiting] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Frames whose end is not known yet."""
        return len(self._waiting)

    def add_mask(self, side: int, stamp: int, mask: np.ndarray) -> Pair | None:
        """Take a mask of one side, an index in ``SIDES``; returns the pair if this completes one."""
        self._of(stamp).masks[side] = mask
        return self._settle(stamp)

    def add_record(self, side: int, stamp: int, record: FrameRecord) -> Pair | None:
        """Take a timing record of one side, an index in ``SIDES``; returns the pair if this completes one."""
        self._of(stamp).records[side] = record
        return self._settle(stamp)

    def _of(self, stamp: int) -> _Waiting:
        if stamp not in self._waiting and len(self._waiting) >= self._capacity:
            _, oldest = self._waiting.popitem(last=False)
            self._count([oldest.outcome(side) or oldest.missing(side) for side in range(2)])
        return self._waiting.setdefault(stamp, _Waiting())

    def _settle(self, stamp: int) -> Pair | None:
        frame = self._waiting[stamp]
        outcomes = [frame.outcome(side) for side in range(2)]
        if None in outcomes:
            return None
        del self._waiting[stamp]
        if outcomes == [Outcome.MASKED.value] * 2:
            self.pairs += 1
            return Pair(stamp, tuple(frame.masks), tuple(frame.records))
        self._count(outcomes)
        return None

    def _count(self, outcomes: list[str]) -> None:
        without = [side for side in range(2) if outcomes[side] != Outcome.MASKED.value]
        where = SIDES[without[0]] if len(without) == 1 else "both"
        self.unpaired[f"{where}.{outcomes[without[0]]}"] += 1


@dataclass(frozen=True)
class Agreement:
    """How two masks agree, in percent."""

    pixels: float
    """Pixels with the same category in both."""
    iou: dict[str, float]
    """Intersection over union of the two by category; those that are in neither are left out."""


def compare(pair: Pair) -> Agreement:
    """How the masks of a pair agree.

    Raises:
        ValueError: they differ in size, or a value is no category.
    """
    counts = confusion_matrix(*pair.masks)
    same = np.diag(counts)
    union = counts.sum(0) + counts.sum(1) - same
    iou = {name: 100.0 * same[i] / union[i] for i, name in enumerate(CATEGORY_NAMES) if union[i]}
    return Agreement(float(100.0 * same.sum() / counts.sum()), {name: float(value) for name, value in iou.items()})
