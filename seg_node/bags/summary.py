"""What a bag holds, as text."""

from pathlib import Path

import cv2

from seg_node.bags.drive import open_drive
from seg_node.bags.reader import VIDEO_PACKETS, BagReader, video_advice
from seg_node.core.images import EncodedPixels


def describe(path: str | Path) -> str:
    """What a bag holds, for display, with what was left out of it and what is odd about it.

    Raises:
        BagError: see ``open_drive``; a bag without an image topic, or with several, is described all the same.
    """
    with BagReader(path) as bag:
        topics, notes = bag.topics, [*bag.notes]
    width = max((len(topic.name) for topic in topics), default=0)
    lines = [f"{path}" + ": no topics" * (not topics)]
    for topic in topics:
        lines.append(
            f"  {topic.name:{width}}  {topic.count:6d}  {topic.type}" + f" ({topic.encoding})" * (not topic.is_ros)
        )
    for topic in topics:
        if topic.type in VIDEO_PACKETS:
            notes.append(f"{topic.name} {video_advice(topic)}")
        if not topic.is_image or topic.is_mask or topic.is_depth or topic.is_output or not topic.count:
            continue
        drive = open_drive(path, topic.name)
        notes += [note for note in drive.notes if note not in notes]
        lines.append(f"{topic.name}: {drive.duration:.2f} s, {drive.rate:.2f} Hz, {_size(drive.frames[0].image)}")
        if drive.masks:
            labelled = sum(frame.stamp in drive.masks for frame in drive.frames)
            lines.append(f"  ground truth for {labelled} of {len(drive.frames)} frames in {drive.mask_topic}")
    return "\n".join([*lines, *notes])


def _size(image) -> str:
    if not isinstance(image, EncodedPixels):
        return f"{image.width}x{image.height} {image.encoding}"
    pixels = cv2.imdecode(image.data, cv2.IMREAD_UNCHANGED)
    size = "undecodable" if pixels is None else f"{pixels.shape[1]}x{pixels.shape[0]}"
    return f"{size}, {image.format or 'format not given'}"
