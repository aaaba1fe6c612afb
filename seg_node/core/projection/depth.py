"""Depth images as REP 118 has them, in metres along the camera's axis."""

import numpy as np

from seg_node.core.images import RawPixels
from seg_node.core.projection.errors import Drop, ProjectionError

ENCODINGS = {"32FC1": ("f4", 1.0), "16UC1": ("u2", 0.001), "mono16": ("u2", 0.001)}
"""Type of a pixel, and metres for each unit."""

FARTHEST = 1e4
"""Metres from which a distance is none that a sensor measures."""


def read_depth(message: RawPixels, height: int, width: int) -> np.ndarray:
    """Distances of a depth image.

    Args:
        message: 32FC1 in metres, or 16UC1 in millimetres, or a ROS message with the same fields; rows may be padded.
        height: that is expected, in pixels.
        width: that is expected, in pixels.

    Returns:
        float32 [H, W], metres along the camera's axis; NaN where nothing was measured.

    Raises:
        ProjectionError: the encoding is another, the sizes contradict each other, or are not those expected.
    """
    if message.encoding not in ENCODINGS:
        raise ProjectionError(
            Drop.DEPTH, f"depth image is {message.encoding[:40]!r}; expected 32FC1 in metres or 16UC1 in millimetres"
        )
    if (message.height, message.width) != (height, width):
        raise ProjectionError(
            Drop.DEPTH,
            f"depth image is {message.width}x{message.height}, the mask {width}x{height}; "
            "register the depth image to the camera that is masked",
        )
    kind, scale = ENCODINGS[message.encoding]
    pixel = np.dtype((">" if message.is_bigendian else "<") + kind)
    row = width * pixel.itemsize
    if message.step < row or len(message.data) != message.step * height:
        raise ProjectionError(
            Drop.DEPTH,
            f"depth image of {width}x{height} {message.encoding} and step {message.step} has {len(message.data)} bytes",
        )
    rows = np.frombuffer(message.data, np.uint8).reshape(height, message.step)[:, :row]
    metres = np.ascontiguousarray(rows).view(pixel).astype(np.float32)
    if scale != 1.0:
        metres *= np.float32(scale)
    # 0 and inf mean that nothing was measured; a comparison with NaN is false, too.
    metres[~((metres > 0) & (metres < FARTHEST))] = np.nan
    return metres
