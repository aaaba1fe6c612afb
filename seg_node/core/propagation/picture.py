"""Small grey pictures of camera frames: all that optical flow needs, at a fraction of the cost of decoding a frame."""

from dataclasses import dataclass

import cv2
import numpy as np

from seg_node.core.images import EncodedPixels, RawPixels, compressed_to_grey, to_bgr

LEAST_COLUMNS = 240
"""Least width in pixels to which a camera's picture is reduced; so it has 240 to 479, whatever the camera."""
_REDUCTIONS = (8, 4, 2, 1)
"""Those that a JPEG decoder can do while it decodes."""


@dataclass(frozen=True, eq=False)
class Picture:
    """Reduced grey picture of a camera frame."""

    grey: np.ndarray
    """uint8 [h, w], contiguous."""
    size: tuple[int, int]
    """Height and width in pixels of the camera frame."""


def reduction(width: int) -> int:
    """Factor by which frames of ``width`` pixels are reduced: 1, 2, 4 or 8."""
    return next((factor for factor in _REDUCTIONS if width >= factor * LEAST_COLUMNS), 1)


def picture_of_image(message: RawPixels) -> Picture:
    """Small grey picture of a raw image.

    Raises:
        UndecodableError: see ``to_bgr``.
    """
    bgr = to_bgr(message)
    height, width = bgr.shape[:2]
    factor = reduction(width)
    if factor > 1:
        # Colour is dropped after the reduction, which leaves a fraction of the pixels.
        small = -(-width // factor), -(-height // factor)
        bgr = cv2.resize(bgr, small, interpolation=cv2.INTER_AREA)
    return Picture(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), (height, width))


def picture_of_compressed(message: EncodedPixels) -> Picture:
    """Small grey picture of a JPEG or PNG image; a JPEG is decoded at the reduced size.

    Raises:
        UndecodableError: see ``compressed_to_grey``.
    """
    return Picture(*compressed_to_grey(message, reduction))
