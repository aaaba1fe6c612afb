"""The newest-only slot between the subscription and the worker, and the count of every frame's end."""

import threading
from collections import Counter
from typing import Generic, TypeVar

from seg_node.core.timing import DROPS, Outcome

T = TypeVar("T")


class Slot(Generic[T]):
    """Holds at most one waiting item: putting a newer one hands the older one back.

    Nothing queues, so an item that is taken is never older than one frame period plus the work before it.
    """

    def __init__(self):
        self._condition = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> T | None:
        """Offer an item.

        Returns:
            The item that it supersedes, or the item itself if the slot is closed; None if it just waits.
        """
        with self._condition:
            if self._closed:
                return item
            superseded, self._item = self._item, item
            self._condition.notify()
            return superseded

    def take(self) -> T | None:
        """Wait for an item and take it; None once the slot is closed and empty."""
        with self._condition:
            self._condition.wait_for(lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """Refuse further items. One that waits is still handed out."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()


class Accounting:
    """Counts frames so that received = masked + every kind of drop + pending, at any instant.

    Pending frames wait in the slot or are with the worker: two at most, none once the camera pauses.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._received = 0
        self._late = 0
        self._outcomes: Counter[Outcome] = Counter()

    def receive(self) -> None:
        """Count a frame that the subscription delivered."""
        with self._lock:
            self._received += 1

    def settle(self, outcome: Outcome, late: bool = False) -> None:
        """Count the end of a frame."""
        with self._lock:
            self._outcomes[outcome] += 1
            self._late += late

    def snapshot(self) -> dict[str, int]:
        """Read all counts at one instant: ``received``, ``masked``, ``dropped.<reason>``, ``pending``, ``late``."""
        with self._lock:
            counts = {"received": self._received, "masked": self._outcomes[Outcome.MASKED]}
            counts |= {f"dropped.{drop.value}": self._outcomes[drop] for drop in DROPS}
            counts["pending"] = self._received - sum(self._outcomes.values())
            counts["late"] = self._late
        return counts
