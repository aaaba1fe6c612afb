"""``seg_node overlay``: the node that draws masks over camera images."""

import argparse

from seg_node.commands.options import add_ros_arguments
from seg_node.ros.entry import overlay


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_ros_arguments(parser, "-r image:=/camera/image -p image_transport:=raw")


def run(options: argparse.Namespace) -> int:
    """Run the node until it is interrupted; returns the exit status, 2 for parameters that are not right."""
    return overlay(options.ros_arguments)
