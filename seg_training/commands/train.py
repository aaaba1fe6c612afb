"""``python -m seg_training train``: train a network, or resume a run that was stopped."""

import argparse
import os
from pathlib import Path

TRIAL = {"steps": 4, "batch_size": 2, "accumulate": 1}
"""Values of a first pass that shows whether everything fits together."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options."""
    command.add_argument("config", type=Path, help="YAML file, see config/training/")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="override any value of the file")
    command.add_argument(
        "--trial",
        action="store_true",
        help=f"only {TRIAL['steps']} steps of {TRIAL['batch_size']} images, to see that everything fits together; in a"
        " folder of its own, NAME_trial",
    )


def run(options: argparse.Namespace) -> int:
    """Train; returns the exit status."""
    from seg_training.config import load_config
    from seg_training.export import export_run
    from seg_training.tracking import keep_bundle
    from seg_training.train import train

    overrides = list(options.overrides)
    if options.trial:
        trial = load_config(options.config, overrides)
        overrides = [*(f"{key}={value}" for key, value in TRIAL.items()), *overrides, f"name={trial.name}_trial"]
    config = load_config(options.config, overrides)
    folder = train(config)
    # A launcher starts one process for each device, and numbers them so.
    if os.environ.get("RANK", "0") == "0":
        if config.mlflow:
            keep_bundle(folder, export_run(folder, folder / "bundle").path)
        print(f"trained: {folder}")
    return 0
