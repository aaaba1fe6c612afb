"""The newest-only slot of a camera, the rhythm of what comes, and the count of every frame's end."""

import threading
from collections import Counter, deque
from enum import Enum
from typing import Generic, TypeVar

from seg_node.core.timing import DROPS, Outcome

T = TypeVar("T")
E = TypeVar("E", bound=Enum)


class Rhythm:
    """When the next item is due, as far as those before tell.

    Times are in seconds by one clock.
    """

    _INTERVALS = 5
    """Number of intervals that are averaged."""
    _SPREAD = 0.2
    """Share of the interval by which the longest may differ from the shortest; else nothing is known of the next."""
    _SLACK = 0.1
    """Share of the interval that the next item may be late."""
    _FAST = 1.5
    """Number of items during the work on one from which on the next is not waited for."""

    def __init__(self):
        self._intervals: deque[float] = deque(maxlen=self._INTERVALS)
        self._newest: float | None = None

    def beat(self, now: float) -> None:
        """Note that an item has come."""
        if self._newest is not None:
            self._intervals.append(now - self._newest)
        self._newest = now

    def worth_waiting(self, now: float, patience: float, work: float = 0.0) -> float:
        """How long to wait for the next item, rather than to begin with the newest.

        To begin at once with an item that has grown old gives an older result, and makes the next one wait in turn:
        the shrinking-tail schedule of Li, Wang, Ramanan, "Towards Streaming Perception", ECCV 2020. It may leave the
        worker idle for most of an interval; here ``patience`` bounds that. Where items come much faster than they are
        worked on, the next one is only a little younger: not worth an idle worker.

        Args:
            now: when the worker could begin.
            patience: share of the newest item's age within which the next must be due.
            work: seconds that the work on an item takes.

        Returns:
            Seconds; 0 to begin at once.
        """
        if self._newest is None or len(self._intervals) < self._INTERVALS:
            return 0.0
        interval = sum(self._intervals) / len(self._intervals)
        if max(self._intervals) - min(self._intervals) > self._SPREAD * interval or work > self._FAST * interval:
            return 0.0
        age = now - self._newest
        left = interval - age
        return left + self._SLACK * interval if 0 < left <= patience * age else 0.0


class Slot(Generic[T]):
    """Where the newest item of one source waits. Not for several threads at once; see ``Scheduler``.

    Attributes:
        waiting: the item that waits, None while none does.
        work: seconds that the work on the last item took.
        crowd: number of items that came since one was taken.
    """

    def __init__(self):
        self._rhythm = Rhythm()
        self.waiting: T | None = None
        self.work = 0.0
        self.crowd = 0

    def put(self, item: T, now: float) -> T | None:
        """Offer an item at a time in seconds; returns the item that it supersedes."""
        self._rhythm.beat(now)
        superseded, self.waiting = self.waiting, item
        self.crowd += 1
        return superseded

    def take(self) -> T | None:
        """Take the item that waits away."""
        taken, self.waiting, self.crowd = self.waiting, None, 0
        return taken

    def worth_waiting(self, now: float, patience: float) -> float:
        """How long to wait for an item that is newer than the one that waits; see ``Rhythm.worth_waiting``."""
        return self._rhythm.worth_waiting(now, patience, self.work)


class Accounting(Generic[E]):
    """Counts frames so that received = masked + every kind of drop + pending, at any instant.

    Pending frames wait in the slot, are in inference or are being published: one each at most, none once the camera
    pauses.

    Args:
        done: the outcome that is no drop.
        drops: all others.
    """

    def __init__(self, done: E = Outcome.MASKED, drops: tuple[E, ...] = DROPS):
        self._lock = threading.Lock()
        self._done, self._drops = done, drops
        self._received = 0
        self._late = 0
        self._outcomes: Counter[E] = Counter()

    def receive(self) -> None:
        """Count a frame that the subscription delivered."""
        with self._lock:
            self._received += 1

    def settle(self, outcome: E, late: bool = False) -> None:
        """Count the end of a frame."""
        with self._lock:
            self._outcomes[outcome] += 1
            self._late += late

    def snapshot(self) -> dict[str, int]:
        """Read all counts at one instant: ``received``, ``masked``, ``dropped.<reason>``, ``pending``, ``late``."""
        with self._lock:
            counts = {"received": self._received, self._done.value: self._outcomes[self._done]}
            counts |= {f"dropped.{drop.value}": self._outcomes[drop] for drop in self._drops}
            counts["pending"] = self._received - sum(self._outcomes.values())
            counts["late"] = self._late
        return counts
