"""The newest-only slot between the subscription and the worker, and the count of every frame's end."""

import statistics
import threading
import time
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
        interval = statistics.mean(self._intervals)
        if max(self._intervals) - min(self._intervals) > self._SPREAD * interval or work > self._FAST * interval:
            return 0.0
        age = now - self._newest
        left = interval - age
        return left + self._SLACK * interval if 0 < left <= patience * age else 0.0


class Slot(Generic[T]):
    """Between those who offer items and one worker: at most one item waits, and at most one is in work.

    Putting a newer item hands the one that waits back. Nothing queues, so an item that is taken is never older than
    one frame period, and younger where the worker waits for the next one. Items can be taken back from a worker that
    does not come back, and the worker learns of it when it does: each item ends in one hand.
    """

    def __init__(self):
        self._condition = threading.Condition()
        self._rhythm = Rhythm()
        self._waiting: T | None = None
        self._in_work: T | None = None
        self._taken = self._work = 0.0
        self._blocked = False
        self._closed = False

    @property
    def blocked(self) -> bool:
        """Whether the worker is still busy with an item that was taken back."""
        return self._blocked

    def put(self, item: T) -> T | None:
        """Offer an item.

        Returns:
            The item that it supersedes, or the item itself if the slot is closed or blocked; None if it just waits.
        """
        with self._condition:
            if self._closed or self._blocked:
                return item
            self._rhythm.beat(time.monotonic())
            superseded, self._waiting = self._waiting, item
            self._condition.notify()
            return superseded

    def take(self, patience: float = 0.0) -> T | None:
        """Wait for an item and begin to work on it; None once the slot is closed and empty.

        Args:
            patience: see ``Rhythm.worth_waiting``.
        """
        with self._condition:
            self._wait_for_one()
            while not self._closed and (seconds := self._rhythm.worth_waiting(time.monotonic(), patience, self._work)):
                if not self._condition.wait_for(
                    lambda held=self._waiting: self._waiting is not held or self._closed, seconds
                ):
                    break
                self._wait_for_one()
            self._in_work, self._waiting, self._taken = self._waiting, None, time.monotonic()
            return self._in_work

    def _wait_for_one(self) -> None:
        self._condition.wait_for(lambda: self._waiting is not None or self._closed)

    def done(self, item: T) -> bool:
        """End the work on an item that was taken.

        Returns:
            Whether the item is still the worker's, so that the result counts: not if it was taken back.
        """
        with self._condition:
            kept = self._in_work is item
            self._in_work, self._blocked, self._work = None, False, time.monotonic() - self._taken
            return kept

    def take_back(self, item: T | None = None) -> list[T]:
        """Take the item in work and the one that waits away; the slot is blocked until the worker is done.

        Args:
            item: take them only if this one is in work.

        Returns:
            What was taken, in the order of arrival.
        """
        with self._condition:
            if item is not None and self._in_work is not item:
                return []
            taken = [held for held in (self._in_work, self._waiting) if held is not None]
            self._blocked |= self._in_work is not None
            self._in_work = self._waiting = None
            return taken

    def close(self) -> None:
        """Refuse further items. One that waits is still handed out."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()


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
