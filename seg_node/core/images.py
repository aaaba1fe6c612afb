"""Camera images as arrays: every usual raw encoding, JPEG and PNG.

The node, the replay harness and the HTTP API decode here, so that they cannot disagree. ROS is not needed: what is
decoded is anything with the fields of ``sensor_msgs/Image`` or ``sensor_msgs/CompressedImage``.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from seg_node.core.errors import UndecodableError
from seg_node.core.image_header import read_header, video_codec
from seg_node.core.jpeg import decode_jpeg

Buffer = bytes | bytearray | memoryview | np.ndarray

MAX_SIDE = 16384
"""Pixels of a camera image's longer side. The network pads to multiples of 32, which makes very thin images costly."""
MAX_PIXELS = 2**26
"""Pixels of a camera image: eight times those of a 4K camera."""


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
    "rgb8": (1, 3, cv2.COLOR_RGB2BGR),
    "bgra8": (1, 4, cv2.COLOR_BGRA2BGR),
    "rgba8": (1, 4, cv2.COLOR_RGBA2BGR),
    "mono8": (1, 1, cv2.COLOR_GRAY2BGR),
    "bgr16": (2, 3, None),
    "rgb16": (2, 3, cv2.COLOR_RGB2BGR),
    "bgra16": (2, 4, cv2.COLOR_BGRA2BGR),
    "rgba16": (2, 4, cv2.COLOR_RGBA2BGR),
    "mono16": (2, 1, cv2.COLOR_GRAY2BGR),
    "uyvy": (1, 2, cv2.COLOR_YUV2BGR_UYVY),
    "yuyv": (1, 2, cv2.COLOR_YUV2BGR_YUYV),
    "yuv422": (1, 2, cv2.COLOR_YUV2BGR_UYVY),
    "yuv422_yuy2": (1, 2, cv2.COLOR_YUV2BGR_YUYV),
    **{f"{name}8": (1, 1, code) for name, code in _BAYER.items()},
    **{f"{name}16": (2, 1, code) for name, code in _BAYER.items()},
}
"""Bytes per sample, samples per pixel, and OpenCV's conversion to BGR, by encoding. Of two bytes the upper one counts:
it is what a camera of 8 bits would have sent."""

_PLANAR = {"nv12": cv2.COLOR_YUV2BGR_NV12, "nv21": cv2.COLOR_YUV2BGR_NV21}
"""OpenCV's conversion of encodings with a plane of luma and one of half the sides with both chromas."""

_CHANNELS: dict[int, int | None] = {1: cv2.COLOR_GRAY2BGR, 3: None, 4: cv2.COLOR_BGRA2BGR}
"""Conversion to BGR by the number of channels, for encodings that name the type of number only."""

_NUMBERS = {"8U": "u1", "8S": "i1", "16U": "u2", "16S": "i2", "32S": "i4", "32F": "f4", "64F": "f8"}
"""Type of NumPy by the type of OpenCV."""

_TYPE = re.compile(r"(8U|8S|16U|16S|32S|32F|64F)C([1234]?)")
"""Encodings that name the type of number; without a number of channels it is one."""

ENCODINGS: tuple[str, ...] = (
    *_PACKED,
    *_PLANAR,
    "nv24",
    *(f"{kind}C{channels}" for kind in _NUMBERS for channels in _CHANNELS),
)
"""Encodings of ``sensor_msgs/Image`` that are decoded here; others are left to cv_bridge, where installed."""

_GREY = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
"""Flag of ``cv2.imdecode`` by the factor of both sides."""


def to_bgr(image: RawPixels | EncodedPixels) -> np.ndarray:
    """Decode an image.

    Rows of a raw image may be padded (``step``), samples may have either byte order, and of 16 bits the upper 8 are
    kept. White is the largest value of a signed integer, and 1 of a float. Of encoded images JPEG and PNG are read.
    OpenCV would read a dozen other formats; their decoders stay out of reach of whoever can publish. EXIF does not turn
    an image: ``CameraInfo`` describes it as it is.

    Args:
        image: the image, or a ROS message with the same fields.

    Returns:
        uint8 [H, W, 3], BGR, contiguous; for bgr8 without padding a view of the image's data.

    Raises:
        UndecodableError: the encoding is unknown, sizes contradict each other, values are out of range, or the data is
            no JPEG or PNG image, is cut off, or would take too much to decode; the message names the values.
    """
    if hasattr(image, "encoding"):
        return _raw_to_bgr(image)
    return _compressed(image, lambda width: 0)[0]


def _raw_to_bgr(message: RawPixels) -> np.ndarray:
    height, width, encoding = message.height, message.width, message.encoding
    _check_size(height, width)
    if encoding in _PLANAR:
        return _planar_to_bgr(message)
    if encoding == "nv24":
        return _nv24_to_bgr(message)
    if found := _TYPE.fullmatch(encoding):
        return _numbers_to_bgr(message, _NUMBERS[found[1]], int(found[2] or 1))
    if encoding not in _PACKED:
        return _cv_bridge_to_bgr(message)
    sample_bytes, samples, code = _PACKED[encoding]
    row_bytes = width * samples * sample_bytes
    rows = _rows(message, height, row_bytes)
    if sample_bytes == 2:
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


def _planar_to_bgr(message: RawPixels) -> np.ndarray:
    height, width, encoding = message.height, message.width, message.encoding
    if height % 2 or width % 2:
        raise UndecodableError(
            f"{encoding} image is {width}x{height}; colour is shared by 2x2 pixels, so both must be even"
        )
    # A full-size plane of luma, then one of half the height with interleaved chroma.
    rows = _rows(message, height * 3 // 2, width)
    luma, chroma = rows[:height], rows[height:].reshape(height // 2, width // 2, 2)
    return cv2.cvtColorTwoPlane(np.ascontiguousarray(luma), np.ascontiguousarray(chroma), _PLANAR[encoding])


def _nv24_to_bgr(message: RawPixels) -> np.ndarray:
    height, width = message.height, message.width
    rows = _rows(message, 3 * height, width)
    # A row of chroma is two samples for each pixel, and as long as two rows of luma with their padding.
    chroma = np.frombuffer(message.data, np.uint8)[height * message.step :].reshape(height, 2 * message.step)
    pairs = chroma[:, : 2 * width].reshape(height, width, 2)
    # OpenCV has no code for it. As uyvy with each pixel twice the arithmetic is that of the other encodings.
    packed = np.empty((height, 2 * width, 2), np.uint8)
    packed[..., 0] = pairs.reshape(height, 2 * width)
    packed[:, ::2, 1] = packed[:, 1::2, 1] = rows[:height]
    return np.ascontiguousarray(cv2.cvtColor(packed, cv2.COLOR_YUV2BGR_UYVY)[:, ::2])


def _numbers_to_bgr(message: RawPixels, kind: str, channels: int) -> np.ndarray:
    """Image of an encoding that names the type of number, as ``16SC3``."""
    height, width = message.height, message.width
    if channels not in _CHANNELS:
        raise UndecodableError(f"{message.encoding} image: two channels are no picture; yuyv and uyvy name theirs")
    dtype = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    rows = np.ascontiguousarray(_rows(message, height, width * channels * dtype.itemsize))
    values = rows.view(dtype).reshape((height, width, channels) if channels > 1 else (height, width))
    if dtype.kind == "u":
        pixels = (values >> (8 * dtype.itemsize - 8)).astype(np.uint8) if dtype.itemsize > 1 else values
    else:
        white = 1 if dtype.kind == "f" else np.iinfo(dtype).max
        if not (values.min() >= 0 and values.max() <= white):
            raise UndecodableError(
                f"{message.encoding} image holds values from {values.min()} to {values.max()}; as brightness they are"
                f" 0 to {white}. Depths and the like are no pictures"
            )
        pixels = np.rint(values * (255 / white)).astype(np.uint8)
    code = _CHANNELS[channels]
    return pixels if code is None else cv2.cvtColor(pixels, code)


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
    return _compressed(message, reduction)


def _compressed(message: EncodedPixels, reduction: Callable[[int], int]) -> tuple[np.ndarray, tuple[int, int]]:
    data = bytes(memoryview(message.data))
    try:
        return _decode(data, message.format, reduction)
    except UndecodableError as error:
        what = f"{len(data)} bytes of format {_short(message.format)}"
        raise UndecodableError(f"{what} are no image that can be decoded: {error}") from error


def _decode(data: bytes, text: str, reduction: Callable[[int], int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Pixels, BGR or, where the reduction for the image's width is not 0, grey; and the image's height and width."""
    header = read_header(data)
    if header is None:
        if codec := video_codec(data, text):
            raise UndecodableError(
                f"a packet of {codec} video, no picture; decode the video first, into sensor_msgs/Image or JPEG"
            )
        raise UndecodableError("neither JPEG nor PNG")
    _check_size(header.height, header.width)
    factor = reduction(header.width)
    if header.media_type == "image/jpeg":
        return decode_jpeg(data, header, factor), (header.height, header.width)
    _check_png(data)
    try:
        flags = _GREY[factor] if factor else cv2.IMREAD_COLOR
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise UndecodableError(error.err) from error
    if image is None:
        raise UndecodableError("the image/png data is damaged")
    height, width = image.shape[:2]
    if (height, width) != (header.height // (factor or 1), header.width // (factor or 1)):
        raise UndecodableError(f"the header says {header.width}x{header.height}, the data {width}x{height}")
    return image, (header.height, header.width)


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
