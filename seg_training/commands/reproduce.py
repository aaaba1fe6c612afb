"""``python -m seg_training reproduce``: train the recipe of a bundle again."""

import argparse
from pathlib import Path


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options."""
    command.add_argument("bundle", help="name of a shipped bundle, or a folder")
    command.add_argument(
        "--root",
        action="append",
        default=[],
        metavar="KIND=FOLDER",
        help="where a kind of data lies: camvid=/data/camvid",
    )
    command.add_argument("--runs", type=Path, default=Path("reproduced"), help="folder of the runs and the new bundle")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="override a value of every recipe")


def run(options: argparse.Namespace) -> int:
    """Reproduce; returns the exit status."""
    from seg_node.core.bundle import load_bundle
    from seg_training.provenance import parse_roots
    from seg_training.reproduce import differences, reproduce

    bundle = load_bundle(options.bundle)
    for line in differences(bundle):
        print(f"differs: {line}")
    made = reproduce(bundle, parse_roots(options.root), options.runs, options.overrides)
    same = made.manifest.files == bundle.manifest.files
    print(f"exported: {made.path}, {'equal to' if same else 'not equal to'} {bundle.path} bit by bit")
    return 0
