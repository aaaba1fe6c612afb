"""Masks of two models for the same frames, paired by header stamp, and how they agree."""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field

import numpy as np

from seg_node.core.metrics import confusion_matrix
from seg_node.core.taxonomy import EIGHT, NO_LABEL, Taxonomy
from seg_node.core.timing import FrameRecord, Outcome

SIDES = ("incumbent", "challenger")
"""The model that drives and the one that would like to; everything else comes in this order."""
INCUMBENT, CHALLENGER = range(2)


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
    ends: list[str | None] = field(default_factory=lambda: [None, None])

    def outcome(self, side: int) -> str | None:
        """``masked``, the reason why there is no mask, or None while a mask or record is missing."""
        if self.ends[side] is not None:
            return self.ends[side]
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
    messages did not arrive; and those of ``end``.

    Args:
        capacity: frames that wait at most; the one that waits longest is given up for another.
        beginners: sides, as indices in ``SIDES``, from which a frame may be heard of first. What another one says of a
            frame that does not wait, or not any more, is left alone.

    Attributes:
        pairs: frames that were paired.
        unpaired: frames that were not, by side and reason.
    """

    def __init__(self, capacity: int = 16, beginners: tuple[int, ...] = (INCUMBENT, CHALLENGER)):
        self.pairs = 0
        self.unpaired: Counter[str] = Counter()
        self._capacity = capacity
        self._beginners = beginners
        self._waiting: OrderedDict[int, _Waiting] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Frames whose end is not known yet."""
        return len(self._waiting)

    def add_mask(self, side: int, stamp: int, mask: np.ndarray) -> Pair | None:
        """Take a mask of one side, an index in ``SIDES``; returns the pair if this completes one."""
        if (frame := self._of(side, stamp)) is None:
            return None
        frame.masks[side] = mask
        return self._settle(stamp)

    def add_record(self, side: int, stamp: int, record: FrameRecord) -> Pair | None:
        """Take a timing record of one side, an index in ``SIDES``; returns the pair if this completes one."""
        if (frame := self._of(side, stamp)) is None:
            return None
        frame.records[side] = record
        return self._settle(stamp)

    def end(self, side: int, stamp: int, reason: str) -> None:
        """Note that there will be no mask of a side, an index in ``SIDES``, for a frame that waits."""
        if stamp in self._waiting:
            self._waiting[stamp].ends[side] = reason
            self._settle(stamp)

    def end_both(self, stamp: int | None, reason: str) -> None:
        """Count a frame of which there will be no mask at all; None for one that no stamp tells from another."""
        self._waiting.pop(stamp, None)
        self._count([reason, reason])

    def _of(self, side: int, stamp: int) -> _Waiting | None:
        if stamp in self._waiting:
            return self._waiting[stamp]
        if side not in self._beginners:
            return None
        if len(self._waiting) >= self._capacity:
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


def compare(pair: Pair, taxonomy: Taxonomy = EIGHT) -> Agreement:
    """How the masks of a pair agree.

    Args:
        pair: of one frame.
        taxonomy: categories of both masks.

    Raises:
        ValueError: they differ in size, or a value is no category.
    """
    # No answer is one more column and row.
    silent = len(taxonomy)
    masks = (np.where(mask == NO_LABEL, np.uint8(silent), mask) for mask in pair.masks)
    counts = confusion_matrix(*masks, silent + 1)
    same = np.diag(counts)
    union = counts.sum(0) + counts.sum(1) - same
    iou = {name: 100.0 * same[i] / union[i] for i, name in enumerate(taxonomy.names) if union[i]}
    return Agreement(float(100.0 * same.sum() / counts.sum()), {name: float(value) for name, value in iou.items()})
