"""A run as a bag for RViz, Foxglove and PlotJuggler: the drive with masks, overlays and timing, when they came."""

import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from rosbags import rosbag2
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import Header

from seg_node.bags.drive import Drive, Frame
from seg_node.bags.images import decode
from seg_node.bags.reader import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, BagError
from seg_node.core.overlay import paint
from seg_node.core.taxonomy import EIGHT, Taxonomy
from seg_node.core.timing import stamp_ns
from seg_node.rig.frames import NowObservation, Run
from seg_node.rig.player import to_message
from seg_node.ros.mask_of_now import now_status
from seg_node.ros.messages import diagnostics, record_to_diagnostics

NODE = "/segmentation"
MASK_TOPIC = f"{NODE}/mask/compressed"
OVERLAY_TOPIC = f"{NODE}/overlay/compressed"
TIMING_TOPIC = f"{NODE}/timing"
MASK_NOW_TOPIC = f"{NODE}/mask_now/compressed"
TIMING_NOW_TOPIC = f"{NODE}/timing_now"

_TIMING = "diagnostic_msgs/msg/DiagnosticArray"
_QUALITY = 85
"""Quality of the overlay's JPEG."""

Event = tuple[int, str, str, object]
"""Time on the run's steady clock in nanoseconds, topic, message type and ROS message."""


def write_annotated_bag(path: Path, drive: Drive, run: Run, taxonomy: Taxonomy = EIGHT) -> None:
    """Write what was played and what came of it as a new rosbag2 (mcap).

    Log times are those of the run, put where the drive begins: each image when it was published, its mask (PNG) and
    overlay (JPEG) when the mask arrived, its timing record when that arrived; masks of now and their records likewise,
    where the run listened to them. Played back, the bag shows masks as late as they were. Header stamps are the
    recorded ones, those of masks of now the times for which they hold. Topics of the drive keep their names; ground
    truth and calibration come with each image.

    Args:
        path: folder to create.
        drive: what was played.
        run: what came of it.
        taxonomy: categories of the masks.

    Raises:
        BagError: the folder exists or cannot be made.
    """
    path = Path(path)
    if path.exists():
        raise BagError(f"{path} exists already; remove it or choose another name")
    store = get_typestore(Stores.ROS2_JAZZY)
    connections: dict[str, object] = {}
    offset = drive.frames[run.frames[0].frame].log_time - run.frames[0].sent if run.frames else 0
    try:
        with rosbag2.Writer(path, version=9, storage_plugin=rosbag2.StoragePlugin.MCAP) as writer:
            for time, topic, msgtype, message in _events(drive, run, taxonomy):
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, msgtype, typestore=store)
                writer.write(connections[topic], time + offset, serialize_message(message))
    except OSError as error:
        raise BagError(f"{path} cannot be written: {error.strerror}") from error
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _events(drive: Drive, run: Run, taxonomy: Taxonomy) -> Iterator[Event]:
    """All messages, frame by frame: pictures are made one at a time, and readers of a bag sort it by time."""
    image = PurePosixPath(drive.topic)
    info_topic = str((image.parent if image.name == "compressed" else image).with_name("camera_info"))
    nows: dict[int, list[NowObservation]] = {}
    for now in run.nows or ():
        nows.setdefault(now.index, []).append(now)
    for seen in run.frames:
        frame = drive.frames[seen.frame]
        message = to_message(frame)
        header = message.header
        yield seen.sent, drive.topic, IMAGE if frame.kind == "image" else COMPRESSED_IMAGE, message
        if drive.camera_info is not None:
            yield seen.sent, info_topic, CAMERA_INFO, _camera_info(drive, header)
        if drive.mask_topic and frame.stamp in drive.masks:
            yield seen.sent, _compressed(drive.mask_topic), COMPRESSED_IMAGE, _png(drive.masks[frame.stamp], header)
        if seen.mask is not None:
            mask = seen.mask.decode()
            yield seen.mask.arrived, MASK_TOPIC, COMPRESSED_IMAGE, _png(mask, header)
            if (overlay := _overlay(frame, mask, taxonomy)) is not None:
                yield seen.mask.arrived, OVERLAY_TOPIC, COMPRESSED_IMAGE, _jpeg(overlay, header)
        if seen.record is not None:
            record = record_to_diagnostics(seen.record, header, NODE)
            yield seen.sent if seen.recorded is None else seen.recorded, TIMING_TOPIC, _TIMING, record
        for now in nows.get(seen.index, ()):
            yield from _now_events(now, header)


def _now_events(now: NowObservation, header: Header) -> Iterator[Event]:
    """A mask of now, where there is one, and its record; ``header`` is that of the frame."""
    if now.mask is not None:
        target = stamp_ns(header) + round(1e6 * now.record.horizon)
        stamp = Time(sec=target // 10**9, nanosec=target % 10**9)
        ahead = Header(stamp=stamp, frame_id=header.frame_id)
        yield now.mask.arrived, MASK_NOW_TOPIC, COMPRESSED_IMAGE, _png(now.mask.decode(), ahead)
    level, texts, values = now_status(now.record, NODE)
    yield now.recorded, TIMING_NOW_TOPIC, _TIMING, diagnostics(header, texts[0], bytes([level]), *texts[1:], values)


def _compressed(topic: str) -> str:
    """Where PNG images of a topic go by the convention of image_transport."""
    return topic if PurePosixPath(topic).name == "compressed" else f"{topic}/compressed"


def _overlay(frame: Frame, mask: np.ndarray, taxonomy: Taxonomy) -> np.ndarray | None:
    bgr = decode(frame)
    if bgr is None or bgr.shape[:2] != mask.shape:
        return None
    return paint(bgr, mask, taxonomy=taxonomy)


def _png(mask: np.ndarray, header: Header) -> CompressedImage:
    data = cv2.imencode(".png", mask)[1].tobytes()
    return CompressedImage(header=header, format="mono8; png compressed mono8", data=data)


def _jpeg(bgr: np.ndarray, header: Header) -> CompressedImage:
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
    return CompressedImage(header=header, format="bgr8; jpeg compressed bgr8", data=data)


def _camera_info(drive: Drive, header: Header) -> CameraInfo:
    info = drive.camera_info
    p = np.column_stack([info.k.reshape(3, 3), np.zeros(3)]).ravel() if info.p is None else info.p
    d, k, r, p = (np.asarray(values, np.float64).tolist() for values in (info.d, info.k, info.r, p))
    return CameraInfo(
        header=header, height=info.height, width=info.width, distortion_model=info.distortion_model, d=d, k=k, r=r, p=p
    )
