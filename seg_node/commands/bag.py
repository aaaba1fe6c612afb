"""Make a bag from a video, or show what a bag holds."""

import argparse
import math
import sys
from pathlib import Path

import cv2
from tqdm import tqdm

from seg_node.bags.drive import CompressedImage, open_drive
from seg_node.bags.reader import BagError, list_topics
from seg_node.bags.writer import IMAGE_TOPIC, RAW_IMAGE_TOPIC, BagWriter

FIRST_STAMP = 10**9
"""Stamp of a video's first frame: 1 s, so that the same video always gives the same bag and no stamp is zero."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands ``from-video`` and ``info``."""
    commands = parser.add_subparsers(dest="bag_command", required=True)

    video = commands.add_parser(
        "from-video",
        help="make a bag from a video",
        description="Make a rosbag2 (mcap) from any video that OpenCV reads. The first frame is stamped 1 s.",
    )
    video.add_argument("video", type=Path, metavar="VIDEO", help="file to read")
    video.add_argument("out", type=Path, metavar="OUT", help="folder to create")
    video.add_argument("--topic", help=f"image topic (default: {IMAGE_TOPIC}; with --raw: {RAW_IMAGE_TOPIC})")
    video.add_argument("--fps", type=float, help="frames per second (default: the file's)")
    video.add_argument("--quality", type=int, default=90, help="of the JPEG images, 1..100 (default: %(default)s)")
    video.add_argument("--raw", action="store_true", help="write bgr8 Image instead of JPEG CompressedImage")

    info = commands.add_parser("info", help="show what a bag holds")
    info.add_argument("path", type=Path, metavar="BAG", help="rosbag2 folder, or a .mcap, .db3 or .bag file")


def run(options: argparse.Namespace) -> int:
    """Run the subcommand; returns the exit status."""
    try:
        if options.bag_command == "info":
            print(describe(options.path))
        else:
            frames = from_video(
                options.video, options.out, options.topic, options.fps, options.quality, options.raw, progress=True
            )
            print(f"{options.out}: {frames} frames")
    except BagError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


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
    if not isinstance(image, CompressedImage):
        return f"{image.width}x{image.height} {image.encoding}"
    pixels = cv2.imdecode(image.data, cv2.IMREAD_UNCHANGED)
    size = "undecodable" if pixels is None else f"{pixels.shape[1]}x{pixels.shape[0]}"
    return f"{size}, {image.format or 'format not given'}"
