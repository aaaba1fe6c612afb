"""Camera images as arrays: every usual raw encoding, JPEG and PNG.

The node, the replay harness and the HTTP API decode here, so that they cannot disagree. ROS is not needed: what is
decoded is anything with the fields of ``sensor_msgs/Image`` or ``sensor_msgs/CompressedImage``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from seg_node.core.errors import UndecodableError
from seg_node.core.image_header import read_header

Buffer = bytes | bytearray | memoryview | np.ndarray

MAX_SIDE = 16384
"""Pixels of a camera image's longer side. The network pads to multiples of 32, which makes very thin images costly."""
MAX_PIXELS = 2**26
"""Pixels of a camera image: eight times those of a 4K camera."""
MAX_SCANS = 32
"""Scans of a JPEG image. Progressive ones have about ten; each costs a pass over the whole image, whatever it holds."""


@dataclass(frozen=True)
class RawPixels:
    """Fields of ``sensor_msgs/Image`` besides the header; its documentation says what they mean."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    """Bytes of a row."""
    data: Buffer
    """Bytes of all rows, height * step of them."""


@dataclass(frozen=True)
class EncodedPixels:
    """Fields of ``sensor_msgs/CompressedImage`` besides the header."""

    format: str
    """Text for people; the data says itself what it is."""
    data: Buffer
    """Bytes of the file."""


_BAYER = {
    "bayer_rggb": cv2.COLOR_BayerRGGB2BGR,
    "bayer_bggr": cv2.COLOR_BayerBGGR2BGR,
    "bayer_gbrg": cv2.COLOR_BayerGBRG2BGR,
    "bayer_grbg": cv2.COLOR_BayerGRBG2BGR,
}

_PACKED: dict[str, tuple[int, int, int | None]] = {
    "bgr8": (1, 3, None),
    "8UC3": (1, 3, None),
    "rgb8": (1, 3, cv2.COLOR_RGB2BGR),
    "bgra8": (1, 4, cv2.COLOR_BGRA2BGR),
    "rgba8": (1, 4, cv2.COLOR_RGBA2BGR),
    "mono8": (1, 1, cv2.COLOR_GRAY2BGR),
    "8UC1": (1, 1, cv2.COLOR_GRAY2BGR),
    "mono16": (2, 1, cv2.COLOR_GRAY2BGR),
    "yuv422": (1, 2, cv2.COLOR_YUV2BGR_UYVY),
    "yuv422_yuy2": (1, 2, cv2.COLOR_YUV2BGR_YUYV),
    **{f"{name}8": (1, 1, code) for name, code in _BAYER.items()},
    **{f"{name}16": (2, 1, code) for name, code in _BAYER.items()},
}
"""Bytes per sample, samples per pixel, and OpenCV's conversion to BGR, by encoding."""

ENCODINGS: tuple[str, ...] = (*_PACKED, "nv12")
"""Encodings of ``sensor_msgs/Image`` that are decoded here; others are left to cv_bridge, where installed."""

_GREY = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
"""Flag of ``cv2.imdecode`` by the factor of both sides."""
_REDUCED_BY = {flag: factor for factor, flag in _GREY.items()}


def to_bgr(image: RawPixels | EncodedPixels) -> np.ndarray:
    """Decode an image.

    Rows of a raw image may be padded (``step``), 16-bit samples may have either byte order and keep their upper 8 bits.
    Of encoded images JPEG and PNG are read. OpenCV would read a dozen other formats; their decoders stay out of reach
    of whoever can publish.

    Args:
        image: the image, or a ROS message with the same fields.

    Returns:
        uint8 [H, W, 3], BGR, contiguous; for bgr8 without padding a view of the image's data.

    Raises:
        UndecodableError: the encoding is unknown, sizes contradict each other, or the data is no JPEG or PNG image, is
            cut off, or would take too much to decode; the message names the values.
    """
    if hasattr(image, "encoding"):
        return _raw_to_bgr(image)
    return _compressed(image, lambda width: cv2.IMREAD_COLOR)[0]


def _raw_to_bgr(message: RawPixels) -> np.ndarray:
    height, width, encoding = message.height, message.width, message.encoding
    _check_size(height, width)
    if encoding == "nv12":
        return _nv12_to_bgr(message)
    if encoding not in _PACKED:
        return _cv_bridge_to_bgr(message)
    sample_bytes, samples, code = _PACKED[encoding]
    row_bytes = width * samples * sample_bytes
    rows = _rows(message, height, row_bytes)
    if sample_bytes == 2:
        # The upper byte is what an 8-bit camera would have sent.
        rows = rows[:, 0 if message.is_bigendian else 1 :: 2]
    if code in (cv2.COLOR_YUV2BGR_UYVY, cv2.COLOR_YUV2BGR_YUYV) and width % 2:
        raise UndecodableError(f"{encoding} image is {width} wide; two pixels share their colour, so it must be even")
    if code in _BAYER.values() and (height < 2 or width < 2):
        raise UndecodableError(f"{encoding} image is {width}x{height}; the pattern is 2x2")
    pixels = np.ascontiguousarray(rows).reshape((height, width, samples) if samples > 1 else (height, width))
    return pixels if code is None else cv2.cvtColor(pixels, code)


def _check_size(height: int, width: int) -> None:
    if not height or not width:
        raise UndecodableError(f"image is {width}x{height}; expected at least one pixel")
    if max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
        raise UndecodableError(
            f"image is {width}x{height}; at most {MAX_PIXELS} pixels and {MAX_SIDE} on a side are decoded"
        )


def _rows(message: RawPixels, count: int, row_bytes: int) -> np.ndarray:
    """View of ``count`` rows without their padding, uint8 [count, row_bytes]."""
    if message.step < row_bytes:
        raise UndecodableError(
            f"step is {message.step} bytes, but a row of {message.width} {message.encoding} pixels takes {row_bytes}"
        )
    if len(message.data) != message.step * count:
        raise UndecodableError(
            f"data is {len(message.data)} bytes, but {count} rows of step {message.step} take {message.step * count}"
        )
    return np.frombuffer(message.data, np.uint8).reshape(count, message.step)[:, :row_bytes]


def _nv12_to_bgr(message: RawPixels) -> np.ndarray:
    height, width = message.height, message.width
    if height % 2 or width % 2:
        raise UndecodableError(f"nv12 image is {width}x{height}; colour is shared by 2x2 pixels, so both must be even")
    # A full-size plane of luma, then one of half the height with interleaved chroma.
    rows = _rows(message, height * 3 // 2, width)
    luma, chroma = rows[:height], rows[height:].reshape(height // 2, width // 2, 2)
    return cv2.cvtColorTwoPlane(np.ascontiguousarray(luma), np.ascontiguousarray(chroma), cv2.COLOR_YUV2BGR_NV12)


def _cv_bridge_to_bgr(message: RawPixels) -> np.ndarray:
    try:
        from cv_bridge import CvBridge
    except ImportError:
        raise UndecodableError(
            f"encoding {_short(message.encoding)} needs cv_bridge, which is not installed; without it:"
            f" {', '.join(ENCODINGS)}"
        ) from None
    try:
        return np.ascontiguousarray(CvBridge().imgmsg_to_cv2(message, "bgr8"))
    except Exception as error:
        # Where sizes contradict each other it raises whatever NumPy does.
        raise UndecodableError(f"cv_bridge cannot convert {_short(message.encoding)}: {error}") from error


def compressed_to_grey(message: EncodedPixels, reduction: Callable[[int], int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode a JPEG or PNG image to a grey one of reduced size, which takes a JPEG decoder less time.

    Args:
        message: the image.
        reduction: from the image's width in pixels to the factor of both sides: 1, 2, 4 or 8.

    Returns:
        uint8 [h, w], contiguous; height and width of the whole image.

    Raises:
        UndecodableError: see ``to_bgr``.
    """
    return _compressed(message, lambda width: _GREY[reduction(width)])


def _compressed(message: EncodedPixels, flags: Callable[[int], int]) -> tuple[np.ndarray, tuple[int, int]]:
    data = bytes(memoryview(message.data))
    try:
        return _decode(data, flags)
    except UndecodableError as error:
        what = f"{len(data)} bytes of format {_short(message.format)}"
        raise UndecodableError(f"{what} are no image that can be decoded: {error}") from error


def _decode(data: bytes, flags: Callable[[int], int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Pixels as the flags of ``cv2.imdecode`` for the image's width ask for, and the image's height and width."""
    header = read_header(data)
    if header is None:
        raise UndecodableError("neither JPEG nor PNG")
    _check_size(header.height, header.width)
    if header.media_type == "image/jpeg":
        _check_jpeg(data)
    else:
        _check_png(data)
    wanted = flags(header.width)
    try:
        # A rotation that EXIF asks for would turn the mask against the camera that CameraInfo describes.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), wanted | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise UndecodableError(error.err) from error
    if image is None:
        raise UndecodableError(f"the {header.media_type} data is damaged")
    factor = _REDUCED_BY.get(wanted, 1)
    height, width = image.shape[:2]
    # The reduced sides of a JPEG are rounded up, those of a PNG down.
    if height not in _quotients(header.height, factor) or width not in _quotients(header.width, factor):
        raise UndecodableError(f"the header says {header.width}x{header.height}, the data {width}x{height}")
    return image, (header.height, header.width)


def _quotients(side: int, factor: int) -> tuple[int, int]:
    return side // factor, -(-side // factor)


def _check_jpeg(data: bytes) -> None:
    """Refuse what libjpeg would decode to a half-grey image, or for hours."""
    # Within the image data an FF byte is always followed by one that makes it no marker (ITU-T T.81, B.1.1.5).
    scans = data.count(b"\xff\xda")
    if scans > MAX_SCANS:
        raise UndecodableError(f"the JPEG has {scans} scans; at most {MAX_SCANS} are decoded")
    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise UndecodableError("the JPEG is cut off")


def _check_png(data: bytes) -> None:
    """Refuse chunks that are larger than the data, for which OpenCV would make room before it looks."""
    at, kind = 8, b""
    while kind != b"IEND":
        # Length, type, content and checksum (ISO/IEC 15948, 5.3).
        kind = data[at + 4 : at + 8]
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        if at > len(data):
            raise UndecodableError("the PNG is cut off")


def _short(text: str) -> str:
    """Text of a message for people: quoted, and not longer than a log line bears."""
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
