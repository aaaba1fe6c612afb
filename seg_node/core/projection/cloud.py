"""An organised cloud: one point for each pixel of a mask, in the camera's optical frame."""

import sys

import numpy as np

POINT_STEP = 16
"""Bytes of a point."""

FIELDS = (("x", 0, "f4"), ("y", 4, "f4"), ("z", 8, "f4"), ("category", 12, "u1"), ("confidence", 13, "u1"))
"""Name, first byte and type of each field; the last two bytes of a point are 0."""

NO_CONFIDENCE = 0
"""Confidence of a point where none is published: who looks for certainty finds none."""

POINT = np.dtype(
    {
        "names": [name for name, _, _ in FIELDS],
        "offsets": [offset for _, offset, _ in FIELDS],
        "formats": [kind for _, _, kind in FIELDS],
        "itemsize": POINT_STEP,
    }
)
"""A point as NumPy reads it."""


def write_places(points: np.ndarray, rays: np.ndarray, depth: np.ndarray) -> None:
    """Write x, y, z of each point, and zeros behind them.

    Args:
        points: uint8 [H * W * 16], contiguous, aligned to four bytes; filled.
        rays: float32 [2, H, W], see ``CameraModel.rays``.
        depth: float32 [H, W], metres along the camera's axis; where it is NaN, all three are.
    """
    places = points.view(np.float32).reshape(*depth.shape, 4)
    places[..., 2] = depth
    np.multiply(rays[0], depth, out=places[..., 0])
    np.multiply(rays[1], depth, out=places[..., 1])
    # A pixel beyond the lens may have a depth all the same.
    places[..., 2][np.isnan(places[..., 0])] = np.nan
    points.view(np.uint32).reshape(-1, 4)[:, 3] = 0


def write_categories(points: np.ndarray, mask: np.ndarray, confidence: np.ndarray | None) -> None:
    """Write category and confidence of each point.

    Args:
        points: as for ``write_places``.
        mask: uint8 [H, W].
        confidence: uint8 [H, W]; None for ``NO_CONFIDENCE``.
    """
    # In one number for each point: a byte at a time takes twice as long.
    packed = mask.astype(np.uint32)
    if confidence is not None:
        packed |= confidence.astype(np.uint32) << np.uint32(8)
    words = points.view(np.uint32).reshape(-1, 4)
    words[:, 3] = packed.ravel() if sys.byteorder == "little" else packed.ravel().byteswap()
