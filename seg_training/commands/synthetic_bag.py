"""``python -m seg_training synthetic-bag``: write a made-up drive with exact masks as a bag."""

import argparse
from pathlib import Path

from seg_node.core.errors import UserError
from seg_training.datasets.synthetic import LIGHTS, WEATHERS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to create (rosbag2, mcap)")
    parser.add_argument("--seed", type=int, default=3, help="decides the whole drive (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length (default: %(default)s)")
    parser.add_argument("--size", default="640x360", help="WIDTHxHEIGHT in pixels (default: %(default)s)")
    parser.add_argument("--fps", type=float, default=30.0, help="frames per second (default: %(default)s)")
    parser.add_argument("--light", choices=LIGHTS, help="default: the seed chooses")
    parser.add_argument("--weather", choices=WEATHERS, help="default: the seed chooses")
    parser.add_argument("--turns", action="store_true", help="a winding street, on which the camera yaws")
    parser.add_argument(
        "--geometry",
        action="store_true",
        help="also write what the camera cannot see: depth images, the camera's place over the ground (/tf), and the "
        "true grid of the ground",
    )
    parser.add_argument("--quality", type=int, default=50, help="of the JPEG images, 1..100 (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Write the drive; returns the exit status."""
    from seg_training.synthetic_bag import write_drive

    width, _, height = options.size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise UserError(f"--size is {options.size!r}; expected WIDTHxHEIGHT, such as 640x360")
    frames = write_drive(
        options.out,
        options.seed,
        options.seconds,
        (int(height), int(width)),
        fps=options.fps,
        light=options.light,
        weather=options.weather,
        turns=options.turns,
        geometry=options.geometry,
        quality=options.quality,
        progress=True,
    )
    print(f"{options.out}: {frames} frames")
    return 0
