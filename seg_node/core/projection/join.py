"""Masks with the confidence and depth images of the same stamp, and the books of what became of each mask."""

from collections import Counter, OrderedDict
from collections.abc import Collection
from typing import Generic, TypeVar

from seg_node.core.projection.errors import Drop

M = TypeVar("M")

MASK = "mask"


class MaskJoin(Generic[M]):
    """Joins messages of equal stamps, and counts the masks.

    ``received`` is always the number ``projected``, and ``dropped`` for each reason, and those that wait.

    Args:
        parts: that a complete frame has beside the mask.
        capacity: stamps that may wait for their other parts; the oldest has to go.
    """

    def __init__(self, parts: Collection[str], capacity: int = 32):
        self.received = self.projected = 0
        self.dropped: Counter[Drop] = Counter()
        self._parts = {MASK, *parts}
        self._capacity = capacity
        self._frames: OrderedDict[int, dict[str, M]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Number of masks whose other parts have not come yet."""
        return sum(MASK in frame for frame in self._frames.values())

    def add(self, part: str, stamp: int, message: M) -> dict[str, M] | None:
        """Add a message.

        Args:
            part: ``MASK``, or one of those that were named.
            stamp: of its header, nanoseconds.
            message: it.

        Returns:
            All parts of the frame if that makes it complete.
        """
        frame = self._frames.setdefault(stamp, {})
        if part == MASK:
            self.received += 1
            if MASK in frame:
                # The same stamp once more: the newer mask counts.
                self.dropped[Drop.INCOMPLETE] += 1
        frame[part] = message
        if frame.keys() == self._parts:
            # Whatever began before has lost a part, for every topic keeps its order.
            while next(iter(self._frames)) != stamp:
                self._give_up()
            return self._frames.pop(stamp)
        while len(self._frames) > self._capacity:
            self._give_up()
        return None

    def clear(self) -> None:
        """Give all that wait up."""
        while self._frames:
            self._give_up()

    def _give_up(self) -> None:
        _, frame = self._frames.popitem(last=False)
        self.dropped[Drop.INCOMPLETE] += MASK in frame
