"""Whose turn it is, of several that share one worker."""

import math
from collections.abc import Iterator

GREATEST_PRIORITY = 100
_PARTS = 1000
"""What a surcharge is counted in: parts of a turn."""
_TURN = math.lcm(*range(1, GREATEST_PRIORITY + 1)) * _PARTS
"""Length of a turn of priority 1. Each part of one, divided by any priority, is whole: ties that rounding broke would
break the bound."""


class Turns:
    """Start-time fair queueing with one unit of work a turn: least recently served first, weighted by priority.

    Goyal, Vin, Cheng, "Start-time Fair Queueing", SIGCOMM 1996. Whoever begins to wait gets a start tag: the time of
    the turn before, or where its own last turn ended if that is later; a turn lasts ``1 / priority``, and longer by a
    surcharge. The smallest tag has the next turn, and of equal ones whoever was served least recently. While all wait,
    turns are shared as the priorities are; who was away has no turns saved up.

    Nobody starves: from the moment that i begins to wait until its turn, each other j has at most ``ceil((1 +
    surcharge_i) priority_j / priority_i)`` turns, with the surcharge of i's last turn, as long as priorities do not
    change. With equal priorities and no surcharge that is one each.

    Not for several threads at once.

    Args:
        count: of those who share, numbered from 0.
    """

    def __init__(self, count: int):
        self._now = 0
        self._ends = [0] * count
        self._served = [-1] * count
        self._turn = 0
        self._tags: dict[int, int] = {}

    def __iter__(self) -> Iterator[int]:
        """Those who wait, the next one first."""
        return iter(sorted(self._tags, key=self._rank))

    def __len__(self) -> int:
        """Number of those who wait."""
        return len(self._tags)

    def wait(self, number: int) -> None:
        """Note that somebody waits, unless that is known."""
        if number not in self._tags:
            self._tags[number] = max(self._now, self._ends[number])

    def leave(self, number: int) -> None:
        """Note that somebody waits no more, without a turn."""
        self._tags.pop(number, None)

    def first(self) -> int | None:
        """Who has the next turn; None if nobody waits."""
        return min(self._tags, key=self._rank, default=None)

    def serve(self, number: int, priority: int, surcharge: float = 0.0) -> None:
        """Give a turn to somebody who waits.

        Args:
            number: as a rule that of ``first``.
            priority: 1 to ``GREATEST_PRIORITY``: as many turns, while all wait, for each one of priority 1.
            surcharge: share of a turn that this one is charged besides, 0 or more, rounded to thousandths.
        """
        self._now = self._tags.pop(number)
        self._ends[number] = self._now + _TURN // _PARTS // priority * (_PARTS + round(_PARTS * surcharge))
        self._served[number] = self._turn
        self._turn += 1

    def _rank(self, number: int) -> tuple[int, int, int]:
        return self._tags[number], self._served[number], number
