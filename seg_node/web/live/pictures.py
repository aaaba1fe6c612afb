"""The newest frame as a JPEG with its mask painted over it, made only when a browser asks, and once for all of them."""

import threading
import time
from dataclasses import dataclass

import cv2
import numpy as np

from seg_node.core.errors import UndecodableError
from seg_node.core.frame_join import Frame
from seg_node.core.overlay import paint
from seg_node.core.taxonomy import EIGHT, Taxonomy
from seg_node.ros.frame_source import decode_frame

_MAX_WIDTH = 1280
"""Pixels; a page shows no more, and a phone's connection carries no more."""
_QUALITY = 80
_EDGED = ("vehicle", "human")
_EDGE_BGR = (255, 255, 255)
"""Colour around vehicles and people: the palette's navy is hard to see on a dark road."""
_PATIENCE_S = 5.0
"""Seconds for which pictures are still wanted after a request: a browser asks anew for each, and when one runs out."""


@dataclass(frozen=True)
class Picture:
    """A picture as it goes to the browsers."""

    number: int
    """Number of the frame, counted by this process."""
    jpeg: bytes
    shares: list[float]
    """Share of each category, in percent of the pixels."""


class Pictures:
    """Holds one frame and one picture, however many browsers watch and however slow they are.

    Attributes:
        taxonomy: of the masks.
    """

    def __init__(self):
        self.taxonomy = EIGHT
        self._changed = threading.Condition()
        self._painting = threading.Lock()
        self._number = 0
        self._frame: Frame | None = None
        self._picture: Picture | None = None
        self._asked = -_PATIENCE_S
        self.unreadable = 0
        """Frames whose image or mask could not be read."""

    @property
    def wanted(self) -> bool:
        """Whether a browser has asked lately."""
        return time.monotonic() - self._asked < _PATIENCE_S

    def offer(self, frame: Frame) -> None:
        """Take a frame in the place of the one before. Costs no more than that."""
        with self._changed:
            self._number, self._frame = self._number + 1, frame
            self._changed.notify_all()

    def another(self, seen: int, timeout: float) -> Picture | None:
        """Wait for a picture that is not the one seen last.

        Args:
            seen: its number, 0 for none.
            timeout: seconds.

        Returns:
            None where none came in time.
        """
        deadline = time.monotonic() + timeout
        known = seen
        # At least one look, however late a busy machine is.
        while True:
            self._asked = now = time.monotonic()
            # In steps, for whoever waits wants pictures all the while.
            if (number := self._other(known, min(max(deadline - now, 0.0), 1.0))) is not None:
                known = number
                picture = self._newest()
                if picture and picture.number != seen:
                    return picture
            if time.monotonic() >= deadline:
                return None

    def _other(self, known: int, timeout: float) -> int | None:
        """Wait for a frame of another number than the one known; returns it, None where none came."""
        with self._changed:
            found = self._changed.wait_for(lambda: self._number not in (0, known), timeout)
            return self._number if found else None

    def _newest(self) -> Picture | None:
        with self._painting:
            with self._changed:
                number, frame, self._frame = self._number, self._frame, None
            # None where another browser's request has had it painted.
            if frame is not None:
                try:
                    self._picture = _paint(number, frame, self.taxonomy)
                except UndecodableError:
                    self.unreadable += 1
            return self._picture


def _paint(number: int, frame: Frame, taxonomy: Taxonomy) -> Picture:
    bgr, mask = decode_frame(frame)
    # Before it is scaled: small things count.
    shares = 100 * np.bincount(mask.ravel(), minlength=256)[: len(taxonomy)] / mask.size
    if bgr.shape[1] > _MAX_WIDTH:
        size = (_MAX_WIDTH, max(round(bgr.shape[0] * _MAX_WIDTH / bgr.shape[1]), 1))
        bgr = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
    painted = paint(bgr, mask, taxonomy=taxonomy)
    painted[_edges(mask, taxonomy)] = _EDGE_BGR
    _, jpeg = cv2.imencode(".jpg", painted, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return Picture(number, jpeg.tobytes(), shares.round(1).tolist())


def _edges(mask: np.ndarray, taxonomy: Taxonomy) -> np.ndarray:
    """Innermost pixels of vehicles and people, where the categories have them under these names; bool [H, W]."""
    edged = [category for category, name in enumerate(taxonomy.names) if name in _EDGED]
    inside = np.isin(mask, edged).astype(np.uint8)
    return inside > cv2.erode(inside, np.ones((3, 3), np.uint8))
