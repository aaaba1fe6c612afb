"""Between ROS messages and what the core works with: images, masks, timing records."""

import array

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from seg_node.core.images import ENCODINGS, compressed_to_bgr, image_to_bgr
from seg_node.core.timing import FAULTS, FrameRecord, Outcome

__all__ = [
    "ENCODINGS",
    "compressed_to_bgr",
    "diagnostics",
    "image_to_bgr",
    "mono8_image",
    "record_to_diagnostics",
]


def mono8_image(pixels: np.ndarray, header: Header) -> Image:
    """Message from a mask or a confidence image.

    Args:
        pixels: uint8 [H, W], contiguous.
        header: of the camera's frame; referenced, not changed.
    """
    height, width = pixels.shape
    message = Image(header=header, height=height, width=width, encoding="mono8", step=width)
    # The setter takes an array.array as it is and checks any other sequence byte by byte.
    data = array.array("B")
    data.frombytes(pixels.data)
    message.data = data
    return message


def record_to_diagnostics(record: FrameRecord, header: Header, name: str) -> DiagnosticArray:
    """Timing message of one frame.

    Args:
        record: the frame's end.
        header: of the frame.
        name: of the node.
    """
    values = {stage.value: f"{duration:.3f}" for stage, duration in record.stages.items()}
    values["total"] = f"{record.total:.3f}"
    if record.age is not None:
        values["age"] = f"{record.age:.3f}"
    values["late"] = str(record.late).lower()
    if record.detail:
        values["detail"] = record.detail
    fault = record.outcome in FAULTS
    masked_in_time = record.outcome is Outcome.MASKED and not record.late
    level = DiagnosticStatus.ERROR if fault else DiagnosticStatus.OK if masked_in_time else DiagnosticStatus.WARN
    return diagnostics(header, f"{name}: frame", level, record.outcome.value, record.model, values)


def diagnostics(
    header: Header, name: str, level: bytes, message: str, hardware_id: str, values: dict[str, str]
) -> DiagnosticArray:
    """Diagnostic message with one status."""
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    status = DiagnosticStatus(level=level, name=name, message=message, hardware_id=hardware_id, values=pairs)
    return DiagnosticArray(header=header, status=[status])
