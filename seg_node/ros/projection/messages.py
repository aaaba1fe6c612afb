"""Between ROS messages and ``seg_node.core.projection``: calibration, clouds, grids, and masks for Autoware."""

import struct
import sys

import numpy as np
from geometry_msgs.msg import Point, Quaternion
from geometry_msgs.msg import Pose as PoseMessage
from nav_msgs.msg import MapMetaData, OccupancyGrid
from sensor_msgs.msg import CameraInfo, Image, PointField
from std_msgs.msg import Header

from seg_node.core.projection.camera_model import Calibration
from seg_node.core.projection.cloud import FIELDS, POINT_STEP
from seg_node.core.projection.grid import GridSpec

_FIELD_TYPES = {"f4": PointField.FLOAT32, "u1": PointField.UINT8}


def calibration(message: CameraInfo) -> Calibration:
    """What a message says of the camera."""
    roi = message.roi
    return Calibration(
        height=message.height,
        width=message.width,
        model=message.distortion_model,
        d=tuple(message.d),
        k=tuple(message.k.tolist()),
        p=tuple(message.p.tolist()),
        binning=(message.binning_x, message.binning_y),
        offset=(roi.x_offset, roi.y_offset),
        region=(roi.width, roi.height),
    )


def empty_cloud(header: Header, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A serialised ``sensor_msgs/PointCloud2`` whose points are still to be written.

    Args:
        header: of the mask.
        height: of the mask, in pixels.
        width: of the mask, in pixels.

    Returns:
        The message, uint8 [size], and a view of its points, uint8 [height * width * 16], aligned to four bytes.
    """
    little = sys.byteorder == "little"
    begin = bytearray()

    def number(value: int) -> None:
        begin.extend(bytes(-len(begin) % 4) + struct.pack("=I", value))

    def text(value: str) -> None:
        data = value.encode(errors="replace") + b"\0"
        number(len(data))
        begin.extend(data)

    begin += struct.pack("=iI", header.stamp.sec, header.stamp.nanosec)
    text(header.frame_id)
    number(height)
    number(width)
    number(len(FIELDS))
    for name, offset, kind in FIELDS:
        text(name)
        number(offset)
        begin.append(_FIELD_TYPES[kind])
        number(1)
    begin.append(not little)
    number(POINT_STEP)
    number(POINT_STEP * width)
    size = POINT_STEP * width * height
    number(size)
    # The encapsulation does not change what numbers are aligned to; is_dense follows the points: some are NaN.
    begin = bytes([0, little, 0, 0]) + bytes(begin)
    room = np.zeros(len(begin) + size + 1 + 3, np.uint8)
    shift = -(room.ctypes.data + len(begin)) % 4
    message = room[shift : shift + len(begin) + size + 1]
    message[: len(begin)] = np.frombuffer(begin, np.uint8)
    return message, message[len(begin) : len(begin) + size]


def grid_message(grid: np.ndarray, spec: GridSpec, header: Header, frame_id: str) -> OccupancyGrid:
    """Message from a grid.

    Args:
        grid: int8 [rows, columns].
        spec: its extent.
        header: of the mask, whose stamp it gets.
        frame_id: of the ground.
    """
    rows, columns = grid.shape
    x0, y0 = spec.origin
    corner = PoseMessage(position=Point(x=x0, y=y0), orientation=Quaternion(w=1.0))
    info = MapMetaData(
        map_load_time=header.stamp, resolution=spec.resolution, width=columns, height=rows, origin=corner
    )
    message = OccupancyGrid(header=Header(stamp=header.stamp, frame_id=frame_id), info=info)
    message.data.frombytes(np.ascontiguousarray(grid).tobytes())
    return message


def autoware_image(runs: np.ndarray, mask: np.ndarray, header: Header) -> Image:
    """Message from a mask of run lengths, uint8 [N], with the size of the mask, uint8 [H, W]."""
    height, width = mask.shape
    message = Image(header=header, height=height, width=width, encoding="mono8", step=width)
    message.data.frombytes(runs.tobytes())
    return message
