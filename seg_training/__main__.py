"""Command line of the training package: ``python -m seg_training COMMAND --help``."""

import argparse
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m seg_training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("train", help="train a network, or resume a run that was stopped")
    command.add_argument("config", help="YAML file, see config/training/")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="override any value of the file")
    options = parser.parse_args(arguments)

    from seg_training.config import load_config
    from seg_training.train import train

    try:
        folder = train(load_config(options.config, options.overrides))
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"trained: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
