"""Type and size of an image from its first bytes, so that nothing is decoded that is too large to be."""

from dataclasses import dataclass

from seg_node.core.errors import UndecodableError

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"

_MAX_SEGMENTS = 1000
"""Segments of a JPEG before its frame header: an ICC profile takes at most 255, everything else a handful."""

_FRAME_HEADERS = {0xC0 + n for n in range(16)} - {0xC4, 0xC8, 0xCC}
"""SOF markers (ITU-T T.81, table B.1); the three left out are tables and reserved."""

_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
"""Markers that no length follows: TEM, RST and SOI."""


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


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width; segments are walked as libjpeg does."""
    position = len(_JPEG)
    for _ in range(_MAX_SEGMENTS):
        position = data.find(b"\xff", position)
        if position < 0:
            break
        while data[position : position + 1] == b"\xff":
            position += 1
        marker = data[position] if position < len(data) else 0xD9
        position += 1
        if marker in _FRAME_HEADERS:
            # Length, precision, height, width (ITU-T T.81, B.2.2).
            if len(data) < position + 7:
                break
            return _int(data[position + 3 : position + 5]), _int(data[position + 5 : position + 7])
        if marker in (0xD9, 0xDA):
            break
        if marker and marker not in _WITHOUT_LENGTH:
            position += max(2, _int(data[position : position + 2]))
    raise UndecodableError("the JPEG has no frame header with its size")


def _int(data: bytes) -> int:
    return int.from_bytes(data, "big")
