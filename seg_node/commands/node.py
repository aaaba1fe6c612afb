"""``seg_node node``: the segmentation node."""

import argparse

from seg_node.commands.options import add_ros_arguments
from seg_node.ros.entry import segmentation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_ros_arguments(parser, "-r image:=/camera/image -p model:=fpn_resnet50 -p autostart:=true")


def run(options: argparse.Namespace) -> int:
    """Run the node until it is interrupted; returns the exit status, 2 for parameters that are not right."""
    return segmentation(options.ros_arguments)
