"""Whether inferences still take as long as they did when a profile was measured."""

import statistics
from collections import deque

WINDOW_S = 10.0
"""Seconds over whose times the median is judged: one slow second is no news."""
AFTER_S = 45.0
"""Seconds for which that median has to lie outside before it is told; with the window, within a minute."""
CALM_S = 5.0
"""Seconds for which it has to lie within again before it is forgotten."""


class LatencyWatch:
    """Watches times of inferences against the band that was measured.

    Args:
        low, high: ends of the band in milliseconds.
    """

    def __init__(self, low: float, high: float):
        self.low, self.high = low, high
        self._times: deque[tuple[float, float]] = deque()
        self._since: float | None = None
        """When the median crossed the edge of the band last, seconds; None before the first time."""
        self._outside = False
        self._told = False

    def look(self, inference: float | None, at: float) -> str:
        """Take the newest time, and say what is wrong.

        Args:
            inference: milliseconds that inferences took since the last look; None where there was none.
            at: seconds on a steady clock.

        Returns:
            What a person should read and do; empty while all is as it was measured.
        """
        if inference is not None:
            self._times.append((at, inference))
        while self._times and self._times[0][0] <= at - WINDOW_S:
            self._times.popleft()
        if not self._times:
            # Without frames nothing is known, and no time outside the band passes.
            self._since, self._outside, self._told = None, False, False
            return ""
        median = statistics.median(time for _, time in self._times)
        outside = not self.low <= median <= self.high
        if self._since is None or outside != self._outside:
            self._since, self._outside = at, outside
        if at - self._since >= (AFTER_S if outside else CALM_S):
            self._told = outside
        if not self._told:
            return ""
        return (
            f"an inference takes {median:.0f} ms, and took {self.low:.0f} to {self.high:.0f} ms when the profile was"
            " measured: look what else uses the processor; if that is to stay, run `seg_node tune` again"
        )
