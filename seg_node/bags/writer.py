"""Writing a camera's drive as a rosbag2 without ROS, through ``rosbags``."""

import shutil
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from rosbags import rosbag2
from rosbags.typesys import Stores, get_typestore

from seg_node.bags.drive import CameraInfo
from seg_node.bags.reader import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, BagError
from seg_node.core.images import EncodedPixels
from seg_node.core.projection.grid import GridSpec
from seg_node.core.projection.ground import Pose

IMAGE_TOPIC = "/camera/image/compressed"
RAW_IMAGE_TOPIC = "/camera/image"
CAMERA_INFO_TOPIC = "/camera/camera_info"
MASK_TOPIC = "/camera/mask/compressed"
DEPTH_TOPIC = "/camera/depth"
GRID_TOPIC = "/camera/ground_grid"
TF_TOPIC = "/tf"
OCCUPANCY_GRID = "nav_msgs/msg/OccupancyGrid"
TF_MESSAGE = "tf2_msgs/msg/TFMessage"


class BagWriter:
    """Writes one camera's drive as a rosbag2 folder; a context manager. Times are in nanoseconds.

    A bag whose writing fails is removed.

    Args:
        path: folder to create.
        image_topic: for the images, compressed or raw.
        camera_info_topic: for the calibration.
        mask_topic: for the ground truth.
        frame_id: of every header.
        quality: of the JPEG images, 1..100.
        storage: ``mcap`` or ``sqlite3``.

    Raises:
        BagError: the path exists, or the quality is out of range.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        image_topic: str = IMAGE_TOPIC,
        camera_info_topic: str = CAMERA_INFO_TOPIC,
        mask_topic: str = MASK_TOPIC,
        frame_id: str = "camera",
        quality: int = 90,
        storage: str = "mcap",
    ):
        self.path = Path(path)
        if not 1 <= quality <= 100:
            raise BagError(f"the JPEG quality must be in 1..100, not {quality}")
        if self.path.exists():
            raise BagError(f"{self.path} exists already; remove it or choose another name")
        self.image_topic, self.camera_info_topic, self.mask_topic = image_topic, camera_info_topic, mask_topic
        self.frame_id = frame_id
        self.quality = quality
        self._store = get_typestore(Stores.ROS2_JAZZY)
        self._writer = rosbag2.Writer(self.path, version=9, storage_plugin=rosbag2.StoragePlugin[storage.upper()])
        self._connections: dict[str, object] = {}

    def __enter__(self) -> "BagWriter":
        try:
            self._writer.open()
        except OSError as error:
            raise BagError(f"{self.path} cannot be created: {error.strerror}") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if kind is None:
            self._writer.close()
        else:
            self._writer.abort()
            shutil.rmtree(self.path)

    def write_image(self, stamp: int, bgr: np.ndarray) -> None:
        """Write a JPEG CompressedImage from uint8 [H, W, 3] BGR."""
        data = _encode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        self.write_encoded(stamp, EncodedPixels("bgr8; jpeg compressed bgr8", data))

    def write_encoded(self, stamp: int, image: EncodedPixels) -> None:
        """Write a CompressedImage that is encoded already, as it is."""
        self._write_compressed(self.image_topic, stamp, image.format, image.data)

    def write_raw_image(self, stamp: int, pixels: np.ndarray, encoding: str = "bgr8") -> None:
        """Write an Image from uint8 [H, W] or [H, W, C]; ``encoding`` must fit the array."""
        height, width = pixels.shape[:2]
        message = self._type(IMAGE)(
            header=self._header(stamp),
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=pixels[0].size,
            data=np.ascontiguousarray(pixels).ravel(),
        )
        self._write(self.image_topic, IMAGE, stamp, message)

    def write_mask(self, stamp: int, mask: np.ndarray) -> None:
        """Write ground truth, uint8 [H, W] of categories, as a PNG CompressedImage (lossless)."""
        # Level 9 pays: a mask shrinks by a fifth against the default, and is written once.
        self._write_compressed(self.mask_topic, stamp, "mono8; png compressed mono8", _encode(".png", mask, _PNG))

    def write_camera_info(self, stamp: int, info: CameraInfo) -> None:
        """Write the camera's calibration."""
        k = np.asarray(info.k, np.float64)
        p = np.column_stack([k.reshape(3, 3), np.zeros(3)]).ravel() if info.p is None else info.p
        roi = self._type("sensor_msgs/msg/RegionOfInterest")(0, 0, 0, 0, False)
        d, r, p = (np.asarray(values, np.float64) for values in (info.d, info.r, p))
        message = self._type(CAMERA_INFO)(
            self._header(stamp), info.height, info.width, info.distortion_model, d, k, r, p, 0, 0, roi
        )
        self._write(self.camera_info_topic, CAMERA_INFO, stamp, message)

    def write_depth(self, stamp: int, depth: np.ndarray) -> None:
        """Write a depth image, float32 [H, W] in metres, as 16UC1 in millimetres; 0 where it has no place there."""
        millimetres = np.where((depth > 0) & (depth < 65.535), depth * 1000, 0)
        height, width = depth.shape
        data = np.rint(millimetres).astype("<u2").view(np.uint8).ravel()
        message = self._type(IMAGE)(self._header(stamp), height, width, "16UC1", 0, 2 * width, data)
        self._write(DEPTH_TOPIC, IMAGE, stamp, message)

    def write_grid(self, stamp: int, grid: np.ndarray, spec: GridSpec, frame_id: str) -> None:
        """Write a grid of the ground, int8 [rows, columns]; ``frame_id`` is that of the ground."""
        rows, columns = grid.shape
        geometry = "geometry_msgs/msg/"
        corner = self._type(f"{geometry}Pose")(
            self._type(f"{geometry}Point")(*spec.origin, 0.0), self._type(f"{geometry}Quaternion")(0.0, 0.0, 0.0, 1.0)
        )
        header = self._header(stamp, frame_id)
        info = self._type("nav_msgs/msg/MapMetaData")(header.stamp, spec.resolution, columns, rows, corner)
        self._write(GRID_TOPIC, OCCUPANCY_GRID, stamp, self._type(OCCUPANCY_GRID)(header, info, grid.ravel()))

    def write_pose(self, stamp: int, pose: Pose, frame_id: str) -> None:
        """Write the camera's place over the ground as a transform on ``/tf``; ``frame_id`` is that of the ground."""
        geometry = "geometry_msgs/msg/"
        turn = self._type(f"{geometry}Quaternion")(*pose.quaternion)
        transform = self._type(f"{geometry}Transform")(self._type(f"{geometry}Vector3")(*pose.translation), turn)
        stamped = self._type(f"{geometry}TransformStamped")(self._header(stamp, frame_id), self.frame_id, transform)
        self._write(TF_TOPIC, TF_MESSAGE, stamp, self._type(TF_MESSAGE)([stamped]))

    def _write_compressed(self, topic: str, stamp: int, image_format: str, data: np.ndarray) -> None:
        message = self._type(COMPRESSED_IMAGE)(self._header(stamp), image_format, data)
        self._write(topic, COMPRESSED_IMAGE, stamp, message)

    def _write(self, topic: str, msgtype: str, stamp: int, message: object) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, msgtype, typestore=self._store)
        self._writer.write(self._connections[topic], stamp, self._store.serialize_cdr(message, msgtype))

    def _header(self, stamp: int, frame_id: str | None = None) -> object:
        time = self._type("builtin_interfaces/msg/Time")(*divmod(stamp, 10**9))
        return self._type("std_msgs/msg/Header")(time, self.frame_id if frame_id is None else frame_id)

    def _type(self, name: str) -> type:
        return self._store.types[name]


_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 9]


def _encode(extension: str, pixels: np.ndarray, options: list[int]) -> np.ndarray:
    encoded, data = cv2.imencode(extension, pixels, options)
    if not encoded:
        raise BagError(f"an image of shape {pixels.shape} and type {pixels.dtype} cannot be encoded as {extension}")
    return data.ravel()
