"""Between ROS messages and what the core works with: images, masks, timing records."""

import array
import math
import sys
from collections.abc import Mapping

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from seg_node.core.errors import UndecodableError
from seg_node.core.timing import FAULTS, FrameRecord, Outcome

__all__ = [
    "bgr8_image",
    "diagnostics",
    "frame_record",
    "mono8_image",
    "read_mono8",
    "record_to_diagnostics",
    "serialized_diagnostics",
    "serialized_record",
]


def mono8_image(pixels: np.ndarray, header: Header) -> Image:
    """Message from a mask or a confidence image.

    Args:
        pixels: uint8 [H, W], contiguous.
        header: of the camera's frame; referenced, not changed.
    """
    return _image(pixels, header, "mono8")


def bgr8_image(pixels: np.ndarray, header: Header) -> Image:
    """Message from a picture, uint8 [H, W, 3], contiguous; otherwise like ``mono8_image``."""
    return _image(pixels, header, "bgr8")


def _image(pixels: np.ndarray, header: Header, encoding: str) -> Image:
    height, width, *channels = pixels.shape
    message = Image(header=header, height=height, width=width, encoding=encoding, step=width * math.prod(channels))
    # The setter takes an array.array as it is and checks any other sequence byte by byte.
    data = array.array("B")
    data.frombytes(pixels.data)
    message.data = data
    return message


def read_mono8(message: Image) -> np.ndarray:
    """Pixels of a mask or of a confidence image, uint8 [H, W]; rows may be padded.

    Raises:
        UndecodableError: the message is no mono8 image, or its sizes contradict each other.
    """
    height, width, step = message.height, message.width, message.step
    if message.encoding != "mono8":
        raise UndecodableError(f"encoding is {message.encoding[:40]!r}; a mask is mono8")
    if not height or not width or step < width or len(message.data) != height * step:
        raise UndecodableError(f"a mask of {width}x{height} and step {step} has {len(message.data)} bytes")
    return np.ascontiguousarray(np.frombuffer(message.data, np.uint8).reshape(height, step)[:, :width])


def record_to_diagnostics(record: FrameRecord, header: Header, name: str) -> DiagnosticArray:
    """Timing message of one frame.

    Args:
        record: the frame's end.
        header: of the frame.
        name: of the node.
    """
    level, texts, values = _timing_status(record, name)
    return diagnostics(header, texts[0], bytes([level]), *texts[1:], values)


def serialized_record(record: FrameRecord, header: bytes, name: str) -> np.ndarray:
    """The message of ``record_to_diagnostics``, serialised.

    Args:
        record: the frame's end.
        header: of the frame, as ``seg_node.ros.transfer.serialized_image.SerializedImage.header``.
        name: of the node.

    Returns:
        uint8 [size].
    """
    return serialized_diagnostics(header, *_timing_status(record, name))


def serialized_diagnostics(
    header: bytes, level: int, texts: tuple[str, str, str], values: Mapping[str, str]
) -> np.ndarray:
    """A ``DiagnosticArray`` with one status, serialised: rclpy takes longer to do it, for every single frame.

    Args:
        header: as ``seg_node.ros.transfer.serialized_image.SerializedImage.header``.
        level: of ``DiagnosticStatus``.
        texts: name, message and hardware id.
        values: by key.

    Returns:
        uint8 [size].
    """
    message = bytearray(header)
    _append_number(message, 1)
    message.append(level)
    for text in texts:
        _append_text(message, text)
    _append_number(message, len(values))
    for pair in values.items():
        for text in pair:
            _append_text(message, text)
    return np.frombuffer(message, np.uint8)


def _append_number(message: bytearray, number: int) -> None:
    message += bytes(-len(message) % 4) + number.to_bytes(4, sys.byteorder)


def _append_text(message: bytearray, text: str) -> None:
    # A name of a file may hold what is no UTF-8.
    data = text.encode(errors="replace") + b"\0"
    _append_number(message, len(data))
    message += data


def _timing_status(record: FrameRecord, name: str) -> tuple[int, tuple[str, str, str], dict[str, str]]:
    """Level; name, message and hardware id; values."""
    fault = record.outcome in FAULTS
    masked_in_time = record.outcome is Outcome.MASKED and not record.late
    level = DiagnosticStatus.ERROR if fault else DiagnosticStatus.OK if masked_in_time else DiagnosticStatus.WARN
    return level[0], (f"{name}: frame", record.outcome.value, record.model), record.values()


def frame_record(status: DiagnosticStatus) -> FrameRecord:
    """Read the status of a message of ``~/timing``: the inverse of ``record_to_diagnostics``.

    Raises:
        ValueError: it is none.
    """
    values = {item.key: item.value for item in status.values}
    if "total" not in values:
        raise ValueError(f"a timing record without total: {status.name[:80]!r}")
    return FrameRecord.read(status.message, status.hardware_id, values)


def diagnostics(
    header: Header, name: str, level: bytes, message: str, hardware_id: str, values: dict[str, str]
) -> DiagnosticArray:
    """Diagnostic message with one status."""
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    status = DiagnosticStatus(level=level, name=name, message=message, hardware_id=hardware_id, values=pairs)
    return DiagnosticArray(header=header, status=[status])
