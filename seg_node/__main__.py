"""Command line of seg_node: ``seg_node COMMAND --help``, or ``python -m seg_node COMMAND --help``."""

import argparse
import importlib
import signal
import sys
from pathlib import Path

from seg_node.core.errors import exit_status

COMMANDS = {
    "node": ("seg_node.commands.node", "run the segmentation node"),
    "overlay": ("seg_node.commands.overlay", "run the node that draws masks over camera images"),
    "projection": ("seg_node.commands.projection", "run the node that turns masks into a cloud of points and a grid"),
    "topics": ("seg_node.commands.topics", "list topics, and show who is at the ends of one or what it says"),
    "params": ("seg_node.commands.params", "show the parameters of a running node, or set one"),
    "lifecycle": ("seg_node.commands.lifecycle", "show the lifecycle state of a running node, or change it"),
    "demo": (
        "seg_node.commands.replay",
        "play the shipped drive through the real node: replay by the name of `make demo`",
    ),
    "replay": ("seg_node.commands.replay", "play a drive through the real node and report timing, drops and masks"),
    "compare": ("seg_node.commands.compare", "decide between two models by replaying a drive through both"),
    "tune": ("seg_node.commands.tune", "find the settings that are best on this machine, for the node's profile"),
    "profile": ("seg_node.commands.profile", "show what a profile of `seg_node tune` says, and whether it holds here"),
    "label": ("seg_node.commands.label", "write recorded drives again with masks as lossless topics"),
    "shadow": ("seg_node.commands.shadow", "run two models on one live topic and publish how they agree"),
    "serve": ("seg_node.commands.serve", "answer HTTP requests with masks of images and videos"),
    "dashboard": ("seg_node.commands.dashboard", "show masks, training runs and comparisons in a browser"),
    "view": ("seg_node.commands.view", "show a node at work on a web page, without ROS tools"),
    "import": ("seg_node.commands.import_network", "make a bundle of an ONNX network that was trained elsewhere"),
    "bag": ("seg_node.commands.bag", "make a bag from a video or images, write one again, or show what it holds"),
}
"""Module and summary of each command.

The module has ``add_arguments(parser)``, ``run(options) -> int`` and, where Ctrl-C needs more than a word, the text
``INTERRUPTED``.
"""

NODES = ("node", "overlay")
"""Commands that have nothing to tidy up, and nothing to say, when they are interrupted while they start."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: command and options; those of this process by default.

    Returns:
        The exit status; see ``seg_node.core.errors`` for that of errors.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    chosen = arguments[0] if arguments and arguments[0] in COMMANDS else None
    if chosen not in NODES:
        return _run(arguments, chosen)
    # The default of the system: an interrupt in the middle of an import is no exception of some library then.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return _run(arguments, chosen)
    finally:
        signal.signal(signal.SIGINT, before)


def _run(arguments: list[str], chosen: str | None) -> int:
    parser = argparse.ArgumentParser(prog="seg_node", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == chosen:
            # Only the command that runs is imported: the others may need more than is installed.
            importlib.import_module(module).add_arguments(command)
    options = parser.parse_args(arguments)
    command = importlib.import_module(COMMANDS[options.command][0])
    return exit_status(lambda: command.run(options), getattr(command, "INTERRUPTED", "interrupted"))


def executable() -> int:
    """Run the command that this process is named after: the executables of the ROS package, ``lib/seg_node/NAME``."""
    name = Path(sys.argv[0]).stem
    return main(["node" if name == "segmentation" else name, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
