"""Images as DDS carries them, read in place and written at once: rclpy would copy one twice on its way in or out."""

import copy
import struct
import sys

import numpy as np

from seg_node.core.errors import UndecodableError
from seg_node.core.images import EncodedPixels, RawPixels

_PLAIN_CDR = {b"\0\0": ">", b"\0\1": "<"}
"""First two bytes, and the byte order that they stand for."""
_ENCAPSULATION = bytes([0, sys.byteorder == "little", 0, 0])
"""What begins a message in the machine's byte order, in which rclpy writes, too."""


class SerializedImage:
    """A serialised ``sensor_msgs/Image`` or ``sensor_msgs/CompressedImage``.

    Only the header is read at once: most frames are superseded before anybody wants their pixels. Plain CDR of either
    byte order (OMG DDS-XTypes 1.3, section 7.4): four bytes of encapsulation, then the fields, each number aligned to
    its size, strings and sequences behind their length.

    Args:
        data: the message's bytes.
        number: of the frame, in the order of arrival.

    Attributes:
        stamp: of the header, in nanoseconds.
        frame_id: of the header; bytes that are no UTF-8 are replaced.
        header: a serialised ``std_msgs/Header`` of both, encapsulation included, in the machine's byte order.

    Where the header's bytes cannot be read they are those of an empty one, and the methods say why.
    """

    def __init__(self, data: bytes | np.ndarray, number: int = 0):
        self.number = number
        self._reader = _Reader(data)
        self._fault: UndecodableError | None = None
        sec, nanosec, self.frame_id = 0, 0, ""
        try:
            self._reader.begin()
            (sec, nanosec), self.frame_id = self._reader.words("iI"), self._reader.text()
        except UndecodableError as error:
            sec, nanosec, self._fault = 0, 0, error
        self.stamp = sec * 10**9 + nanosec
        text = self.frame_id.encode()
        self.header = _ENCAPSULATION + struct.pack("=iII", sec, nanosec, len(text) + 1) + text + b"\0"

    def raw(self) -> RawPixels:
        """The image of a ``sensor_msgs/Image``.

        Raises:
            UndecodableError: the bytes are no such message.
        """
        reader = self._body()
        (height, width), encoding, is_bigendian = reader.words("II"), reader.text(), reader.byte()
        return RawPixels(height, width, encoding, is_bigendian, *reader.words("I"), reader.sequence())

    def encoded(self) -> EncodedPixels:
        """The image of a ``sensor_msgs/CompressedImage``.

        Raises:
            UndecodableError: the bytes are no such message.
        """
        reader = self._body()
        return EncodedPixels(reader.text(), reader.sequence())

    def _body(self) -> "_Reader":
        if self._fault:
            raise self._fault
        # Its place moves on, and several threads may want the pixels.
        return copy.copy(self._reader)


def header_at(header: bytes, stamp: int) -> bytes:
    """A header, as ``SerializedImage.header``, with another stamp in nanoseconds.

    Raises:
        ValueError: the stamp does not fit into a message.
    """
    seconds, rest = divmod(stamp, 10**9)
    try:
        return header[:4] + struct.pack("=iI", seconds, rest) + header[12:]
    except struct.error as error:
        raise ValueError(f"a stamp of {seconds} s does not fit into a message") from error


def serialized_mono8(pixels: np.ndarray, header: bytes) -> np.ndarray:
    """A serialised ``sensor_msgs/Image`` of a mask or a confidence image.

    Args:
        pixels: uint8 [H, W], contiguous.
        header: of the camera's frame, as ``SerializedImage.header``.

    Returns:
        uint8 [size].
    """
    height, width = pixels.shape
    # The encapsulation does not change what numbers are aligned to.
    fields = struct.pack("=III6sBxII", height, width, 6, b"mono8", 0, width, pixels.size)
    begin = header + bytes(-len(header) % 4) + fields
    message = np.empty(len(begin) + pixels.size, np.uint8)
    message[: len(begin)] = np.frombuffer(begin, np.uint8)
    message[len(begin) :] = pixels.ravel()
    return message


def serialized_compressed(data: np.ndarray, format: str, header: bytes) -> np.ndarray:
    """A serialised ``sensor_msgs/CompressedImage``.

    Args:
        data: the bytes of the encoded image, uint8 [N].
        format: what the field of that name says.
        header: as for ``serialized_mono8``.

    Returns:
        uint8 [size].
    """
    text = format.encode() + b"\0"
    fields = struct.pack("=I", len(text)) + text
    begin = header + bytes(-len(header) % 4) + fields
    begin += bytes(-len(begin) % 4) + struct.pack("=I", data.size)
    return np.concatenate([np.frombuffer(begin, np.uint8), data])


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

    def words(self, kinds: str) -> tuple[int, ...]:
        """Numbers of four bytes, of ``struct``'s format characters."""
        self._at += -self._at % 4
        return struct.unpack(self._order + kinds, self._take(4 * len(kinds)))

    def byte(self) -> int:
        """A number of one byte."""
        return self._take(1)[0]

    def text(self) -> str:
        """A string, which ends with a zero byte; bytes that are no UTF-8 are replaced."""
        return bytes(self.sequence()).partition(b"\0")[0].decode(errors="replace")

    def sequence(self) -> memoryview:
        """A sequence of bytes."""
        return self._take(*self.words("I"))

    def _take(self, size: int) -> memoryview:
        end = self._at + size
        if end > len(self._data):
            raise UndecodableError(f"message is cut off: a field ends at byte {end}, the message at {len(self._data)}")
        taken, self._at = self._data[self._at : end], end
        return taken
