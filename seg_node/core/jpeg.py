"""JPEG images as cameras and phones write them: whole ones are decoded, others refused by the decoder's own word."""

import re

import cv2
import numpy as np

from seg_node.core.errors import UndecodableError
from seg_node.core.image_header import END, FRAME_HEADERS, SCAN, ImageHeader, end_of_scan, jpeg_segments

try:
    import simplejpeg
except ImportError:
    # rosdep has no key for it. OpenCV says nothing of an image that is cut off: only end markers tell then.
    simplejpeg = None

MAX_SCANS = 32
"""Scans of a JPEG image. Progressive ones have about ten; each costs a pass over the whole image, whatever it holds."""

_END = b"\xff\xd9"

_HARMLESS = re.compile(
    r"extraneous bytes before marker|JFIF revision|Adobe color transform|Invalid SOS parameters|"
    r"Inconsistent progression|ICC|Could not determine|[Uu]nsupported"
)
"""Complaints of TurboJPEG after which libjpeg, as in OpenCV, decodes every pixel: odd headers, rare chroma ratios."""

_AFTER_THE_LAST_PIXEL = "extraneous bytes before marker 0xd9"
"""Complaint at what webcams leave between image data and end marker."""

_GREY = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


def decode_jpeg(data: bytes, header: ImageHeader, grey: int = 0) -> np.ndarray:
    """Decode a whole JPEG image.

    The end marker may be missing, and anything may follow it, as a decoder stops there. EXIF does not count.

    Args:
        data: of the file.
        header: of the same data; its size is one that may be decoded.
        grey: 0 for colours, or else the factor by which both sides of a grey image are reduced: 1, 2, 4 or 8.

    Returns:
        uint8 [H, W, 3] BGR, or grey [h, w] with sides rounded up; contiguous.

    Raises:
        UndecodableError: the image is cut off, damaged, or has too many scans.
    """
    scan = _only_scan(data)
    if simplejpeg is None:
        return _by_opencv(data, grey, "simplejpeg is not installed")
    ended = data if data.endswith(_END) else data + _END
    pixels, complaint = _decode(ended, header, grey)
    if scan is not None and complaint and _AFTER_THE_LAST_PIXEL not in complaint:
        # All of the picture is in its scan: what follows is no part of it, even without an end marker.
        pixels, complaint = _decode(data[: end_of_scan(data, scan)] + _END, header, grey)
    if not complaint or (scan is not None and _AFTER_THE_LAST_PIXEL in complaint):
        return pixels
    if _HARMLESS.search(complaint):
        return _by_opencv(data, grey, complaint)
    raise UndecodableError(f"the JPEG is cut off or damaged: {complaint}")


def _decode(data: bytes, header: ImageHeader, grey: int) -> tuple[np.ndarray, str]:
    """Pixels, and what the decoder says against them; empty for nothing."""
    factor = grey or 1
    height, width = -(-header.height // factor), -(-header.width // factor)
    # Given to the decoder, the pixels are there although it complains of what follows them.
    pixels = np.empty((height, width, 1 if grey else 3), np.uint8)
    options = {"min_height": height, "min_width": width, "min_factor": factor, "buffer": pixels}
    complaint = ""
    try:
        size = simplejpeg.decode_jpeg(data, "GRAY" if grey else "BGR", **options).shape[:2]
    except ValueError as error:
        complaint, size = str(error), (height, width)
        if _AFTER_THE_LAST_PIXEL in complaint:
            del options["buffer"]
            size = simplejpeg.decode_jpeg_header(data, **options)[:2]
    if size != (height, width):
        raise UndecodableError(f"the header says {width}x{height}, the data {size[1]}x{size[0]}")
    return pixels[..., 0] if grey else pixels, complaint


def _by_opencv(data: bytes, grey: int, complaint: str) -> np.ndarray:
    """Decode an image that has its end marker with OpenCV, which does not say whether there is less than that."""
    if all(marker != END for marker, _ in jpeg_segments(data)):
        raise UndecodableError(f"the JPEG is cut off, or has no end marker to show that it is not ({complaint})")
    flags = (_GREY[grey] if grey else cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise UndecodableError(error.err) from error
    if pixels is None:
        raise UndecodableError(f"the JPEG is damaged: {complaint}")
    return pixels


def _only_scan(data: bytes) -> int | None:
    """Position of the scan that holds all of an image; None where several do.

    Raises:
        UndecodableError: there are too many scans, or the data ends between two of them, which a decoder cannot tell
            from an image of less detail.
    """
    left: dict[int, list[int]] = {}
    progressive = told_by_decoder = False
    scans = 0
    for marker, position in jpeg_segments(data):
        if marker in FRAME_HEADERS:
            # Length, precision, height, width, and three bytes for each component, its id first (ITU-T T.81, B.2.2).
            ids = data[position + 8 : position + 8 + 3 * data[position + 7] : 3] if len(data) > position + 7 else b""
            # Lowest bit that is not known yet, of each coefficient of each component; 16 where none is.
            left = {component: [16] * 64 for component in ids}
            progressive, told_by_decoder = marker in (0xC2, 0xCA), marker < 0xC9
        elif marker == SCAN:
            scans += 1
            if scans > MAX_SCANS:
                raise UndecodableError(f"the JPEG has more than {MAX_SCANS} scans, which is the most that is decoded")
            # Length, number of components, two bytes for each, first and last coefficient, bits (B.2.3).
            count = data[position + 2] if len(data) > position + 2 else 0
            parts = data[position + 3 + 2 * count : position + 6 + 2 * count]
            if len(parts) < 3:
                break
            if scans == 1 and not progressive and told_by_decoder and count == len(left):
                return position
            first, last, bits = (parts[0], parts[1], parts[2] & 15) if progressive else (0, 63, 0)
            for component in data[position + 3 : position + 3 + 2 * count : 2]:
                for coefficient in range(first, min(last, 63) + 1):
                    left.get(component, [0] * 64)[coefficient] = bits
        elif marker == END:
            return None
    if not told_by_decoder or any(bits for coefficients in left.values() for bits in coefficients):
        raise UndecodableError("the JPEG is cut off")
    return None
