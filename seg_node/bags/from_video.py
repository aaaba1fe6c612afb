"""A drive from a video."""

import math
from pathlib import Path

import cv2
from tqdm import tqdm

from seg_node.bags.reader import BagError
from seg_node.bags.writer import IMAGE_TOPIC, RAW_IMAGE_TOPIC, BagWriter

FIRST_STAMP = 10**9
"""Stamp of the first frame: 1 s, so that the same video always gives the same bag and no stamp is zero."""


def from_video(
    video: str | Path,
    out: str | Path,
    topic: str | None = None,
    fps: float | None = None,
    quality: int = 90,
    raw: bool = False,
    progress: bool = False,
) -> int:
    """Write a video's frames into a new rosbag2 (mcap).

    Args:
        video: any file that OpenCV reads.
        out: folder to create.
        topic: image topic; None takes the default of the kind of message.
        fps: frames per second; None takes the file's.
        quality: of the JPEG images, 1..100.
        raw: write bgr8 Image instead of JPEG CompressedImage.
        progress: show a progress bar.

    Returns:
        The number of frames.

    Raises:
        BagError: the video is missing, cannot be decoded or does not say its rate; a value is out of range; ``out``
            exists.
    """
    if not Path(video).is_file():
        raise BagError(f"{video} is no file")
    writer = BagWriter(out, image_topic=topic or (RAW_IMAGE_TOPIC if raw else IMAGE_TOPIC), quality=quality)
    capture = cv2.VideoCapture(str(video))
    try:
        decoded, frame = capture.read()
        if not decoded:
            raise BagError(f"{video} cannot be decoded as a video")
        fps = capture.get(cv2.CAP_PROP_FPS) if fps is None else fps
        if not (math.isfinite(fps) and fps > 0):
            raise BagError(f"{fps} frames per second is no rate; give one with --fps")
        write = writer.write_raw_image if raw else writer.write_image
        total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        count = 0
        bar = tqdm(total=total if total > 0 else None, unit="frame", disable=not progress)
        with writer, bar:
            while decoded:
                write(FIRST_STAMP + round(count * 1e9 / fps), frame)
                count += 1
                bar.update()
                decoded, frame = capture.read()
    finally:
        capture.release()
    return count
