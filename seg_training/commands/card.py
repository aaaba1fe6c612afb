"""``python -m seg_training card``: write the model card of a bundle from its manifest."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bundle", nargs="+", help="name of a shipped bundle, or a folder")


def run(options: argparse.Namespace) -> int:
    """Write the card of each bundle into its folder; returns the exit status."""
    from seg_node.core.bundle import load_bundle
    from seg_training.model_card import CARD, model_card

    for name in options.bundle:
        bundle = load_bundle(name)
        file = bundle.path / CARD
        file.write_text(model_card(bundle.manifest))
        print(f"written: {file}")
    return 0
