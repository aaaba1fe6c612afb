"""When to try again: attempts that come less and less often while they fail."""

import time
from collections.abc import Callable


class Attempts:
    """Counts the attempts at something that has failed, and says when the next is due.

    The first comes after ``first`` seconds, each further one after twice as long, up to ``longest``. What has gone well
    for ``longest`` seconds and then fails begins anew; what fails earlier goes on where it was, so that nothing is
    tried every second that works for a moment each time.

    Args:
        first: seconds from the first failure to the first attempt.
        longest: seconds between two attempts.
        clock: seconds on a steady clock.
    """

    def __init__(self, first: float = 1.0, longest: float = 60.0, clock: Callable[[], float] = time.monotonic):
        self._first, self._longest, self._clock = first, longest, clock
        self._delay = 0.0
        self._due: float | None = None
        self._went_well: float | None = None
        self.count = 0
        """Attempts since it began to fail."""

    @property
    def failing(self) -> bool:
        """Whether an attempt is due, now or later."""
        return self._due is not None

    def failed(self) -> float:
        """Note a failure; returns the seconds until the next attempt."""
        now = self._clock()
        if self._went_well is not None and now - self._went_well >= self._longest:
            self._delay, self.count = 0.0, 0
        self._went_well = None
        self._delay = min(2 * self._delay or self._first, self._longest)
        self._due = now + self._delay
        return self._delay

    def begin(self) -> None:
        """Note that it is tried; the first time of all, before anything has failed, does not count."""
        self.count += self.failing

    def succeeded(self) -> None:
        """Note that it works."""
        self._due, self._went_well = None, self._clock()

    def stop(self) -> None:
        """Try no more; the next failure begins anew."""
        self._due = self._went_well = None
        self._delay, self.count = 0.0, 0

    def left(self) -> float | None:
        """Seconds until the next attempt, 0 while one goes on; None if none is due."""
        return None if self._due is None else max(self._due - self._clock(), 0.0)
