"""``seg_node projection``: the node that projects masks into a cloud of points and a grid of the ground."""

import argparse

from seg_node.commands.options import add_ros_arguments
from seg_node.ros.entry import projection


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_ros_arguments(parser, "-r camera_info:=/camera/camera_info -p camera_height:=1.4")


def run(options: argparse.Namespace) -> int:
    """Run the node until it is interrupted; returns the exit status, 2 for parameters that are not right."""
    return projection(options.ros_arguments)
