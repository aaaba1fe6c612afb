"""``python -m seg_training inspect``: look at the data of a configuration."""

import argparse
from pathlib import Path

from seg_node.core.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("config", type=Path, help="YAML file, see config/training/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override any value of the file")
    parser.add_argument("--out", type=Path, default=Path("inspection"), help="folder to write to (%(default)s)")
    parser.add_argument(
        "--samples", type=int, default=300, help="images of each data set that are counted (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Inspect; returns the exit status."""
    if options.samples < 1:
        raise UserError(f"--samples is {options.samples}; expected at least 1")
    from seg_training.config import load_config
    from seg_training.inspect import inspect_data

    inspect_data(load_config(options.config, options.overrides), options.samples, options.out)
    return 0
