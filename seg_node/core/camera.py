"""What is odd about the frames of a camera that can be masked all the same: counted, so that somebody looks."""

import time
from enum import Enum

import numpy as np

_ROW_STEP = 32
"""Step from one row that is looked at to the next, so that a frame of 1280x720 costs well below a millisecond."""
_PIXEL_STEP = 8
_BLACK = 4.0
"""Mean of the sampled values, of 255, below which a frame is black: a covered lens, not a dark street."""
_FUTURE_MS = 100.0
"""Clocks that are synchronised, and a simulated one that ticks at 40 Hz, differ by less."""


class Oddity(str, Enum):
    """Something that a healthy camera does not send."""

    DUPLICATE_STAMP = "duplicate_stamp"
    """The stamp of the frame before."""
    BACKWARD_STAMP = "backward_stamp"
    """An earlier stamp than that of the frame before: a clock that jumped, or a bag that starts again."""
    FUTURE_STAMP = "future_stamp"
    """Ahead of the node's clock."""
    FRAME_ID_CHANGE = "frame_id_change"
    SIZE_CHANGE = "size_change"
    BLACK = "black"
    FROZEN = "frozen"
    """The same bytes as in the frame before, in every row that is looked at."""


class CameraWatch:
    """Counts the oddities of one stream of frames. ``header`` and ``image`` may be called by different threads."""

    def __init__(self):
        # All keys from the start: each is written by one thread only, and none is added while another one reads.
        self._counts = dict.fromkeys(Oddity, 0)
        self.seen: float | None = None
        """Reading of ``time.monotonic`` when the newest frame came; None before the first."""
        self.age: float | None = None
        """Milliseconds from the newest frame's stamp until it came; None without a stamp or a clock."""
        self.frame_id: str | None = None
        """``frame_id`` of the newest frame; None before the first."""
        self._stamp = 0
        self._size: tuple[int, int] | None = None
        self._rows: np.ndarray | None = None

    def header(self, stamp: int, frame_id: str, age: float | None) -> None:
        """Look at the header of a frame, in the order of arrival.

        Args:
            stamp: nanoseconds; 0 is no stamp.
            frame_id: of the header.
            age: milliseconds from the stamp until now; None without a stamp or a clock.
        """
        self.seen, self.age = time.monotonic(), age
        if stamp and self._stamp:
            self._counts[Oddity.DUPLICATE_STAMP] += stamp == self._stamp
            self._counts[Oddity.BACKWARD_STAMP] += stamp < self._stamp
        self._counts[Oddity.FUTURE_STAMP] += age is not None and age < -_FUTURE_MS
        self._counts[Oddity.FRAME_ID_CHANGE] += self.frame_id not in (None, frame_id)
        self._stamp, self.frame_id = stamp, frame_id

    def image(self, bgr: np.ndarray) -> None:
        """Look at the pixels of a frame, uint8 [H, W, 3], in the order of masking."""
        size, rows = bgr.shape[:2], bgr[::_ROW_STEP]
        self._counts[Oddity.BLACK] += bool(rows[:, ::_PIXEL_STEP].mean() < _BLACK)
        if self._size is not None and size != self._size:
            self._counts[Oddity.SIZE_CHANGE] += 1
        elif self._rows is not None:
            # The first row tells nearly always, and the others need not be read.
            same = np.array_equal(rows[:1], self._rows[:1]) and np.array_equal(rows, self._rows)
            self._counts[Oddity.FROZEN] += same
        # A copy: a view would hold the whole message.
        self._size, self._rows = size, rows.copy()

    def status(self) -> dict[str, str]:
        """Values for diagnostics: how often, as ``camera.<oddity>``, for each of ``Oddity``."""
        return {f"camera.{oddity.value}": str(int(count)) for oddity, count in self._counts.items()}
