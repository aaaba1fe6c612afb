"""Recorded images as arrays, and from one kind of message into the other."""

import dataclasses

import cv2
import numpy as np

from seg_node.bags.drive import Drive, Frame
from seg_node.bags.reader import BagError
from seg_node.core.errors import UndecodableError
from seg_node.core.images import EncodedPixels, RawPixels, to_bgr


def decode(frame: Frame) -> np.ndarray | None:
    """Image of a frame, uint8 [H, W, 3] BGR; None where it cannot be read."""
    try:
        return to_bgr(frame.image)
    except UndecodableError:
        return None


def frame_size(drive: Drive) -> tuple[int, int]:
    """Height and width in pixels of the first frame that can be read.

    Raises:
        BagError: there is none.
    """
    for frame in drive.frames:
        bgr = decode(frame)
        if bgr is not None:
            return bgr.shape[:2]
    raise BagError(f"{drive.path}: no image of {drive.topic} can be decoded")


def with_transport(drive: Drive, transport: str) -> Drive:
    """The drive with all images as ``raw`` bgr8 or ``compressed`` as JPEG of quality 90; those that are so, unchanged.

    Where images are converted, the topic has the name that image_transport gives to such ones: ``/compressed`` is
    added, or taken away.

    Raises:
        BagError: an image that must be converted cannot be decoded.
    """
    convert = {"raw": _as_raw, "compressed": _as_jpeg}[transport]
    frames = [convert(frame) for frame in drive.frames]
    topic = drive.topic
    if any(new is not old for new, old in zip(frames, drive.frames, strict=True)):
        topic = topic.removesuffix("/compressed") + "/compressed" * (transport == "compressed")
    return dataclasses.replace(drive, frames=frames, topic=topic)


def _as_raw(frame: Frame) -> Frame:
    if frame.kind == "image":
        return frame
    bgr = _decoded(frame)
    height, width = bgr.shape[:2]
    return dataclasses.replace(frame, image=RawPixels(height, width, "bgr8", 0, width * 3, bgr.ravel()))


def _as_jpeg(frame: Frame) -> Frame:
    if frame.kind == "compressed":
        return frame
    data = cv2.imencode(".jpg", _decoded(frame), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].ravel()
    return dataclasses.replace(frame, image=EncodedPixels("bgr8; jpeg compressed bgr8", data))


def _decoded(frame: Frame) -> np.ndarray:
    bgr = decode(frame)
    if bgr is None:
        raise BagError(f"the image stamped {frame.stamp} ns cannot be decoded, so it cannot be converted")
    return bgr
