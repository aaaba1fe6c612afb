"""``seg_node params``: what a node's parameters are, and other values for them."""

import argparse

import yaml

from seg_node.commands.options import full_name, join_graph
from seg_node.core.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("node", metavar="NODE", type=full_name, help="full name, such as /segmentation")
    parser.add_argument("name", nargs="?", metavar="NAME", help="parameter to print (default: all)")
    parser.add_argument("value", nargs="?", metavar="VALUE", help="value to set, as YAML")


def run(options: argparse.Namespace) -> int:
    """Print parameters as YAML, after setting one where a value is given; returns the exit status, 2 if refused."""
    with join_graph() as graph:
        if options.value is not None:
            graph.set_parameter(options.node, options.name, options.value)
        values = graph.parameters(options.node)
    if options.name:
        if options.name not in values:
            raise UserError(f"{options.node} has no parameter {options.name}; it has {', '.join(values)}")
        values = {options.name: values[options.name]}
    print(yaml.safe_dump(values, sort_keys=False, default_flow_style=None), end="")
    return 0
