"""Type and size of an image from its first bytes, so that nothing is decoded that is too large to be."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from seg_node.core.errors import UndecodableError

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"

_MAX_SEGMENTS = 1000
"""Segments of a JPEG that are looked at: an ICC profile takes at most 255, everything else a handful."""

FRAME_HEADERS = {0xC0 + n for n in range(16)} - {0xC4, 0xC8, 0xCC}
"""SOF markers (ITU-T T.81, table B.1); the three left out are tables and reserved."""

END, SCAN = 0xD9, 0xDA
"""Markers EOI and SOS."""

_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
"""Markers that no length follows: TEM, RST and SOI."""

# Within image data an FF byte is followed by 00 or by the number of a restart (ITU-T T.81, B.1.1.5).
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


@dataclass(frozen=True)
class ImageHeader:
    """What an image says of itself."""

    media_type: str
    height: int
    width: int


def read_header(data: bytes) -> ImageHeader | None:
    """Header of a JPEG or PNG image, None for other data.

    Raises:
        UndecodableError: it begins as one, but has no header with a size.
    """
    if data.startswith(_PNG):
        # The first chunk is IHDR: length, type, width, height (ISO/IEC 15948, 11.2.2).
        if data[12:16] != b"IHDR" or len(data) < 24:
            raise UndecodableError("the PNG does not begin with its IHDR chunk")
        return ImageHeader("image/png", _int(data[20:24]), _int(data[16:20]))
    if data.startswith(_JPEG):
        return ImageHeader("image/jpeg", *_jpeg_size(data))
    return None


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Segments of a JPEG as libjpeg walks them, up to the first end marker or the end of the data.

    What lies inside segments does not count, such as a thumbnail, nor what follows the end marker, such as a video.

    Yields:
        Marker, and the position of what follows it. Image data follows the content of ``SCAN``.
    """
    position = len(_JPEG)
    for _ in range(_MAX_SEGMENTS):
        position = data.find(b"\xff", position)
        if position < 0:
            return
        while data[position : position + 1] == b"\xff":
            position += 1
        if position >= len(data):
            return
        marker = data[position]
        position += 1
        if not marker:
            continue
        yield marker, position
        if marker == END:
            return
        if marker not in _WITHOUT_LENGTH:
            position += max(2, _int(data[position : position + 2]))
        if marker == SCAN:
            position = end_of_scan(data, position)


def end_of_scan(data: bytes, position: int) -> int:
    """Position of the next marker behind the image data that begins at a position, or the end of the data."""
    found = _NEXT_MARKER.search(data, position)
    return found.start() if found else len(data)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width."""
    for marker, position in jpeg_segments(data):
        if marker in FRAME_HEADERS and len(data) >= position + 7:
            # Length, precision, height, width (ITU-T T.81, B.2.2).
            return _int(data[position + 3 : position + 5]), _int(data[position + 5 : position + 7])
        if marker in FRAME_HEADERS or marker == SCAN:
            break
    raise UndecodableError("the JPEG has no frame header with its size")


_H264, _H265 = "H.264", "H.265"
_CODECS = {"h264": _H264, "avc": _H264, "h265": _H265, "hevc": _H265, "av1": "AV1", "vp8": "VP8", "vp9": "VP9"}
"""Video codecs by the words that stand in the format of a message."""


def video_codec(data: bytes, text: str) -> str | None:
    """Codec of a packet of video that stands where an image should, None for what looks like none.

    Args:
        data: of the packet.
        text: format of the message.
    """
    for word in re.findall(r"[a-z0-9]+", text.lower().replace("h.26", "h26")):
        if word in _CODECS:
            return _CODECS[word]
    # A start code, and the header of a unit: ITU-T H.264 and H.265, annex B and 7.3.1.
    start = re.match(rb"\x00{2,8}\x01(..)", data, re.DOTALL)
    if start is None:
        return None
    first, second = start[1]
    if not first & 0x81 and second == 1:
        # Of the layer 0, without temporal layers: the types of slices, parameter sets, delimiters and messages.
        return _H265 if (first >> 1) in (*range(10), *range(16, 22), *range(32, 41)) else None
    return _H264 if not first & 0x80 and first & 0x1F in range(1, 13) else None


def _int(data: bytes) -> int:
    return int.from_bytes(data, "big")
