"""Make a bag from a video, or show what a bag holds."""

import argparse
import sys
from pathlib import Path

from seg_node.bags.from_video import from_video
from seg_node.bags.reader import BagError
from seg_node.bags.summary import describe
from seg_node.bags.writer import IMAGE_TOPIC, RAW_IMAGE_TOPIC


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
