"""Make a bag from a video or from images, write one again, or show what it holds.

What a subcommand alone needs is imported as it runs: that takes longer than to look into a bag.
"""

import argparse
from pathlib import Path

from seg_node.bags.files import LABEL_NAME
from seg_node.bags.reader import BagError
from seg_node.bags.writer import IMAGE_TOPIC, MASK_TOPIC, RAW_IMAGE_TOPIC


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands ``from-video``, ``from-images``, ``copy`` and ``info``."""
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

    images = commands.add_parser(
        "from-images",
        help="make a bag from a folder of images, and from their labels",
        description="Make a rosbag2 (mcap) from a folder of images in the order of their names. JPEG and PNG files are"
        " taken byte for byte. The first frame is stamped 1 s.",
    )
    images.add_argument("folder", type=Path, metavar="FOLDER", help="holds the images")
    images.add_argument("out", type=Path, metavar="OUT", help="folder to create")
    images.add_argument("--rate", type=float, required=True, metavar="HZ", help="images per second")
    images.add_argument(
        "--labels", type=Path, metavar="FOLDER", help=f"label images of the same names, which become {MASK_TOPIC}"
    )
    images.add_argument(
        "--label-table",
        type=Path,
        metavar="YAML",
        help="category of each label value, as in config/labels (default: the values are categories)",
    )
    images.add_argument(
        "--label-name",
        default=LABEL_NAME,
        metavar="PATTERN",
        help="name of an image's label, {name} without its ending, such as {name}_L.png (default: %(default)s)",
    )
    images.add_argument("--topic", help=f"image topic (default: {IMAGE_TOPIC})")
    images.add_argument(
        "--quality", type=int, default=95, help="of images that become JPEG, 1..100 (default: %(default)s)"
    )

    copy = commands.add_parser(
        "copy",
        help="write a bag again as a whole rosbag2",
        description="Write a bag again as a rosbag2 (mcap), and count the messages in and out. Messages of ROS 1 are"
        " converted; those of other encodings are left out.",
    )
    copy.add_argument("path", type=Path, metavar="BAG", help="rosbag2 folder, or a .mcap, .db3 or .bag file")
    copy.add_argument("out", type=Path, metavar="OUT", help="folder to create")
    copy.add_argument("--recover", action="store_true", help="take what is whole of one that was cut off or is damaged")

    info = commands.add_parser("info", help="show what a bag holds")
    info.add_argument("path", type=Path, metavar="BAG", help="rosbag2 folder, or a .mcap, .db3 or .bag file")


def run(options: argparse.Namespace) -> int:
    """Run the subcommand; returns the exit status."""
    command = {"info": _info, "from-video": _from_video, "from-images": _from_images, "copy": _copy}[
        options.bag_command
    ]
    return command(options)


def _info(options: argparse.Namespace) -> int:
    from seg_node.bags.summary import describe

    print(describe(options.path))
    return 0


def _from_video(options: argparse.Namespace) -> int:
    from seg_node.bags.from_video import from_video

    frames = from_video(
        options.video, options.out, options.topic, options.fps, options.quality, options.raw, progress=True
    )
    print(f"{options.out}: {frames} frames")
    return 0


def _from_images(options: argparse.Namespace) -> int:
    from seg_node.bags.from_images import from_images
    from seg_node.core.label_table import load_label_table

    if options.labels is None and (options.label_table or options.label_name != LABEL_NAME):
        raise BagError("--label-table and --label-name are about labels; name their folder with --labels")
    try:
        table = load_label_table(options.label_table) if options.label_table else None
    except (OSError, ValueError) as error:
        raise BagError(f"--label-table {options.label_table}: {error}") from error
    drive = from_images(
        options.folder,
        options.out,
        options.rate,
        labels=options.labels,
        table=table,
        label_name=options.label_name,
        topic=options.topic,
        quality=options.quality,
        progress=True,
    )
    truth = f", ground truth for {drive.labelled} of them in {MASK_TOPIC}" if options.labels else ""
    print(f"{options.out}: {drive.frames} frames{truth}")
    for line in drive.left_out:
        print(f"left out: {line}")
    return 0


def _copy(options: argparse.Namespace) -> int:
    from seg_node.bags.copy import copy_bag

    balance, notes = copy_bag(options.path, options.out, options.recover)
    print(f"{options.out}: {sum(entry.written for entry in balance)} messages of {len(balance)} topics")
    for line in (*balance, *notes):
        print(f"  {line}")
    return 0
