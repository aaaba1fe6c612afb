"""Command line of seg_node: ``seg_node COMMAND --help``, or ``python -m seg_node COMMAND --help``."""

import argparse
import importlib
import sys

from seg_node.ros import entry

COMMANDS = {
    "replay": ("seg_node.commands.replay", "play a drive through the real node and report timing, drops and masks"),
    "compare": ("seg_node.commands.compare", "decide between two models by replaying a drive through both"),
    "label": ("seg_node.commands.label", "write recorded drives again with masks as lossless topics"),
    "shadow": ("seg_node.commands.shadow", "run two models on one live topic and publish how they agree"),
    "serve": ("seg_node.commands.serve", "answer HTTP requests with masks of images and videos"),
    "dashboard": ("seg_node.commands.dashboard", "show masks, training runs and comparisons in a browser"),
    "view": ("seg_node.commands.view", "show a node at work on a web page, without ROS tools"),
    "bag": ("seg_node.commands.bag", "make a bag from a video or from images, or show what a bag holds"),
}
"""Module and summary of each command; the module has ``add_arguments(parser)`` and ``run(options) -> int``."""

NODES = {"node": (entry.segmentation, "run the segmentation node"), "overlay": (entry.overlay, "run the overlay node")}
"""Function and summary of each node."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in NODES:
        # The rest belongs to ROS, whose arguments argparse does not know.
        return NODES[arguments[0]][0](arguments[1:])
    parser = argparse.ArgumentParser(prog="seg_node", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, summary) in NODES.items():
        commands.add_parser(name, help=f"{summary}; takes --ros-args", add_help=False)
    chosen = arguments[0] if arguments and arguments[0] in COMMANDS else None
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name == chosen:
            # Only the command that runs is imported: the others may need more than is installed.
            importlib.import_module(module).add_arguments(command)
    options = parser.parse_args(arguments)
    return importlib.import_module(COMMANDS[options.command][0]).run(options)


if __name__ == "__main__":
    sys.exit(main())
