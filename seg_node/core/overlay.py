"""Masks painted over camera images, with a legend and a caption for those who see nothing else."""

from functools import lru_cache

import cv2
import numpy as np

from seg_node.core.propagation.record import NowRecord
from seg_node.core.taxonomy import EIGHT, NO_LABEL, Taxonomy
from seg_node.core.timing import FrameRecord

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_ONE_ROW = 960
"""Width in pixels from which eight categories fit side by side and can be read; below it, four."""
_MOST_NAMED = 16
"""Number of categories up to which a legend has all of them; of more, those that the picture shows."""
_INK, _PAPER = (255, 255, 255), (24, 24, 24)


def paint(bgr: np.ndarray, mask: np.ndarray, alpha: float = 0.5, taxonomy: Taxonomy = EIGHT) -> np.ndarray:
    """Paint a mask over its camera image.

    Args:
        bgr: camera image, uint8 [H, W, 3].
        mask: categories, uint8 [H, W]; pixels of 255, which have no answer, stay as the camera saw them.
        alpha: share of the categories' colours, in 0..1.
        taxonomy: of the mask.

    Returns:
        uint8 [H, W, 3] BGR.
    """
    # Looking up the colours in NumPy alone takes more than twice as long as all of this.
    painted = cv2.addWeighted(bgr, 1 - alpha, cv2.applyColorMap(mask, taxonomy.colour_table[:, np.newaxis]), alpha, 0)
    unanswered = mask == NO_LABEL
    return cv2.copyTo(bgr, unanswered.view(np.uint8), painted) if unanswered.any() else painted


def annotate(painted: np.ndarray, caption: str, mask: np.ndarray, taxonomy: Taxonomy = EIGHT) -> None:
    """Draw a caption at the top and the legend at the bottom, over the image itself: its size is the camera's.

    Args:
        painted: uint8 [H, W, 3] BGR, changed in place.
        caption: one line; characters beyond ASCII become question marks.
        mask: what is painted, uint8 [H, W]: of many categories, the legend has the most frequent.
        taxonomy: of the mask.
    """
    height, width = painted.shape[:2]
    legend = _legend(width, taxonomy, _named(mask, taxonomy))[:height]
    painted[height - len(legend) :] = legend
    bar = max(width // 28, 12)
    # Darkened instead of covered: what is up there can still be seen.
    painted[:bar] //= 3
    _write(painted, caption, (bar // 4, 0), bar, width - bar // 2)


def caption(record: FrameRecord | NowRecord) -> str:
    """One line about a frame: model, time in the node, age, and whether it was late; of a mask of now, its source."""
    if isinstance(record, NowRecord):
        ahead = f"   {record.horizon:.0f} ms ahead" if record.horizon else ""
        return f"mask of now   inferred {record.keyframe_age:.0f} ms before{ahead}   {record.total:.0f} ms"
    parts = [record.model, f"{record.total:.0f} ms", age_text(record.age)]
    return "   ".join([*parts, "LATE"] if record.late else parts)


def age_text(age: float | None) -> str:
    """The age of a mask in words.

    Args:
        age: milliseconds from the frame's stamp; None where it has none.
    """
    if age is None:
        return "no stamp"
    if is_latency(age):
        return f"age {age:.0f} ms"
    return "stamped in the past" if age > 0 else "stamped in the future"


def is_latency(age: float) -> bool:
    """Whether an age in milliseconds can be a latency: the stamps of a recording, or of a clock far off, make none."""
    return -1000 < age <= 60_000


def _named(mask: np.ndarray, taxonomy: Taxonomy) -> tuple[int, ...]:
    """Categories that a legend has, in the order of their ids."""
    if len(taxonomy) <= _MOST_NAMED:
        return tuple(range(len(taxonomy)))
    pixels = np.bincount(mask.ravel(), minlength=256)[: len(taxonomy)]
    frequent = np.argsort(-pixels, kind="stable")[:_MOST_NAMED]
    return tuple(sorted(frequent[pixels[frequent] > 0].tolist()))


@lru_cache(maxsize=8)
def _legend(width: int, taxonomy: Taxonomy, named: tuple[int, ...]) -> np.ndarray:
    """Colours and names of some categories, uint8 [h, width, 3] BGR."""
    most = 8 if width >= _ONE_ROW else 4
    rows = -(-len(named) // most)
    columns = -(-len(named) // max(rows, 1))
    # Never higher than a row of four: a few categories do not fill the picture.
    row = max(round(width / max(columns, 4) / 5.5), 6)
    legend = np.full((row * rows, width, 3), _PAPER, np.uint8)
    for index, category in enumerate(named):
        top, left = index // columns * row, index % columns * width // columns
        pad = max(row // 5, 1)
        corners = (left + pad, top + pad), (left + row - pad, top + row - pad)
        cv2.rectangle(legend, *corners, taxonomy.palette[category][::-1], cv2.FILLED)
        cv2.rectangle(legend, *corners, _INK, 1)
        _write(legend, taxonomy.names[category], (left + row, top), row, width // columns - row - pad)
    legend.flags.writeable = False
    return legend


def _write(image: np.ndarray, text: str, corner: tuple[int, int], height: int, room: int) -> None:
    """Write text into a line of a height, smaller where it would be wider than ``room``; in pixels."""
    text = text.encode("ascii", "replace").decode()
    (wide, tall), _ = cv2.getTextSize(text, _FONT, 1.0, 1)
    scale = min(0.55 * height / max(tall, 1), room / max(wide, 1))
    thickness = max(round(1.5 * scale), 1)
    foot = corner[1] + round((height + scale * tall) / 2)
    cv2.putText(image, text, (corner[0], foot), _FONT, scale, _INK, thickness, cv2.LINE_AA)
