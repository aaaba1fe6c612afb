"""How a photo has to be turned to stand upright, as its EXIF data says."""

import io
import os
import struct
from typing import BinaryIO

import numpy as np
from PIL import Image

from seg_node.core.images import EncodedPixels, to_bgr

_ORIENTATION = 0x0112

_TURNS = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}
"""What makes an image upright, by the value of the tag (EXIF 2.32, 4.6.4 A)."""

SWAPPED = range(5, 9)
"""Orientations at which width and height of the upright image are those of height and width in the file."""


def orientation(file: BinaryIO) -> int:
    """Orientation of an image file that is open for reading: 1 for upright, and for files that do not say, up to 8.

    TIFF files count as upright, since what reads them turns them.
    """
    try:
        with Image.open(file) as image:
            if image.format == "TIFF":
                return 1
            if image.format == "PNG":
                # Pillow would decode the whole image to look behind its pixels.
                exif = Image.Exif()
                exif.load(_png_exif(file))
            else:
                exif = image.getexif()
            value = exif.get(_ORIENTATION, 1)
    except Exception:
        # Pillow's readers raise errors of many types, and do not know some formats that OpenCV reads.
        return 1
    return value if value in range(1, 9) else 1


def upright(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Pixels [H, W, ...] of a file with an orientation, turned as it asks for, contiguous."""
    return np.ascontiguousarray(_TURNS[turn](pixels)) if turn in _TURNS else pixels


def photo_to_bgr(photo: EncodedPixels) -> np.ndarray:
    """Decode a photo that somebody sends, and turn it upright as viewers do, uint8 [H, W, 3] BGR.

    Images of a camera's topic are never turned, see ``to_bgr``.

    Raises:
        UndecodableError: see ``to_bgr``.
    """
    return upright(to_bgr(photo), orientation(io.BytesIO(photo.data)))


def _png_exif(file: BinaryIO) -> bytes:
    """Content of the chunk eXIf, empty without one."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf":
            return b"Exif\0\0" + file.read(size)
        file.seek(size + 4, os.SEEK_CUR)
    return b""
