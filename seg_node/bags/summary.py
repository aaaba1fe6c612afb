"""What a bag holds, as text."""

from pathlib import Path

import cv2

from seg_node.bags.drive import open_drive
from seg_node.bags.reader import list_topics
from seg_node.core.images import EncodedPixels


def describe(path: str | Path) -> str:
    """What a bag holds, for display.

    Raises:
        BagError: see ``open_drive``; a bag without an image topic, or with several, is described all the same.
    """
    topics = list_topics(path)
    width = max((len(topic.name) for topic in topics), default=0)
    lines = [f"{path}", *(f"  {t.name:{width}}  {t.count:6d}  {t.type}" for t in topics)]
    for topic in topics:
        if not topic.is_image or topic.is_mask or topic.is_output or not topic.count:
            continue
        drive = open_drive(path, topic.name)
        lines.append(f"{topic.name}: {drive.duration:.2f} s, {drive.rate:.2f} Hz, {_size(drive.frames[0].image)}")
        if drive.masks:
            labelled = sum(frame.stamp in drive.masks for frame in drive.frames)
            lines.append(f"  ground truth for {labelled} of {len(drive.frames)} frames in {drive.mask_topic}")
    return "\n".join(lines)


def _size(image) -> str:
    if not isinstance(image, EncodedPixels):
        return f"{image.width}x{image.height} {image.encoding}"
    pixels = cv2.imdecode(image.data, cv2.IMREAD_UNCHANGED)
    size = "undecodable" if pixels is None else f"{pixels.shape[1]}x{pixels.shape[0]}"
    return f"{size}, {image.format or 'format not given'}"
