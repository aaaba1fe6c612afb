"""``seg_node node``: the segmentation node."""

import argparse
import json
from pathlib import Path

from seg_node.commands.options import add_ros_arguments
from seg_node.ros.entry import segmentation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--profile", type=Path, metavar="FILE", help="what `seg_node tune` wrote; parameters that are given win over it"
    )
    add_ros_arguments(parser, "-r image:=/camera/image -p model:=fpn_resnet50 -p autostart:=true")


def run(options: argparse.Namespace) -> int:
    """Run the node until it is interrupted; returns the exit status, 2 for parameters that are not right."""
    # As JSON, so that a name like 1.0 stays a text. First, so that a parameter that is given after it holds.
    profile = ["--ros-args", "-p", f"profile:={json.dumps(str(options.profile.resolve()))}"] if options.profile else []
    return segmentation([*profile, *options.ros_arguments])
