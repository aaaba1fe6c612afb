"""``seg_node lifecycle``: in which state a node is, and into which it shall go."""

import argparse

from seg_node.commands.options import full_name, join_graph

TRANSITIONS = ("configure", "activate", "deactivate", "cleanup", "shutdown")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("node", metavar="NODE", type=full_name, help="full name, such as /segmentation")
    parser.add_argument("transition", nargs="?", choices=TRANSITIONS, help="what it shall do (default: tell its state)")


def run(options: argparse.Namespace) -> int:
    """Print the state, after the transition where one is asked for; returns the exit status, 1 where that failed."""
    with join_graph() as graph:
        if options.transition:
            print(graph.change_state(options.node, options.transition))
        else:
            print(graph.state(options.node))
    return 0
