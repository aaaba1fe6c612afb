"""Which frames the challenger is given: those that the incumbent has masked, one at a time."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from seg_node.shadow.pairing import CHALLENGER, Pairing

M = TypeVar("M")

_AWAITED = 8
"""Frames that the incumbent has masked and that did not arrive here which are waited for at most."""


class Following(Generic[M]):
    """Holds a camera's frames until it is known what the incumbent does with each, and hands on those that it masked.

    Two nodes that are slower than the camera each mask the frame that is newest when they are free, rarely the same
    one. So only the incumbent chooses. While the challenger works on a frame, the newest that came to be masked waits
    for it; one that it takes the place of ends as ``busy``. Not thread-safe.

    Every frame of the camera is handed on, or is one of ``waiting``, or its end is told to the pairing:

    * ``challenger.busy``; ``challenger.absent``, where nobody listens; ``challenger.missed``, where the incumbent has
      masked a frame that did not arrive here;
    * ``both.unseen``, where the incumbent said nothing of it; ``both.same_stamp``, where nothing tells it from the
      frame before; and ``both`` with the reason for which the incumbent dropped it.

    Args:
        forward: hands a frame to the challenger; returns whether anybody listens.
        pairing: where frames are counted. It hears what the incumbent said of a frame before this does.
        capacity: frames of which the incumbent has said nothing yet that are held at most.
        patience: seconds without an answer after which the challenger is given another frame. A node says of its own
            accord that an inference failed, but on its first frame it may have to compile for that size.
        clock: in seconds, steady.
    """

    def __init__(
        self,
        forward: Callable[[int, M], bool],
        pairing: Pairing,
        capacity: int = 32,
        patience: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.received = 0
        """Camera frames that came."""
        self._forward = forward
        self._pairing = pairing
        self._capacity = capacity
        self._patience = patience
        self._clock = clock
        self._held: OrderedDict[int, M] = OrderedDict()
        self._newest: int | None = None
        # Masked by the incumbent before they arrived here.
        self._awaited: OrderedDict[int, None] = OrderedDict()
        self._next: tuple[int, M] | None = None
        self._asked: int | None = None
        self._since = 0.0

    @property
    def waiting(self) -> int:
        """Frames of which the incumbent has said nothing yet."""
        return len(self._held)

    @property
    def working(self) -> float:
        """Seconds for which the challenger has had the frame that it was given last; 0 once it is done."""
        return 0.0 if self._asked is None else self._clock() - self._since

    def add_frame(self, stamp: int, frame: M) -> None:
        """Take a frame of the camera."""
        self.received += 1
        if stamp == self._newest:
            self._pairing.end_both(None, "same_stamp")
            return
        self._newest = stamp
        if stamp in self._awaited:
            del self._awaited[stamp]
            self._offer(stamp, frame)
            return
        self._held[stamp] = frame
        if len(self._held) > self._capacity:
            oldest, _ = self._held.popitem(last=False)
            self._pairing.end_both(oldest, "unseen")

    def masked(self, stamp: int) -> None:
        """Hear that the incumbent has masked a frame."""
        if stamp in self._held:
            self._offer(stamp, self._held.pop(stamp))
            return
        self._awaited[stamp] = None
        if len(self._awaited) > _AWAITED:
            self._pairing.end(CHALLENGER, self._awaited.popitem(last=False)[0], "missed")

    def dropped(self, stamp: int) -> None:
        """Hear that the incumbent has dropped a frame."""
        self._held.pop(stamp, None)
        self._pairing.end(CHALLENGER, stamp, "not_given")

    def answered(self, stamp: int) -> None:
        """Hear that the challenger is done with a frame, masked or dropped."""
        if stamp == self._asked:
            self._asked = None
            self._hand_on()

    def look_at_the_clock(self) -> None:
        """Give the challenger another frame where it has said nothing of the last one for too long."""
        if self.working > self._patience:
            self._pairing.end(CHALLENGER, self._asked, "unseen")
            self._asked = None
            self._hand_on()

    def _offer(self, stamp: int, frame: M) -> None:
        if self._next is not None:
            self._pairing.end(CHALLENGER, self._next[0], "busy")
        self._next = (stamp, frame)
        self._hand_on()

    def _hand_on(self) -> None:
        if self._asked is not None or self._next is None:
            return
        (stamp, frame), self._next = self._next, None
        if self._forward(stamp, frame):
            self._asked, self._since = stamp, self._clock()
        else:
            self._pairing.end(CHALLENGER, stamp, "absent")
