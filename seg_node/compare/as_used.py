"""A video of a drive as a decision module has it: camera, newest mask, mask of now and truth, side by side.

Each frame has the masks that had arrived when it was published, with the age of what was inferred. WebM, because
browsers play it and OpenCV writes it.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from seg_node.bags.drive import Drive
from seg_node.bags.images import decode
from seg_node.compare.drawing import FONT, fit, legend_band
from seg_node.core.overlay import paint
from seg_node.core.taxonomy import EIGHT, Taxonomy
from seg_node.rig.frames import ArrivedMask, Run
from seg_node.rig.streaming import Instant, NowInstant, first_round

NAME = "as_used.webm"
"""File in the folder of a replay."""
_PICTURES_PER_S = 10.0
"""Greatest rate. OpenCV gives each pixel about a bit, so that more take long to write, and to come to a browser."""
_WIDTH = 320
"""Width of a panel in pixels."""
_TITLE = 26
"""Height of the line above a panel in pixels."""
_FOOT = 56
"""Height in pixels of the band below all, where players have their controls and captions."""


def write_as_used(
    file: Path,
    drive: Drive,
    run: Run,
    categories: Taxonomy = EIGHT,
    truth_categories: Taxonomy = EIGHT,
    progress: bool = True,
) -> bool:
    """Write the video of the first time that the drive is played.

    Args:
        file: to write, which ends with ``.webm``.
        drive: what was played; with ground truth, a panel shows it.
        run: what was seen; a panel shows the mask of now where somebody listened to it.
        categories: of the masks.
        truth_categories: of the ground truth.
        progress: show a bar.

    Returns:
        False if OpenCV cannot write WebM here, no mask arrived, or no image can be decoded.
    """
    pairs = first_round(run)
    if not any(instant.newest for instant, _ in pairs):
        return False
    step = max(1, round(drive.rate / _PICTURES_PER_S))
    rate = drive.rate / step or 10.0
    legend = legend_band(_WIDTH * 2, categories)
    panels = _Panels(drive, run.nows is not None, categories, truth_categories)
    writer = None
    for instant, now in tqdm(pairs[::step], desc="video of use", unit="frame", disable=not progress):
        bgr = decode(drive.frames[instant.now.frame])
        if bgr is None:
            continue
        cells = list(panels.of(bgr, instant, now))
        if len(cells) % 2:
            cells.append(np.full_like(cells[0], 255))
        rows = [np.hstack(cells[i : i + 2]) for i in range(0, len(cells), 2)]
        picture = np.vstack([*rows, legend, np.zeros((_FOOT, legend.shape[1], 3), np.uint8)])
        picture = picture[: picture.shape[0] // 2 * 2]
        if writer is None:
            with _quiet():
                writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"VP80"), rate, picture.shape[1::-1])
            if not writer.isOpened():
                file.unlink(missing_ok=True)
                return False
        writer.write(picture)
    if writer:
        writer.release()
    return writer is not None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what FFmpeg prints off the terminal: it complains of the name of a codec that it then takes."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class _Panels:
    """Draws the panels of one instant after the other."""

    def __init__(self, drive: Drive, listened: bool, categories: Taxonomy, truth_categories: Taxonomy):
        self._drive, self._listened = drive, listened
        self._categories, self._truth_categories = categories, truth_categories
        self._decoded: dict[str, tuple[ArrivedMask, np.ndarray]] = {}

    def of(self, bgr: np.ndarray, instant: Instant, now: NowInstant) -> Iterator[np.ndarray]:
        """Camera, mask, mask of now and truth, those that there are, uint8 [H, W, 3] BGR of one size."""
        small = fit(bgr, _WIDTH)
        yield _titled(small, "camera")
        text = "mask: none yet" if instant.newest is None else f"mask: inferred {instant.age_ms:.0f} ms before"
        yield _titled(self._painted(small, "mask", instant.newest and instant.newest.mask), text)
        if self._listened:
            text = "mask_now: none yet" if now.newest is None else f"mask_now: carried from {now.age_ms:.0f} ms before"
            yield _titled(self._painted(small, "mask_now", now.newest and now.newest.mask), text)
        if self._drive.masks:
            truth = self._drive.masks.get(instant.now.stamp)
            shown = small if truth is None else paint(small, _at_size(truth, small), taxonomy=self._truth_categories)
            yield _titled(shown, "truth: none of this frame" if truth is None else "truth of this frame")

    def _painted(self, small: np.ndarray, topic: str, mask: ArrivedMask | None) -> np.ndarray:
        if mask is None:
            return small
        held = self._decoded.get(topic)
        if held is None or held[0] is not mask:
            held = self._decoded[topic] = mask, _at_size(mask.decode(), small)
        return paint(small, held[1], taxonomy=self._categories)


def _at_size(mask: np.ndarray, like: np.ndarray) -> np.ndarray:
    return cv2.resize(mask, like.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def _titled(picture: np.ndarray, text: str) -> np.ndarray:
    band = np.full((_TITLE, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(band, text, (5, 18), FONT, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([band, picture])
