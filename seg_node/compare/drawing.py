"""What pictures of a report are put together from: cells of one width, captions, and a legend."""

import cv2
import numpy as np

from seg_node.core.taxonomy import Taxonomy

FONT = cv2.FONT_HERSHEY_SIMPLEX


def fit(bgr: np.ndarray, width: int) -> np.ndarray:
    """An image, uint8 [H, W, 3], at another width in pixels, in its proportions."""
    height = round(bgr.shape[0] * width / bgr.shape[1])
    return cv2.resize(bgr, (width, height), interpolation=cv2.INTER_AREA)


def label(bgr: np.ndarray, text: str) -> np.ndarray:
    """Write a line on a dark plate into the upper left corner of an image, uint8 [H, W, 3]; returns the image."""
    (width, height), _ = cv2.getTextSize(text, FONT, 0.5, 1)
    cv2.rectangle(bgr, (0, 0), (width + 12, height + 12), (0, 0, 0), cv2.FILLED)
    cv2.putText(bgr, text, (6, height + 6), FONT, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return bgr


def legend_band(width: int, taxonomy: Taxonomy) -> np.ndarray:
    """Colours and names of all categories in rows, uint8 [h, width, 3] BGR on white."""
    step = 210
    per_row = width // step
    band = np.full((30 * -(-len(taxonomy) // per_row) + 6, width, 3), 255, np.uint8)
    for i, name in enumerate(taxonomy.names):
        x, y = i % per_row * step + 6, i // per_row * 30 + 8
        cv2.rectangle(band, (x, y), (x + 28, y + 20), taxonomy.palette[i][::-1], cv2.FILLED)
        cv2.putText(band, name, (x + 36, y + 16), FONT, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
    return band
