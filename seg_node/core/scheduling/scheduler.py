"""Where the newest frame of each camera waits for those who work on frames, and which is taken next."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Generic, Protocol, TypeVar

from seg_node.core.scheduling.turns import Turns
from seg_node.core.slot import Slot

T = TypeVar("T")

_WITH_ALL = 2.0
"""What a frame costs, of what the thread that receives it takes: the middleware's threads, and the caches that
inference finds cold after them, take as much again. In ``benchmarks/ill_cameras.py`` 170 frames a second more cost two
cores 6 to 9 % of their masks, a millisecond of a core each; the thread takes half of it.
"""
_USUAL = 2.0
"""How much more than that of the others, in the mean, a camera's reception may take without being charged."""
_MOST = 1.0
"""Most turns that one is charged besides."""
_FLOOD = 4.0
"""How many times as many frames from turn to turn as the others have, in the mean, make a flood."""
_TOGETHER = 4
"""Number of frames of a flood that are received together. To wake for each of them costs most: taken by fours the flood
of ``benchmarks/ill_cameras.py`` costs no mask that can be told from chance, taken by twos half of what it costs one by
one.
"""
_LONGEST_S = 0.02
"""Longest time for which they gather, so that a camera faster than the others has frames that are not much older."""


class Claim(Protocol):
    """What a camera may ask for; read anew at each turn."""

    priority: int
    """See ``Turns.serve``."""
    patience: float
    """See ``seg_node.core.slot.Rhythm.worth_waiting``."""
    reception: float
    """Seconds of a core that the reception of its frames has taken so far; 0 where that is not known."""


@dataclass
class EqualClaim:
    """A claim like that of all others, for those who need no more."""

    priority: int = 1
    patience: float = 0.0
    reception: float = 0.0


@dataclass(eq=False)
class _Work(Generic[T]):
    camera: int
    item: T
    since: float


class Scheduler(Generic[T]):
    """Between cameras that offer items and workers: of each camera at most one item waits, the newest.

    Putting a newer item hands the one that waits back. Nothing queues, so an item that is taken is never older than
    one frame period of its camera, and younger where the worker waits for the next one. ``Turns`` says which camera is
    next, and how long each may have to wait; one whose item is in work waits only once that is done, so of each camera
    items end in the order in which they came. For a next frame, as ``patience`` has it, the worker waits only while no
    other camera's frame waits: an idle worker would cost that one its turn.

    A camera that floods takes cores by the reception of frames alone. What that comes to since its last turn, beyond
    twice of what it comes to with the others, is charged to it as a share of its work, up to one turn more. Cameras
    that are alike are charged nothing and keep their order. And whoever receives its frames is asked to let a few of
    them gather, see ``gathering``: most of that cost is that a thread wakes for each.

    Items can be taken back from a worker that does not come back, and the worker learns of it when it does: each item
    ends in one hand. All methods may be called by any thread, ``take`` and ``take_others`` by a worker's only.

    Args:
        claims: one for each camera.
    """

    def __init__(self, claims: Sequence[Claim] = (EqualClaim(),)):
        self._claims = claims
        self._condition = threading.Condition()
        self._slots: list[Slot[T]] = [Slot() for _ in claims]
        self._turns = Turns(len(claims))
        self._received = [claim.reception for claim in claims]
        """What reception had taken at the last turn of each camera."""
        self._shares = [0.0] * len(claims)
        """What reception took until then, of the work."""
        self._crowds = [0] * len(claims)
        """How many items came of each camera from one turn to the next, its last one."""
        self._served = [time.monotonic()] * len(claims)
        """When each camera had its last turn."""
        self._gathering = [0.0] * len(claims)
        self._in_work: list[_Work[T]] = []
        self._lost = 0
        """Number of items that were taken back and that workers are still busy with."""
        self._closed = False

    @property
    def blocked(self) -> bool:
        """Whether a worker is still busy with an item that was taken back."""
        return self._lost > 0

    @property
    def waiting(self) -> int:
        """Number of items that wait at this moment."""
        return sum(slot.waiting is not None for slot in self._slots)

    def gathering(self, camera: int) -> float:
        """Seconds to wait, after what came of a camera was put, before more is taken; 0 unless the camera floods.

        That is where more than four times as many of its items as of the others, in the mean, came from one turn to the
        next, and more than could gather twice.
        """
        return self._gathering[camera]

    def put(self, item: T, camera: int = 0) -> T | None:
        """Offer an item.

        Returns:
            The item that it supersedes, or the item itself if nothing is accepted: the scheduler is closed or blocked;
            None if it just waits.
        """
        with self._condition:
            if self._closed or self._lost:
                return item
            superseded = self._slots[camera].put(item, time.monotonic())
            self._begin_to_wait(camera)
            return superseded

    def take(self) -> T | None:
        """Wait for an item and begin to work on it; None once the scheduler is closed and empty."""
        with self._condition:
            while (camera := self._wait_for_one()) is not None:
                seconds = self._worth_waiting(camera)
                if not seconds or not self._condition.wait_for(self._has_changed(camera), seconds):
                    break
            return None if camera is None else self._begin(camera)

    def take_others(self) -> list[T]:
        """Begin to work on all other items that wait, besides the one that was taken, in the order of their turns."""
        with self._condition:
            return [self._begin(camera) for camera in self._turns]

    def done(self, item: T) -> bool:
        """End the work on an item that was taken.

        Returns:
            Whether the item is still the worker's, so that the result counts: not if it was taken back.
        """
        with self._condition:
            work = next((work for work in self._in_work if work.item is item), None)
            if work is None:
                self._lost -= 1
                return False
            self._in_work.remove(work)
            if self._closed:
                self._condition.notify_all()
            slot = self._slots[work.camera]
            slot.work = time.monotonic() - work.since
            if slot.waiting is not None:
                self._begin_to_wait(work.camera)
            return True

    def take_back(self, item: T | None = None) -> list[T]:
        """Take what is in work and what waits away; all is blocked until the worker is done.

        Args:
            item: take them only if this one is in work.

        Returns:
            What was taken: from the worker, then of each camera.
        """
        with self._condition:
            if item is not None and not any(work.item is item for work in self._in_work):
                return []
            taken = [work.item for work in self._in_work]
            self._lost += len(self._in_work)
            self._in_work.clear()
            for camera, slot in enumerate(self._slots):
                self._turns.leave(camera)
                if (item := slot.take()) is not None:
                    taken.append(item)
            return taken

    def close(self) -> None:
        """Refuse further items. Those that wait are still handed out."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _wait_for_one(self) -> int | None:
        """Camera whose turn is next; None once the scheduler is closed and empty."""
        self._condition.wait_for(lambda: self._turns.first() is not None or self._ended())
        return self._turns.first()

    def _ended(self) -> bool:
        """Whether nothing waits any more, nor will: one whose camera has another one in work still has its turn."""
        return self._closed and all(slot.waiting is None for slot in self._slots)

    def _begin_to_wait(self, camera: int) -> None:
        if all(work.camera != camera for work in self._in_work):
            self._turns.wait(camera)
            # All of them: one may wait for the next item of another camera.
            self._condition.notify_all()

    def _worth_waiting(self, camera: int) -> float:
        if self._closed or len(self._turns) > 1:
            return 0.0
        return self._slots[camera].worth_waiting(time.monotonic(), self._claims[camera].patience)

    def _has_changed(self, camera: int) -> Callable[[], bool]:
        slot, held = self._slots[camera], self._slots[camera].waiting
        return lambda: slot.waiting is not held or self._closed or len(self._turns) > 1

    def _begin(self, camera: int) -> T:
        self._turns.serve(camera, self._claims[camera].priority, self._surcharge(camera))
        slot, now = self._slots[camera], time.monotonic()
        self._gathering[camera] = self._time_to_gather(camera, now - self._served[camera])
        self._served[camera] = now
        item = slot.take()
        self._in_work.append(_Work(camera, item, now))
        return item

    def _time_to_gather(self, camera: int, seconds: float) -> float:
        """See ``gathering``; seconds since the camera's turn before this one."""
        crowd = self._crowds[camera] = self._slots[camera].crowd
        if crowd <= max(_FLOOD * self._of_others(self._crowds, camera), 2 * _TOGETHER):
            return 0.0
        return min(_TOGETHER * seconds / crowd, _LONGEST_S)

    def _of_others(self, values: Sequence[float], camera: int) -> float:
        """Mean of the values of all other cameras; infinite where there is none, for nobody has to yield to it."""
        return fmean(value for other, value in enumerate(values) if other != camera) if len(values) > 1 else math.inf

    def _surcharge(self, camera: int) -> float:
        """Share of a turn that a camera is charged for what its reception takes more than that of the others."""
        if len(self._claims) == 1:
            return 0.0
        before, self._received[camera] = self._received[camera], self._claims[camera].reception
        work = self._slots[camera].work
        self._shares[camera] = _WITH_ALL * (self._received[camera] - before) / work if work else 0.0
        return min(max(self._shares[camera] - _USUAL * self._of_others(self._shares, camera), 0.0), _MOST)
