"""Command line of the training package: ``python -m seg_training COMMAND --help``."""

import argparse
import importlib
import sys

from seg_node.core.errors import UserError, exit_status

COMMANDS = {
    "inspect": ("seg_training.commands.inspect", "look at the data of a configuration: shares, samples, augmentation"),
    "train": ("seg_training.commands.train", "train a network, or resume a run that was stopped"),
    "export": ("seg_training.commands.export", "make a bundle of a finished run, or another one of a bundle"),
    "card": ("seg_training.commands.card", "write the model card of a bundle from its manifest"),
    "evaluate": ("seg_training.commands.evaluate", "score a bundle: IoU, F1, borders, calibration, with intervals"),
    "reproduce": ("seg_training.commands.reproduce", "train the recipe of a bundle again"),
    "study": ("seg_training.commands.study", "train a grid of variants and seeds, and compare them"),
    "synthetic-bag": ("seg_training.commands.synthetic_bag", "write a made-up drive with exact masks as a bag"),
}
"""Module and summary of each command; the module has ``add_arguments(parser)`` and ``run(options) -> int``.

Only ``run`` imports torch: nobody waits for it to read how a command is called.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status, see ``seg_node.core.errors``."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m seg_training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if arguments[:1] == [name]:
            # Only the command that runs is imported.
            importlib.import_module(module).add_arguments(command)
    options, rest = parser.parse_known_args(arguments)
    if rest:
        # argparse leaves positional arguments behind options over: in `study loss --out there steps=10` the last one.
        if not hasattr(options, "overrides") or any(text.startswith("-") for text in rest):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        options.overrides = [*options.overrides, *rest]
    command = importlib.import_module(COMMANDS[options.command][0])
    return exit_status(lambda: _run(command.run, options), "interrupted; the same command goes on from here")


def _run(run, options: argparse.Namespace) -> int:
    try:
        return run(options)
    except (ValueError, RuntimeError) as error:
        # Data sets, losses and torch itself refuse with these.
        raise UserError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
