"""Images as DDS carries them, read in place and written at once: rclpy would copy one twice on its way in or out."""

import struct
from dataclasses import dataclass

import numpy as np
from rclpy.serialization import serialize_message
from std_msgs.msg import Header

from seg_node.core.segmenter import UndecodableError

_PLAIN_CDR = {b"\0\0": ">", b"\0\1": "<"}
"""First two bytes, and the byte order that they stand for."""


@dataclass(frozen=True)
class RawPixels:
    """Fields of ``sensor_msgs/Image``."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview


@dataclass(frozen=True)
class EncodedPixels:
    """Fields of ``sensor_msgs/CompressedImage``."""

    format: str
    data: memoryview


class SerializedImage:
    """A serialised ``sensor_msgs/Image`` or ``sensor_msgs/CompressedImage``.

    Only the header is read at once: most frames are superseded before anybody wants their pixels. Plain CDR of either
    byte order (OMG DDS-XTypes 1.3, section 7.4): four bytes of encapsulation, then the fields, each number aligned to
    its size, strings and sequences behind their length.

    Attributes:
        header: ``std_msgs/Header`` of the message; empty where its bytes cannot be read, as the methods then say.
    """

    def __init__(self, data: bytes | np.ndarray):
        self._reader = _Reader(data)
        self._fault: UndecodableError | None = None
        self.header = Header()
        try:
            self._reader.begin()
            sec, nanosec = self._reader.number("i"), self._reader.number("I")
            self.header.frame_id = self._reader.text()
            self.header.stamp.sec, self.header.stamp.nanosec = sec, nanosec
        except UndecodableError as error:
            self._fault = error

    def raw(self) -> RawPixels:
        """The image of a ``sensor_msgs/Image``. To be called once.

        Raises:
            UndecodableError: the bytes are no such message.
        """
        reader = self._body()
        height, width, encoding = reader.number("I"), reader.number("I"), reader.text()
        return RawPixels(height, width, encoding, reader.number("B"), reader.number("I"), reader.sequence())

    def encoded(self) -> EncodedPixels:
        """The image of a ``sensor_msgs/CompressedImage``. To be called once.

        Raises:
            UndecodableError: the bytes are no such message.
        """
        reader = self._body()
        return EncodedPixels(reader.text(), reader.sequence())

    def _body(self) -> "_Reader":
        if self._fault:
            raise self._fault
        return self._reader


def serialized_mono8(pixels: np.ndarray, header: Header) -> np.ndarray:
    """A serialised ``sensor_msgs/Image`` of a mask or a confidence image.

    Args:
        pixels: uint8 [H, W], contiguous.
        header: of the camera's frame.

    Returns:
        uint8 [size].
    """
    height, width = pixels.shape
    begin = serialize_message(header)
    # In the machine's byte order, as rclpy writes it; the encapsulation does not change what numbers are aligned to.
    fields = struct.pack("=III6sBxII", height, width, 6, b"mono8", 0, width, pixels.size)
    begin += bytes(-len(begin) % 4) + fields
    message = np.empty(len(begin) + pixels.size, np.uint8)
    message[: len(begin)] = np.frombuffer(begin, np.uint8)
    message[len(begin) :] = pixels.ravel()
    return message


class _Reader:
    """Reads field after field."""

    def __init__(self, data: bytes | np.ndarray):
        self._data = memoryview(data)
        self._order = ""
        self._at = 0

    def begin(self) -> None:
        """Read the encapsulation."""
        order = _PLAIN_CDR.get(bytes(self._data[:2]))
        if order is None:
            raise UndecodableError(f"message begins with {bytes(self._data[:4]).hex()!r}; expected plain CDR")
        self._data, self._order = self._data[4:], order

    def number(self, kind: str) -> int:
        """A number of ``struct``'s format character."""
        size = struct.calcsize(f"={kind}")
        self._at += -self._at % size
        return struct.unpack(self._order + kind, self._take(size))[0]

    def text(self) -> str:
        """A string, which ends with a zero byte; bytes that are no UTF-8 are replaced."""
        return bytes(self.sequence()).partition(b"\0")[0].decode(errors="replace")

    def sequence(self) -> memoryview:
        """A sequence of bytes."""
        return self._take(self.number("I"))

    def _take(self, size: int) -> memoryview:
        end = self._at + size
        if end > len(self._data):
            raise UndecodableError(f"message is cut off: a field ends at byte {end}, the message at {len(self._data)}")
        taken, self._at = self._data[self._at : end], end
        return taken
