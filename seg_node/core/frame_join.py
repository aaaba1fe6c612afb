"""Brings together what is published about one frame on several topics: camera image, mask, timing record."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from seg_node.core.propagation.record import NowOutcome, NowRecord
from seg_node.core.timing import FrameRecord, Outcome

M = TypeVar("M")


@dataclass
class Frame(Generic[M]):
    """What is known of one frame; ``M`` is the type of the messages that carry images."""

    image: M | None = None
    mask: M | None = None
    record: FrameRecord | NowRecord | None = None


class FrameJoin(Generic[M]):
    """Joins by header stamp, in whatever order the three parts of a frame come.

    It holds little: the record of a dropped frame sends its image away, and a complete frame sends away those that
    came before it, for a node masks frames in their order.

    Args:
        capacity: frames that may wait; the oldest has to go where a node says nothing of its frames.
    """

    def __init__(self, capacity: int = 32):
        self.incomplete = 0
        """Number of masks given up because their camera image, or their record, never came."""
        self._capacity = capacity
        self._waiting: OrderedDict[int, Frame[M]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Number of frames that are not complete yet."""
        return len(self._waiting)

    def clear(self) -> None:
        """Forget the frames that wait, without counting them."""
        self._waiting.clear()

    def add_image(self, stamp: int, image: M) -> Frame[M] | None:
        """Add a camera image; returns the frame if that makes it complete."""
        self._frame(stamp).image = image
        return self._settle(stamp)

    def add_mask(self, stamp: int, mask: M) -> Frame[M] | None:
        """Add a mask; returns the frame if that makes it complete."""
        self._frame(stamp).mask = mask
        return self._settle(stamp)

    def add_record(self, stamp: int, record: FrameRecord | NowRecord) -> Frame[M] | None:
        """Add a timing record; returns the frame if that makes it complete."""
        if record.outcome not in (Outcome.MASKED, NowOutcome.PROPAGATED):
            self._waiting.pop(stamp, None)
            return None
        self._frame(stamp).record = record
        return self._settle(stamp)

    def _frame(self, stamp: int) -> Frame[M]:
        return self._waiting.setdefault(stamp, Frame())

    def _settle(self, stamp: int) -> Frame[M] | None:
        frame = self._waiting[stamp]
        if frame.image is None or frame.mask is None or frame.record is None:
            while len(self._waiting) > self._capacity:
                self._give_up()
            return None
        while next(iter(self._waiting)) != stamp:
            self._give_up()
        return self._waiting.pop(stamp)

    def _give_up(self) -> None:
        _, frame = self._waiting.popitem(last=False)
        self.incomplete += frame.mask is not None


class NowJoin(FrameJoin[M]):
    """The same with masks of now, whose stamps are those of the times for which they hold.

    A mask that comes again for its frame, when an inference has ended, is passed over: the next frame's is on its way.
    """

    def __init__(self, capacity: int = 32):
        super().__init__(capacity)
        self._masks: OrderedDict[int, M] = OrderedDict()
        self._records: OrderedDict[int, tuple[int, NowRecord]] = OrderedDict()

    def clear(self) -> None:
        """See ``FrameJoin``."""
        super().clear()
        self._masks.clear()
        self._records.clear()

    def add_mask(self, stamp: int, mask: M) -> Frame[M] | None:
        """Add a mask, of the time for which it holds; returns the frame if that makes it complete."""
        if (known := self._records.pop(stamp, None)) is not None:
            return self._pair(*known, mask)
        self._masks[stamp] = mask
        if len(self._masks) > self._capacity:
            self._masks.popitem(last=False)
            self.incomplete += 1
        return None

    def add_record(self, stamp: int, record: NowRecord) -> Frame[M] | None:
        """Add a record, of the frame; returns the frame if that makes it complete."""
        if record.outcome is not NowOutcome.PROPAGATED:
            return None if record.again else super().add_record(stamp, record)
        target = stamp + round(1e6 * record.horizon)
        if (mask := self._masks.pop(target, None)) is not None:
            return self._pair(stamp, record, mask)
        self._records[target] = stamp, record
        if len(self._records) > self._capacity:
            self._records.popitem(last=False)
        return None

    def _pair(self, stamp: int, record: NowRecord, mask: M) -> Frame[M] | None:
        if record.again:
            return None
        super().add_mask(stamp, mask)
        return super().add_record(stamp, record)
