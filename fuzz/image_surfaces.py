"""Raw and compressed camera images."""

import struct
import zlib
from random import Random

import cv2
import numpy as np
from cases import Case
from mutate import damaged, near
from surfaces import ACCEPTED, Surface, expect, refused

from seg_node.core.errors import UndecodableError
from seg_node.core.images import ENCODINGS, MAX_PIXELS, MAX_SIDE, EncodedPixels, RawPixels, to_bgr

_SAMPLES = {"bgr": 3, "rgb": 3, "bgra": 4, "rgba": 4, "uyvy": 2, "yuyv": 2, "yuv422": 2, "yuv422_yuy2": 2}
"""Samples of a pixel in a row by the letters of the encoding; one for the others."""

_ROWS = {"nv12": (3, 2), "nv21": (3, 2), "nv24": (3, 1)}
"""Rows of data for each row of pixels, where there is more than one plane."""

_ODD_ENCODINGS = ("", "BGR8", "bgr8 ", "32FC2", "16UC", "nv16", "8UC", "8UC999", "bgr8\0", "π", "jpeg", "x" * 10000)


_FORMATS = ("jpeg", "png", "", "h264", "bgr8; jpeg compressed bgr8", "x" * 10000)


class RawSurface(Surface):
    """``to_bgr``; refuses with ``UndecodableError``."""

    def draw(self, rng: Random) -> Case:
        encoding = rng.choice(ENCODINGS)
        height, width = rng.randint(1, 12), rng.randint(1, 12)
        if encoding in ("nv12", "nv21"):
            height += height % 2
        if encoding in ("nv12", "nv21", "uyvy", "yuyv", "yuv422", "yuv422_yuy2"):
            width += width % 2
        step = width * _pixel_bytes(encoding) + rng.choice((0, 0, 1, 6))
        more, less = _ROWS.get(encoding, (1, 1))
        rows = height * more // less
        case = {
            "height": height,
            "width": width,
            "encoding": encoding,
            "is_bigendian": rng.choice((0, 1, 2, 255)),
            "step": step,
            "data": rng.randbytes(rows * step),
        }
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            field = rng.choice(("height", "width", "encoding", "step", "data"))
            if field == "encoding":
                case[field] = rng.choice((*ENCODINGS, *_ODD_ENCODINGS))
            elif field == "data":
                case[field] = damaged(rng, case[field])
            else:
                case[field] = near(rng, case[field]) % 2**32
        return case

    def feed(self, case: Case) -> str:
        try:
            bgr = to_bgr(RawPixels(**case))
        except UndecodableError as error:
            return refused(error)
        expect_image(bgr)
        expect(bgr.shape[:2] == (case["height"], case["width"]), f"{bgr.shape} for {case['height']}x{case['width']}")
        return ACCEPTED


def _pixel_bytes(encoding: str) -> int:
    if encoding[0].isdigit():
        bits, channels = encoding.split("C")
        return int(bits[:-1]) // 8 * int(channels)
    return _SAMPLES.get(encoding.rstrip("0123456789"), _SAMPLES.get(encoding, 1)) * (
        2 if encoding.endswith("16") else 1
    )


class CompressedSurface(Surface):
    """``to_bgr``; refuses with ``UndecodableError``."""

    def __init__(self, folder):
        super().__init__(folder)
        pixels = np.random.default_rng(3).integers(0, 256, (12, 16, 4), np.uint8)
        smooth = cv2.resize(pixels[:3, :4, :3], (48, 40))
        jpeg = [cv2.IMWRITE_JPEG_QUALITY, 60]
        self._seeds = [
            encoded(".jpg", smooth, *jpeg),
            encoded(".jpg", smooth[..., 0], *jpeg),
            encoded(".jpg", smooth, *jpeg, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
            encoded(".jpg", smooth, *jpeg, cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
            encoded(".png", pixels[..., :3]),
            encoded(".png", pixels),
            encoded(".png", pixels[..., 0]),
            encoded(".png", pixels[..., 0].astype(np.uint16) * 257),
            encoded(".png", pixels[..., 0] & 1, cv2.IMWRITE_PNG_BILEVEL, 1),
        ]
        # What else OpenCV would read, were it asked to.
        self._others = [encoded(extension, smooth) for extension in (".bmp", ".tiff", ".ppm", ".jp2", ".webp")]

    def draw(self, rng: Random) -> Case:
        data = rng.choice(self._seeds)
        kind = rng.randrange(10)
        if kind == 0:
            data = damaged(rng, rng.choice(self._others))
        elif kind == 1 and data.startswith(b"\x89PNG"):
            data = png_of_size(data, near(rng, 16) % 2**32, near(rng, 12) % 2**32)
        elif kind == 2 and data.startswith(b"\x89PNG"):
            # Right checksums, so that what they protect is reached.
            data = with_checksums(damaged(rng, data, self._seeds))
        elif kind == 3:
            # A video, as some codecs cut it into packets.
            data = b"\0\0\0\1" + rng.randbytes(rng.randrange(40))
        elif kind == 4:
            # What cameras and phones leave out, or leave behind the end.
            data = data.removesuffix(b"\xff\xd9") + rng.choice((b"", rng.randbytes(90), b"\0\xff\xda\0" * 40, data))
        elif kind < 9:
            data = damaged(rng, data, self._seeds)
        return {"format": rng.choice(_FORMATS), "data": data}

    def feed(self, case: Case) -> str:
        try:
            bgr = to_bgr(EncodedPixels(**case))
        except UndecodableError as error:
            return refused(error)
        expect_image(bgr)
        return ACCEPTED


def expect_image(bgr: np.ndarray) -> None:
    """What every decoder promises of an accepted image."""
    expect(bgr.dtype == np.uint8 and bgr.ndim == 3 and bgr.shape[2] == 3, f"{bgr.dtype} {bgr.shape}")
    expect(bgr.flags.c_contiguous, "not contiguous")
    expect(0 < max(bgr.shape[:2]) <= MAX_SIDE and 0 < bgr.shape[0] * bgr.shape[1] <= MAX_PIXELS, f"{bgr.shape}")


def encoded(extension: str, pixels: np.ndarray, *options: int) -> bytes:
    """An image as OpenCV writes it."""
    return cv2.imencode(extension, pixels, options)[1].tobytes()


def png_of_size(data: bytes, width: int, height: int) -> bytes:
    """A PNG whose header says another size (ISO/IEC 15948, 11.2.2), with the right checksum."""
    return with_checksums(data[:16] + struct.pack(">II", width, height) + data[24:])


def with_checksums(data: bytes) -> bytes:
    """A PNG with the checksum that each of its chunks should have (ISO/IEC 15948, 5.3), as far as there are chunks."""
    fixed, at = bytearray(data), 8
    while at + 12 <= len(fixed):
        (size,) = struct.unpack_from(">I", fixed, at)
        end = at + 8 + size
        if end + 4 > len(fixed):
            break
        struct.pack_into(">I", fixed, end, zlib.crc32(fixed[at + 4 : end]))
        at = end + 4
    return bytes(fixed)
