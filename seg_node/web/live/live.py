"""What the page shows in figures: counts since the start, and latency over a window that moves."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np

from seg_node.core.overlay import is_latency
from seg_node.core.propagation.record import NowOutcome, NowRecord
from seg_node.core.taxonomy import EIGHT
from seg_node.core.timing import DROPS, FrameRecord, Outcome

WINDOW_S = 30.0
"""Seconds over which percentiles and rates are taken."""
NOW_WINDOW_S = 5.0
"""The same of masks of now, to which the page listens only while it shows them."""
_CAPACITY = 6000
"""Records in the window at most: those of 200 Hz."""
_RECENT = 150
"""Frames of the running chart."""


class Live:
    """Collects timing records; read from any thread.

    Args:
        clock: seconds on a steady clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._started = clock()
        self._window: deque[tuple[float, FrameRecord]] = deque(maxlen=_CAPACITY)
        self._counts: Counter[Outcome] = Counter()
        self._late = 0
        self._first = self._last = self._last_masked = 0.0
        self._nows: deque[tuple[float, NowRecord]] = deque(maxlen=_CAPACITY)
        self._legend = 0
        self._labels: list[dict[str, Any]] = EIGHT.labels()
        self._about: dict[str, Any] = dict.fromkeys(("node", "camera", "state", "engine", "hint"), "") | {"cameras": []}

    def add(self, record: FrameRecord) -> None:
        """Count a frame that has just come to its end."""
        with self._lock:
            now = self._clock()
            self._window.append((now, record))
            self._counts[record.outcome] += 1
            self._late += record.late
            self._first, self._last = self._first or now, now
            if record.outcome is Outcome.MASKED:
                self._last_masked = now

    def add_now(self, record: NowRecord) -> None:
        """Take the record of a mask of now; there are some only while somebody listens to these masks."""
        with self._lock:
            self._nows.append((self._clock(), record))

    @property
    def labels(self) -> list[dict[str, Any]]:
        """Name and colour of each category."""
        with self._lock:
            return self._labels

    def tell_labels(self, labels: list[dict[str, Any]]) -> None:
        """Set the categories of the masks."""
        with self._lock:
            if labels != self._labels:
                self._labels = labels
                self._legend += 1

    def tell(self, **about: str | list[str]) -> None:
        """Set what else the page says: ``node``, ``camera``, ``state``, ``engine``, ``hint``; names of ``cameras``."""
        with self._lock:
            self._about |= about

    def silence(self) -> tuple[float, float]:
        """Seconds since the last record and since the last mask, or since the start where there was none."""
        with self._lock:
            now = self._clock()
            return now - (self._last or self._started), now - (self._last_masked or self._started)

    def snapshot(self) -> dict[str, Any]:
        """What the page shows, as JSON.

        Returns:
            What was told; ``model`` of the newest frame; ``received``, ``masked``, ``late`` and ``drops`` by reason
            since the start; over the window ``rate`` of ``received`` and ``masked`` in Hz, and ``total`` and ``age``
            with ``p50`` and ``p95`` in milliseconds, or None without any; ``recent``, outcome and total of the newest
            frames; ``now``, see ``_now``; ``legend``, another number for other ``labels``.
        """
        with self._lock:
            now = self._clock()
            while self._window and now - self._window[0][0] > WINDOW_S:
                self._window.popleft()
            records = [record for _, record in self._window]
            while self._nows and now - self._nows[0][0] > NOW_WINDOW_S:
                self._nows.popleft()
            nows = [record for _, record in self._nows]
            counts, late, about = self._counts.copy(), self._late, dict(self._about)
            legend = self._legend
            # Not from the start: loading a model takes its time.
            span = min(max(now - self._first, 1.0), WINDOW_S)
        masked = [record for record in records if record.outcome is Outcome.MASKED]
        return about | {
            "model": records[-1].model if records else "",
            "received": counts.total(),
            "masked": counts[Outcome.MASKED],
            "late": late,
            "drops": {drop.value: counts[drop] for drop in DROPS},
            "rate": {"received": round(len(records) / span, 1), "masked": round(len(masked) / span, 1)},
            "total": _percentiles([record.total for record in masked]),
            "age": _percentiles([record.age for record in masked if record.age is not None and is_latency(record.age)]),
            "recent": [[record.outcome.value, round(record.total, 1)] for record in records[-_RECENT:]],
            "now": _now(nows),
            "legend": legend,
        }


def _now(records: list[NowRecord]) -> dict[str, Any] | None:
    """Masks of now of the last seconds.

    Returns:
        ``rate`` in Hz; ``keyframe_age`` and ``total`` with ``p50`` and ``p95`` in milliseconds, or None without any;
        ``why``, the reason for which the newest frame has none, empty where it has one. None without records.
    """
    if not records:
        return None
    carried = [record for record in records if record.outcome is NowOutcome.PROPAGATED]
    last = records[-1]
    return {
        "rate": round(sum(not record.again for record in carried) / NOW_WINDOW_S, 1),
        "keyframe_age": _percentiles([record.keyframe_age for record in carried]),
        "total": _percentiles([record.total for record in carried]),
        "why": ""
        if last.outcome is NowOutcome.PROPAGATED
        else f"{last.outcome.value}: {last.detail}".removesuffix(": "),
    }


def _percentiles(milliseconds: list[float]) -> dict[str, float] | None:
    if not milliseconds:
        return None
    p50, p95 = np.percentile(milliseconds, (50, 95)).tolist()
    return {"p50": round(p50, 1), "p95": round(p95, 1)}
