"""Masks painted over camera images."""

import cv2
import numpy as np

from seg_node.core.taxonomy import NO_LABEL, colorize


def paint(bgr: np.ndarray, mask: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Paint a mask over its camera image.

    Args:
        bgr: camera image, uint8 [H, W, 3].
        mask: categories, uint8 [H, W]; pixels of 255, which have no answer, stay as the camera saw them.
        alpha: share of the categories' colours, in 0..1.

    Returns:
        uint8 [H, W, 3] BGR.
    """
    painted = cv2.addWeighted(bgr, 1 - alpha, colorize(mask), alpha, 0)
    unanswered = mask == NO_LABEL
    if unanswered.any():
        painted[unanswered] = bgr[unanswered]
    return painted
